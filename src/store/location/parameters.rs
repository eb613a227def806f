//! The parameters of a database URL: a misspelt one must not be passed over, or TLS would be off without a word.

use std::collections::HashSet;

/// How many letters of a name may be wrong, of so many, for it to be taken for another.
const NEAR: usize = 3;

/// What PostgreSQL's driver reads.
pub(super) const POSTGRES: &[&str] = &[
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "ssl-mode",
    "ssl-root-cert",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "statement-cache-capacity",
];
/// What MariaDB's and MySQL's driver reads.
pub(super) const MYSQL: &[&str] = &[
    "ssl-mode",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "sslmode",
    "sslca",
    "sslcert",
    "sslkey",
    "socket",
    "charset",
    "collation",
    "timezone",
    "time-zone",
    "statement-cache-capacity",
];

/// Complains about a parameter that the driver doesn't read, or that is given twice: the last would count. What the URL has isn't repeated: it might be a part of a
/// password.
pub(super) fn check(parameters: &str, known: &[&str]) -> Result<(), String> {
    let parameters = parameters.strip_prefix('?').unwrap_or(parameters);
    let mut given = HashSet::new();
    for (index, parameter) in parameters.split('&').enumerate() {
        let (name, _) = parameter.split_once('=').unwrap_or((parameter, ""));
        // `options[name]=value` sets one option of the session.
        let name = match name.split_once('[') {
            Some(("options", rest)) if rest.ends_with(']') => "options",
            _ => name,
        };
        let number = index + 1;
        if parameter.is_empty() || known.contains(&name) {
            // Some may be written in two ways.
            let same = name.replace('-', "").replace("rootcert", "ca");
            if name != "options" && !name.is_empty() && !given.insert(same) {
                return Err(format!(
                    "parameter {number} of the database URL is given twice: `{name}`"
                ));
            }
            continue;
        }
        return Err(match nearest(name, known) {
            Some(near) => {
                format!("parameter {number} of the database URL isn't known: was `{near}` meant?")
            }
            None => format!(
                "parameter {number} of the database URL isn't known: there are {}",
                known.join(", ")
            ),
        });
    }
    Ok(())
}

fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // A long text takes long to compare, and resembles nothing.
    let name: String = name.chars().take(64).collect();
    let name = name.to_ascii_lowercase();
    let distances = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&name, known), *known));
    let (distance, near) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= name.len() / NEAR).then_some(near)
}
