//! The trigram indexes of SQLite: which rows can contain a text at all. The migration `large_directories` makes
//! them, with the triggers that keep them.

use sea_orm::{
    ConnectionTrait, DbBackend, Statement,
    sea_query::{Alias, Expr, Query, SelectStatement},
};

use crate::{domain::Folded, error::Result, store::search::Searched};

/// A longer query is looked up by this many of its trigrams, spread over it: the common ones among them cost, the
/// others make sure.
const MOST_TRIGRAMS: usize = 8;

/// The ids of all rows that can contain the query; none if they are too many, or if it is too short to tell.
pub(in crate::store) async fn candidates(
    db: &impl ConnectionTrait,
    searched: &Searched,
    query: &Folded,
) -> Result<Option<SelectStatement>> {
    let Some(wanted) = trigrams(query.as_str()) else {
        return Ok(None);
    };
    let Searched { name, most } = searched;
    let sql = format!(
        "SELECT rowid FROM {name}_trigrams WHERE {name}_trigrams MATCH ? LIMIT {}",
        most + 1
    );
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, [wanted.into()]);
    let rows = db.query_all_raw(statement).await?;
    if rows.len() > *most {
        return Ok(None);
    }
    let numbers: Vec<String> = rows
        .iter()
        .map(|row| {
            row.try_get_by_index::<i64>(0)
                .map(|number| number.to_string())
        })
        .collect::<Result<_, _>>()?;
    // One value, however many they are, so that the statement is prepared once.
    let numbers = format!("[{}]", numbers.join(","));
    let among = Expr::cust_with_values("number IN (SELECT value FROM json_each(?))", [numbers]);
    Ok(Some(
        Query::select()
            .column(Alias::new("id"))
            .from(Alias::new(format!("{name}_search")))
            .and_where(among)
            .to_owned(),
    ))
}

/// What a row that contains the text matches; none if the text has no trigram.
fn trigrams(text: &str) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let all = chars.windows(3);
    let step = all.len().div_ceil(MOST_TRIGRAMS).max(1);
    let quoted: Vec<String> = all
        .step_by(step)
        .map(|trigram| {
            let trigram: String = trigram.iter().collect();
            format!("\"{}\"", trigram.replace('"', "\"\""))
        })
        .collect();
    (!quoted.is_empty()).then(|| quoted.join(" AND "))
}
