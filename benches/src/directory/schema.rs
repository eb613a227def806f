//! Derived columns and indexes of the schema.

use rusqlite::Connection;

/// Fills derived columns, if the schema has them, in the same way as their migrations do for existing rows.
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

/// Drops the indexes; returns their definitions. Creating an index after inserting is faster than maintaining it.
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
