//! The parameters of a database URL. A misspelled one is rejected: if it were ignored, TLS might be off unnoticed.

use std::collections::HashSet;

/// A name counts as a typo of a known one if at most one of this many letters is wrong.
const MAX_TYPO_RATIO: usize = 3;

/// The parameters that the PostgreSQL driver reads.
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
/// The parameters that the driver for MariaDB and MySQL reads.
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

/// Rejects a parameter that the driver doesn't read, and one that is given twice, of which only the last would count.
/// The message doesn't repeat an unknown name: it may be part of a password.
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
            // Some parameters have several spellings.
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
    // A long text takes long to compare, and can't be a typo of a known name.
    let name: String = name.chars().take(64).collect();
    let name = name.to_ascii_lowercase();
    let distances = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&name, known), *known));
    let (distance, near) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= name.len() / MAX_TYPO_RATIO).then_some(near)
}
