//! The trigram indexes of SQLite: which rows can contain a text at all. The migration `large_directories` makes
//! them, with the triggers that keep them.

use std::cmp::Reverse;

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, Statement, Value,
    sea_query::{Alias, Expr, Query, SelectStatement},
};

use crate::{domain::SearchQuery, error::Result, store::search::Searched};

/// Of longer queries, so many trigrams are looked at, spread over it.
const LOOKED_AT: usize = 8;
/// And so many are looked up, the rarest: common ones cost more than they tell.
const LOOKED_UP: usize = 3;
/// How many rows that have a trigram are enough to tell how common it is.
const SAMPLE: usize = 400;

/// The ids of all rows that can contain all words of the query; none if they are too many, or if every word is too
/// short to tell.
pub(in crate::store) async fn candidates(
    db: &impl ConnectionTrait,
    searched: &Searched,
    query: &SearchQuery,
) -> Result<Option<SelectStatement>> {
    let mut trigrams = trigrams(query.words());
    if trigrams.is_empty() {
        return Ok(None);
    }
    let Searched { name, most } = searched;
    if trigrams.len() > LOOKED_UP {
        trigrams = rarest(db, name, trigrams).await?;
    }
    // One row and one value, however many they are: the list's statement is prepared once.
    let sql = format!(
        "SELECT count(*), json_group_array(rowid) FROM ({})",
        matching(name, most + 1)
    );
    let wanted = trigrams.join(" AND ");
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, [wanted.into()]);
    let Some(row) = db.query_one_raw(statement).await? else {
        return Ok(None);
    };
    let (count, numbers): (i64, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    if usize::try_from(count).is_ok_and(|count| count > *most) {
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

/// The rarest of these trigrams: the first rows that have one tell, by how many and how far apart they are.
async fn rarest(
    db: &impl ConnectionTrait,
    name: &str,
    trigrams: Vec<String>,
) -> Result<Vec<String>> {
    let sample = format!(
        "SELECT count(*), coalesce(max(rowid), 0) FROM ({})",
        matching(name, SAMPLE)
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
    sampled.truncate(LOOKED_UP);
    Ok(sampled.into_iter().map(|(_, trigram)| trigram).collect())
}

fn matching(name: &str, limit: usize) -> String {
    format!("SELECT rowid FROM {name}_trigrams WHERE {name}_trigrams MATCH ? LIMIT {limit}")
}

/// Some trigrams of the words, in quotes; none if all are shorter.
fn trigrams(words: &[String]) -> Vec<String> {
    let words: Vec<Vec<char>> = words.iter().map(|word| word.chars().collect()).collect();
    let all: Vec<_> = words.iter().flat_map(|word| word.windows(3)).collect();
    let step = all.len().div_ceil(LOOKED_AT).max(1);
    all.into_iter()
        .step_by(step)
        .map(|trigram| {
            let trigram: String = trigram.iter().collect();
            format!("\"{}\"", trigram.replace('"', "\"\""))
        })
        .collect()
}
