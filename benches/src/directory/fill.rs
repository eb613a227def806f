//! Writes a directory directly into SQLite, which takes minutes; a million calls would take an hour.

use group_service::domain::{ChangeKind, Name, PersonName, SearchText};
use rusqlite::{Connection, Statement, params};
use sea_orm::Value;
use uuid::Uuid;

use super::{
    Directory, Kind, LARGEST_GROUP, ROLE_IN_EVERY_GROUP, RULES, created, denies, id, person,
    role_name, rule,
    schema::{derived, drop_indexes},
    title,
};

/// Step for iterating over memberships in shuffled order: a prime that doesn't divide their number.
const PERMUTATION_STRIDE: usize = 15_485_863;

/// An id as stored in SQLite.
pub(crate) fn sql_id(id: &Uuid) -> &[u8] {
    id.as_bytes()
}

/// The stored forms of a name: as entered, unique key, sort key, case-folded.
pub(crate) fn keys(text: &str) -> (Name, Vec<u8>, Vec<u8>, SearchText) {
    let name = Name::parse(text).expect("a name");
    let (key, sort) = (bytes(name.unique_key()), bytes(name.sort_key()));
    let folded = SearchText::name(&name);
    (name, key, sort, folded)
}

/// The bytes of a key, which are otherwise only accessible as a database value.
fn bytes(key: impl Into<Value>) -> Vec<u8> {
    match key.into() {
        Value::Bytes(Some(bytes)) => bytes,
        other => panic!("not bytes: {other:?}"),
    }
}

/// Creates the schema and fills it.
pub(super) fn fill(directory: &Directory) {
    let began = std::time::Instant::now();
    if let Some(parent) = directory.path.parent() {
        std::fs::create_dir_all(parent).expect("a directory");
    }
    for ending in ["db", "db-wal", "db-shm"] {
        // Left behind by an interrupted run.
        let _ = std::fs::remove_file(directory.path.with_extension(ending));
    }
    crate::server::migrate(&directory.path);
    let db = Connection::open(&directory.path).expect("opened");
    // Durability isn't needed: an interrupted file is created again.
    db.execute_batch(
        "PRAGMA journal_mode = DELETE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
         PRAGMA locking_mode = EXCLUSIVE; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -1000000;",
    )
    .expect("set");
    let indexes = drop_indexes(&db);
    db.execute_batch("BEGIN").expect("begun");
    let members = members(directory);
    roles(&db, directory);
    users(&db, directory);
    groups(&db, directory, &members);
    memberships(&db, &members);
    changes(&db, directory, &members);
    derived(&db);
    db.execute_batch("COMMIT").expect("committed");
    for index in indexes {
        db.execute_batch(&index).expect("indexed");
    }
    db.execute_batch("PRAGMA journal_mode = WAL").expect("set");
    if directory.size.changes > super::SMALL.changes {
        let seconds = began.elapsed().as_secs();
        eprintln!("{}: made in {seconds} s", directory.path.display());
    }
}

/// The memberships as sorted pairs of group and user.
pub(crate) fn members(directory: &Directory) -> Vec<(u32, u32)> {
    let size = directory.size;
    let pair = |group: u64, user: u64| (group as u32, user as u32);
    let mut members: Vec<_> = (0..size.users)
        .flat_map(|user| {
            directory
                .groups_of_user(user)
                .map(|group| pair(group, user))
        })
        .chain((0..size.users / 10).map(|user| pair(LARGEST_GROUP, user * 10 + 1)))
        .chain((0..size.groups / 10).map(|group| pair(group * 10 + 3, ROLE_IN_EVERY_GROUP)))
        .collect();
    members.sort_unstable();
    members.dedup();
    members
}

fn roles(db: &Connection, directory: &Directory) {
    let mut insert = prepare(
        db,
        "INSERT INTO roles (id, name, name_key, name_sort, search_text, description, group_count, \
         rule_count, version, created_at, updated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, '', ?6, ?7, 1, ?8, ?8)",
    );
    let mut insert_rule = prepare(
        db,
        "INSERT INTO role_rules (role_id, bundle, controller, action, effect) VALUES (?1, ?2, ?3, ?4, ?5)",
    );
    let mut groups = vec![0_u64; directory.roles() as usize];
    for group in 0..directory.size.groups {
        for role in directory.roles_of_group(group) {
            groups[role as usize] += 1;
        }
    }
    for (role, groups) in (0..).zip(groups) {
        let (name, key, sort, folded) = keys(&role_name(role));
        let id = id(Kind::Role, role);
        let id = sql_id(&id);
        let (name, folded) = (name.as_str(), folded.as_str());
        insert
            .execute(params![
                id,
                name,
                key,
                sort,
                folded,
                groups,
                RULES,
                created(role)
            ])
            .expect("inserted");
        for number in 0..RULES {
            let [bundle, controller, action] = rule(role, number);
            let effect = if denies(number) { 2 } else { 1 };
            insert_rule
                .execute(params![id, bundle, controller, action, effect])
                .expect("inserted");
        }
    }
}

fn users(db: &Connection, directory: &Directory) {
    let users = (0..directory.size.users).map(|user| {
        let [first, last, username] = person(user);
        let names = [username, first, last];
        (id(Kind::User, user), names, created(user))
    });
    insert_users(db, users);
}

/// Inserts users: the id of each, its username, first and last name, and when it was created.
fn insert_users(db: &Connection, users: impl Iterator<Item = (Uuid, [String; 3], i64)>) {
    let mut insert = prepare(
        db,
        "INSERT INTO users (id, username, username_key, username_sort, search_text, first_name, \
         last_name, status, version, created_at, updated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, 1, ?8, ?8)",
    );
    for (id, [username, first, last], created) in users {
        let (name, key, sort, _) = keys(&username);
        let words = |text: &str| PersonName::parse(text).expect("a name");
        let folded = SearchText::user(&name, &words(&first), &words(&last));
        let (id, folded) = (sql_id(&id), folded.as_str());
        insert
            .execute(params![
                id,
                name.as_str(),
                key,
                sort,
                folded,
                first,
                last,
                created
            ])
            .expect("inserted");
    }
}

/// Adds users with these usernames, first and last names.
pub(crate) fn add_users(path: &std::path::Path, users: impl Iterator<Item = [String; 3]>) {
    let db = Connection::open(path).expect("opened");
    db.execute_batch("BEGIN").expect("begun");
    insert_users(&db, users.map(|names| (Uuid::now_v7(), names, created(0))));
    db.execute_batch("COMMIT").expect("committed");
}

fn groups(db: &Connection, directory: &Directory, members: &[(u32, u32)]) {
    let mut insert = prepare(
        db,
        "INSERT INTO groups (id, title, title_key, title_sort, search_text, role_count, user_count, \
         version, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, 3, ?6, 1, ?7, ?7)",
    );
    let mut insert_role = prepare(
        db,
        "INSERT INTO group_roles (group_id, role_id) VALUES (?1, ?2)",
    );
    let mut users = vec![0_u64; directory.size.groups as usize];
    for (group, _) in members {
        users[*group as usize] += 1;
    }
    for (group, users) in (0..).zip(users) {
        let (title, key, sort, folded) = keys(&title(group));
        let own = id(Kind::Group, group);
        let own = sql_id(&own);
        insert
            .execute(params![
                own,
                title.as_str(),
                key,
                sort,
                folded.as_str(),
                users,
                created(group)
            ])
            .expect("inserted");
        for role in directory.roles_of_group(group) {
            insert_role
                .execute(params![own, sql_id(&id(Kind::Role, role))])
                .expect("inserted");
        }
    }
}

fn memberships(db: &Connection, members: &[(u32, u32)]) {
    let mut insert = prepare(
        db,
        "INSERT INTO group_users (group_id, user_id) VALUES (?1, ?2)",
    );
    for (group, user) in members {
        let (group, user) = (
            id(Kind::Group, (*group).into()),
            id(Kind::User, (*user).into()),
        );
        insert
            .execute(params![sql_id(&group), sql_id(&user)])
            .expect("inserted");
    }
}

/// Writes a history of users who were added and removed, one revision each.
fn changes(db: &Connection, directory: &Directory, members: &[(u32, u32)]) {
    let mut insert = prepare(
        db,
        "INSERT INTO changes (revision, ordinal, kind, time, actor, group_id, group_title, user_id, username) \
         VALUES (?1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    );
    let changes = directory.size.changes;
    for number in 0..changes {
        let place = (number as usize).wrapping_mul(PERMUTATION_STRIDE);
        let (group, user) = members[place % members.len()];
        let (group, user) = (u64::from(group), u64::from(user));
        let assigned = (number / members.len() as u64).is_multiple_of(2);
        let kind = if assigned {
            ChangeKind::UserAssigned
        } else {
            ChangeKind::UserUnassigned
        };
        let [.., username] = person(user);
        insert
            .execute(params![
                number + 1,
                kind.number(),
                created(number),
                format!("admin-{}", number % 100),
                sql_id(&id(Kind::Group, group)),
                title(group),
                sql_id(&id(Kind::User, user)),
                username,
            ])
            .expect("inserted");
    }
    db.execute("UPDATE directory SET revision = ?1", [changes])
        .expect("updated");
}

fn prepare<'a>(db: &'a Connection, sql: &str) -> Statement<'a> {
    db.prepare(sql).expect("prepared")
}
