//! The raw loop: executes what `CreateGroup` with three roles writes, as prepared statements in one transaction
//! after the other, on a separate file, without a server.

use std::{
    io::BufRead,
    path::Path,
    time::{Duration, Instant},
};

use group_service::domain::ChangeKind;
use rusqlite::{CachedStatement, Connection, params};
use uuid::Uuid;

use crate::{
    child::ChildProcess,
    directory::{keys, sql_id},
};

/// The process of the loop, which runs on command.
#[derive(Debug)]
pub(crate) struct SqliteBaseline(ChildProcess);

impl SqliteBaseline {
    /// Starts the process on a directory; the groups get its first three roles.
    pub(crate) fn start(data: &Path, roles: &[String]) -> Self {
        let mut arguments = vec![data.to_str().expect("text")];
        arguments.extend(roles.iter().map(String::as_str));
        Self(ChildProcess::start("raw", &arguments, None))
    }

    /// Runs the loop for this duration; returns transactions per second.
    pub(crate) fn run(&mut self, time: Duration) -> f64 {
        self.0.send(format!("{}\n", time.as_millis()).as_bytes());
        let commits: f64 = self.0.line().parse().expect("a number");
        commits / time.as_secs_f64()
    }
}

/// Main function of the baseline process.
pub(crate) fn main(arguments: &[String]) {
    let db = Connection::open(&arguments[0]).expect("opened");
    // The same settings as in src/store/engine/sqlite.rs.
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 67108864;",
    )
    .expect("set");
    let roles: Vec<_> = arguments[1..]
        .iter()
        .map(|id| Uuid::parse_str(id).expect("an id"))
        .collect();
    let roles: [Uuid; 3] = roles.try_into().expect("three roles");
    let mut number = 0;
    for line in std::io::stdin().lock().lines() {
        let time = Duration::from_millis(line.expect("text").parse().expect("a number"));
        let (began, before) = (Instant::now(), number);
        while began.elapsed() < time {
            create(&db, number, &roles);
            number += 1;
        }
        println!("{}", number - before);
    }
}

/// The statements that the server executes.
fn create(db: &Connection, number: u64, roles: &[Uuid; 3]) {
    let run = |sql: &str| statement(db, sql).execute([]).expect("carried out");
    run("BEGIN IMMEDIATE");
    let revision: i64 = statement(
        db,
        "UPDATE directory SET revision = revision + 1, group_count = group_count + 1 RETURNING revision",
    )
    .query_row([], |row| row.get(0))
    .expect("a row");
    let (title, key, sort, folded) = keys(&format!("Late shift {number}"));
    let group = Uuid::now_v7();
    let now = micros();
    let insert = "INSERT INTO groups (id, title, title_key, title_sort, search_text, role_count, user_count, \
                  version, created_at, updated_at) VALUES (?, ?, ?, ?, ?, 3, 0, 1, ?, ?) RETURNING id";
    statement(db, insert)
        .query_row(
            params![
                sql_id(&group),
                title.as_str(),
                key,
                &sort,
                folded.as_str(),
                now,
                now
            ],
            |_| Ok(()),
        )
        .expect("a row");
    let [a, b, c] = [0, 1, 2].map(|place| sql_id(&roles[place]));
    let names: Vec<String> = statement(db, "SELECT * FROM roles WHERE id IN (?, ?, ?)")
        .query_map(params![a, b, c], |row| row.get("name"))
        .and_then(Iterator::collect)
        .expect("rows");
    let count = "UPDATE roles SET group_count = group_count + 1 WHERE id IN (?, ?, ?)";
    statement(db, count)
        .execute(params![a, b, c])
        .expect("updated");
    let group = sql_id(&group);
    statement(
        db,
        "INSERT INTO group_roles (group_id, role_id, title_sort, group_created_at) VALUES \
         (?1, ?2, ?5, ?6), (?1, ?3, ?5, ?6), (?1, ?4, ?5, ?6)",
    )
    .execute(params![group, a, b, c, sort, now])
    .expect("inserted");
    let created = ChangeKind::GroupCreated.number();
    let assigned = ChangeKind::RoleAssigned.number();
    let title = title.as_str();
    let record = "INSERT INTO changes (revision, ordinal, kind, time, actor, request_id, group_id, group_title, \
                  role_id, role_name, user_id, username, \"before\", \"after\") VALUES \
                  (?1, 0, ?2, ?4, '', NULL, ?5, ?6, NULL, NULL, NULL, NULL, NULL, ?6), \
                  (?1, 1, ?3, ?4, '', NULL, ?5, ?6, ?7, ?8, NULL, NULL, NULL, NULL), \
                  (?1, 2, ?3, ?4, '', NULL, ?5, ?6, ?9, ?10, NULL, NULL, NULL, NULL), \
                  (?1, 3, ?3, ?4, '', NULL, ?5, ?6, ?11, ?12, NULL, NULL, NULL, NULL)";
    statement(db, record)
        .execute(params![
            revision, created, assigned, now, group, title, a, names[0], b, names[1], c, names[2]
        ])
        .expect("inserted");
    run("COMMIT");
}

fn statement<'a>(db: &'a Connection, sql: &str) -> CachedStatement<'a> {
    db.prepare_cached(sql).expect("prepared")
}

fn micros() -> i64 {
    group_service::domain::Timestamp::now().micros()
}
