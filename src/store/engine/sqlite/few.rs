//! Users that are few: then they are looked up and sorted, instead of walking along all of them in the order of the
//! list, which SQLite would do.

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, Statement,
    sea_query::{Expr, Query, SelectStatement, SqliteQueryBuilder},
};

use crate::{domain::Revision, store::page::revision};

/// With more than these walking is expected to be faster: about where looking them up costs as much as passing over
/// what lies between a page of them.
const MOST: u64 = 4000;

/// Whether a user is one of those that `users` selects, by name, and the revision that this is right for; nothing if
/// they are too many.
pub(in crate::store) async fn few_users(
    db: &impl ConnectionTrait,
    mut users: SelectStatement,
) -> Result<Option<(Expr, Revision)>, DbErr> {
    let (sql, values) = users.distinct().limit(MOST + 1).build(SqliteQueryBuilder);
    let (present, _) = Query::select().expr(revision()).build(SqliteQueryBuilder);
    // One row, however many they are: the list's statement is prepared once.
    let sql = format!("SELECT count(*), json_group_array(hex(user_id)), ({present}) FROM ({sql})");
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
    let Some(row) = db.query_one_raw(statement).await? else {
        return Ok(None);
    };
    let (count, ids): (i64, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    if u64::try_from(count).is_ok_and(|count| count > MOST) {
        return Ok(None);
    }
    let among = r#""users"."id" IN (SELECT unhex(value) FROM json_each(?))"#;
    let revision = Revision::parse(row.try_get_by_index(2)?).map_err(DbErr::Type)?;
    Ok(Some((Expr::cust_with_values(among, [ids]), revision)))
}
