//! What of the schema has to be known to fill it, beside the rows.

use rusqlite::Connection;

/// Fills the columns that follow from others, where the schema has them, as their migration did with rows that
/// were there.
pub(super) fn derived(db: &Connection) {
    let columns = [
        ("directory", "group_count", "(SELECT count(*) FROM groups)"),
        (
            "directory",
            "latest_time",
            "(SELECT coalesce(max(time), 0) FROM changes)",
        ),
        (
            "group_roles",
            "title_sort",
            "(SELECT g.title_sort FROM groups g WHERE g.id = group_id)",
        ),
        (
            "group_roles",
            "group_created_at",
            "(SELECT g.created_at FROM groups g WHERE g.id = group_id)",
        ),
        (
            "group_users",
            "title_sort",
            "(SELECT g.title_sort FROM groups g WHERE g.id = group_id)",
        ),
        (
            "group_users",
            "group_created_at",
            "(SELECT g.created_at FROM groups g WHERE g.id = group_id)",
        ),
        (
            "group_users",
            "username_sort",
            "(SELECT u.username_sort FROM users u WHERE u.id = user_id)",
        ),
    ];
    for (table, column, value) in columns {
        let sql = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
        let there: i64 = db
            .query_row(sql, [table, column], |row| row.get(0))
            .expect("counted");
        if there == 1 {
            db.execute(&format!("UPDATE {table} SET {column} = {value}"), [])
                .expect("updated");
        }
    }
}

/// Indexes are made faster from all rows than row by row.
pub(super) fn drop_indexes(db: &Connection) -> Vec<String> {
    let sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL";
    let mut select = db.prepare(sql).expect("prepared");
    let indexes: Vec<(String, String)> = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .expect("read");
    for (name, _) in &indexes {
        db.execute_batch(&format!("DROP INDEX {name}"))
            .expect("dropped");
    }
    indexes.into_iter().map(|(_, sql)| sql).collect()
}
