//! Candidates for a search from SQLite's trigram indexes. The migration `large_directories` creates these indexes, and
//! the triggers that maintain them.

use std::cmp::Reverse;

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, Statement, Value,
    sea_query::{Alias, Expr, Query, SelectStatement},
};

use crate::{domain::SearchQuery, error::Result, store::search::SearchTarget};

/// Maximum number of trigrams of a query that are considered, spread evenly over it.
const MAX_TRIGRAMS: usize = 8;
/// Maximum number of these, the rarest, that are looked up: common ones cost more than they exclude.
const MAX_LOOKUPS: usize = 3;
/// How many rows that have a trigram are sampled to estimate how common it is.
const SAMPLE_ROWS: usize = 400;

/// Selects the ids of all rows that may contain every word of the query; `None` if they are too many, or if every word
/// is shorter than a trigram.
pub(in crate::store) async fn candidates(
    db: &impl ConnectionTrait,
    searched: &SearchTarget,
    query: &SearchQuery,
) -> Result<Option<SelectStatement>> {
    let mut trigrams = trigrams(query.words());
    if trigrams.is_empty() {
        return Ok(None);
    }
    let SearchTarget {
        name,
        max_candidates,
    } = searched;
    if trigrams.len() > MAX_LOOKUPS {
        trigrams = rarest(db, name, trigrams).await?;
    }
    // All candidates are one value, however many they are, so that the list's statement is prepared only once.
    let sql = format!(
        "SELECT count(*), json_group_array(rowid) FROM ({})",
        matching(name, max_candidates + 1)
    );
    let wanted = trigrams.join(" AND ");
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, [wanted.into()]);
    let Some(row) = db.query_one_raw(statement).await? else {
        return Ok(None);
    };
    let (count, numbers): (i64, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    if usize::try_from(count).is_ok_and(|count| count > *max_candidates) {
        return Ok(None);
    }
    let among = Expr::cust_with_values("number IN (SELECT value FROM json_each(?))", [numbers]);
    Ok(Some(
        Query::select()
            .column(Alias::new("id"))
            .from(Alias::new(format!("{name}_search")))
            .and_where(among)
            .to_owned(),
    ))
}

/// The rarest of these trigrams, judged by the first rows that have each: how many they are, and how far apart.
async fn rarest(
    db: &impl ConnectionTrait,
    name: &str,
    trigrams: Vec<String>,
) -> Result<Vec<String>> {
    let sample = format!(
        "SELECT count(*), coalesce(max(rowid), 0) FROM ({})",
        matching(name, SAMPLE_ROWS)
    );
    let sql = vec![sample.as_str(); trigrams.len()].join(" UNION ALL ");
    let values = trigrams.iter().map(|trigram| Value::from(trigram.as_str()));
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
    let rows = db.query_all_raw(statement).await?;
    let samples = rows
        .iter()
        .map(|row| Ok((row.try_get_by_index(0)?, Reverse(row.try_get_by_index(1)?))))
        .collect::<Result<Vec<(i64, Reverse<i64>)>, DbErr>>()?;
    let mut sampled: Vec<_> = samples.into_iter().zip(trigrams).collect();
    sampled.sort();
    sampled.truncate(MAX_LOOKUPS);
    Ok(sampled.into_iter().map(|(_, trigram)| trigram).collect())
}

fn matching(name: &str, limit: usize) -> String {
    format!("SELECT rowid FROM {name}_trigrams WHERE {name}_trigrams MATCH ? LIMIT {limit}")
}

/// Some trigrams of the words, in quotes; empty if every word is shorter than a trigram.
fn trigrams(words: &[String]) -> Vec<String> {
    let words: Vec<Vec<char>> = words.iter().map(|word| word.chars().collect()).collect();
    let all: Vec<_> = words.iter().flat_map(|word| word.windows(3)).collect();
    let step = all.len().div_ceil(MAX_TRIGRAMS).max(1);
    all.into_iter()
        .step_by(step)
        .map(|trigram| {
            let trigram: String = trigram.iter().collect();
            format!("\"{}\"", trigram.replace('"', "\"\""))
        })
        .collect()
}
