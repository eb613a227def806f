//! The migration that recomputes the keys of names: what it writes, and when it fails.

use std::process::Output;

use group_service::{
    domain::{Name, UserId},
    pb,
};
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{ChangesWhenNfkcCasefolded, GeneralCategory},
};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, Value,
    sea_query::{Alias, Expr, ExprTrait, Order, Query},
};
use sha2::{Digest, Sha256};

use crate::{
    harness::{Database, Process, SERVER_URL_VARIABLE, expect_error},
    schema::start_on,
    settings::output,
};

/// More users than the migration reads at once.
const USERS: i64 = 1100;

/// The digest that is stored as the unique key.
fn digest(folded: &str) -> Vec<u8> {
    Sha256::digest(folded).to_vec()
}

async fn migrate(database: &Database, step: &str) -> Output {
    output(&["migrate", step, "--database-url", database.url()], &[]).await
}

/// Changes a name directly in the database, as a version before the migration would have done.
async fn rename(db: &DatabaseConnection, table: &str, column: &str, from: &str, to: &str) {
    let (before, after) = (digest(&from.to_lowercase()), to.to_lowercase());
    let key = Alias::new(format!("{column}_key"));
    let update = Query::update()
        .table(Alias::new(table))
        .value(Alias::new(column), to)
        .value(key.clone(), digest(&after))
        .value("search_text", after)
        .and_where(Expr::col(key).eq(before))
        .to_owned();
    let done = db.execute(&update).await.expect("renamed");
    assert_eq!(done.rows_affected(), 1, "{from} in {table}");
}

/// All names with their keys and search texts, by id.
async fn keys(
    db: &DatabaseConnection,
    table: &str,
    column: &str,
) -> Vec<(String, Vec<u8>, String)> {
    let select = Query::select()
        .columns([column, &format!("{column}_key"), "search_text"].map(Alias::new))
        .from(Alias::new(table))
        .order_by("id", Order::Asc)
        .to_owned();
    let rows = db.query_all(&select).await.expect("selected");
    let text = |row: &sea_orm::QueryResult, index| row.try_get_by_index(index).expect("text");
    rows.iter()
        .map(|row| {
            let key = row.try_get_by_index(1).expect("bytes");
            (text(row, 0), key, text(row, 2))
        })
        .collect()
}

/// Creates a database with the schema before the migration, with two groups, roles and users each, named `first`
/// and `second`.
async fn old_schema() -> (Database, DatabaseConnection) {
    let database = Database::create().await;
    let server = Process::start(database.url()).await;
    let (mut groups, mut roles, mut users) = server.clients().await;
    for name in ["first", "second"] {
        let request = pb::CreateRoleRequest {
            name: name.into(),
            ..Default::default()
        };
        let role = roles.create_role(request).await.expect("created");
        let role = role.into_inner().role.expect("a role").id;
        let request = crate::group::create(name, &[&role]);
        groups.create_group(request).await.expect("created");
        let request = pb::CreateUserRequest {
            username: name.into(),
            ..Default::default()
        };
        users.create_user(request).await.expect("created");
    }
    server.stop().await;
    assert!(migrate(&database, "down").await.status.success());
    let db = database.connect().await;
    // The search text of a user consists of username, first name and last name, one per line.
    let user = Query::update()
        .table("users")
        .value("search_text", Expr::col("username"))
        .to_owned();
    db.execute(&user).await.expect("updated");
    (database, db)
}

const NAMED: [(&str, &str); 3] = [
    ("groups", "title"),
    ("roles", "name"),
    ("users", "username"),
];

#[tokio::test]
async fn migration_reports_colliding_names_without_changes() {
    let (database, db) = old_schema().await;
    for (table, column) in NAMED {
        rename(&db, table, column, "first", "Ops").await;
        rename(&db, table, column, "second", "O\u{ad}ps\u{200b}").await;
    }
    let mut unchanged = Vec::new();
    for (table, column) in NAMED {
        unchanged.push(keys(&db, table, column).await);
    }
    for refused in [
        migrate(&database, "up").await,
        start_on(database.url()).await,
    ] {
        assert_eq!(refused.status.code(), Some(2));
        let complaint = String::from_utf8_lossy(&refused.stderr);
        for (table, _) in NAMED {
            let (_, reported) = complaint
                .split_once(&format!("{table} \"Ops\" ("))
                .unwrap_or_else(|| panic!("{table}: {complaint}"));
            let (id, reported) = reported.split_once(") and ").expect("an id");
            assert_eq!(id.len(), 36);
            assert!(
                reported.starts_with("\"O\\u{ad}ps\\u{200b}\" ("),
                "{complaint}"
            );
        }
        assert!(complaint.contains("nothing was changed"), "{complaint}");
        assert!(
            complaint.contains("rename or delete one of each"),
            "{complaint}"
        );
        let errors = complaint.lines().filter(|line| line.starts_with("error: "));
        assert_eq!(errors.count(), 1, "{complaint}");
    }
    let status = migrate(&database, "status").await;
    let status = String::from_utf8(status.stdout).expect("text");
    assert!(status.ends_with("_text_keys  pending\n"), "{status}");
    for ((table, column), unchanged) in NAMED.into_iter().zip(unchanged) {
        assert_eq!(keys(&db, table, column).await, unchanged);
        rename(&db, table, column, "O\u{ad}ps\u{200b}", "Op\u{200d}s 2").await;
    }

    let server = Process::start(database.url()).await;
    let (mut groups, mut roles, mut users) = server.clients().await;
    for name in ["ops\u{2060}", "OPS 2"] {
        let request = crate::group::create(name, &[&crate::harness::unknown_id()]);
        assert_eq!(
            expect_error(groups.create_group(request).await).reason,
            "GROUP_TITLE_TAKEN"
        );
        let request = pb::CreateRoleRequest {
            name: name.into(),
            ..Default::default()
        };
        assert_eq!(
            expect_error(roles.create_role(request).await).reason,
            "ROLE_NAME_TAKEN"
        );
        let request = pb::CreateUserRequest {
            username: name.into(),
            ..Default::default()
        };
        assert_eq!(
            expect_error(users.create_user(request).await).reason,
            "USERNAME_TAKEN"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn migration_recomputes_keys_and_reverts() {
    let (database, db) = old_schema().await;
    rename(&db, "groups", "title", "first", "Café").await;
    rename(&db, "roles", "name", "first", "Søren\u{200b}").await;
    let mut rows = Vec::new();
    for number in 0..USERS {
        let username = format!("müller\u{ad}{number}");
        let name = Name::parse(&username).expect("a name");
        let sort = name.sort_key().as_bytes().to_vec();
        let values: [Value; 11] = [
            UserId::generate().uuid().into(),
            username.clone().into(),
            digest(&username).into(),
            sort.into(),
            format!("{username}\nzoë ").into(),
            "Zoë".into(),
            "".into(),
            1.into(),
            1_i64.into(),
            number.into(),
            number.into(),
        ];
        rows.push(values.map(Expr::val));
    }
    for rows in rows.chunks(100) {
        let mut insert = Query::insert();
        insert.into_table("users").columns([
            "id",
            "username",
            "username_key",
            "username_sort",
            "search_text",
            "first_name",
            "last_name",
            "status",
            "version",
            "created_at",
            "updated_at",
        ]);
        for row in rows {
            insert.values(row.clone()).expect("as many values");
        }
        db.execute(&insert).await.expect("inserted");
    }
    let mut unchanged = Vec::new();
    for (table, column) in NAMED {
        unchanged.push(keys(&db, table, column).await);
    }

    let server = Process::start(database.url()).await;
    let (mut groups, mut roles, mut users) = server.clients().await;
    let request = pb::ListGroupsRequest {
        query: "cafe".into(),
        ..Default::default()
    };
    let listed = groups.list_groups(request).await.expect("listed");
    assert_eq!(listed.into_inner().groups.len(), 1);
    let request = pb::ListRolesRequest {
        query: "soren".into(),
        ..Default::default()
    };
    let listed = roles.list_roles(request).await.expect("listed");
    assert_eq!(listed.into_inner().roles.len(), 1);
    let mut request = pb::ListUsersRequest {
        query: "zoe muller".into(),
        page_size: 1000,
        ..Default::default()
    };
    let listed = users.list_users(request.clone()).await.expect("listed");
    let listed = listed.into_inner();
    assert_eq!(listed.users.len(), 1000);
    request.page_token = listed.next_page_token;
    let listed = users.list_users(request).await.expect("listed");
    assert_eq!(listed.into_inner().users.len(), USERS as usize - 1000);
    for number in [0, 999, 1000, USERS - 1] {
        let request = pb::CreateUserRequest {
            username: format!("Müller{number}"),
            ..Default::default()
        };
        let reported = expect_error(users.create_user(request).await);
        assert_eq!(reported.reason, "USERNAME_TAKEN", "{number}");
    }
    server.stop().await;

    assert!(migrate(&database, "down").await.status.success());
    for ((table, column), unchanged) in NAMED.into_iter().zip(unchanged) {
        let mut keys = keys(&db, table, column).await;
        if table == "users" {
            // These two users were prepared without line breaks in their search texts.
            keys.drain(..2);
            assert_eq!(keys, unchanged[2..]);
        } else {
            assert_eq!(keys, unchanged);
        }
    }
}

#[tokio::test]
async fn existing_names_that_no_longer_validate_stay_readable() {
    let (database, db) = old_schema().await;
    let name = "a\u{202e}b\u{2028}c";
    for (table, column) in NAMED {
        rename(&db, table, column, "second", name).await;
    }
    for (column, before) in [
        ("group_title", "second"),
        ("role_name", "second"),
        ("username", "second"),
        ("after", "second"),
    ] {
        let update = Query::update()
            .table("changes")
            .value(Alias::new(column), name)
            .and_where(Expr::col(Alias::new(column)).eq(before))
            .to_owned();
        assert!(db.execute(&update).await.expect("updated").rows_affected() > 0);
    }
    let server = Process::start(database.url()).await;
    let (mut groups, mut roles, mut users) = server.clients().await;

    let listed = groups.list_groups(pb::ListGroupsRequest::default()).await;
    let listed = listed.expect("listed").into_inner().groups;
    let group = listed.iter().find(|group| group.title == name);
    let group = group.expect("it is listed");
    let first = listed.iter().find(|group| group.title == "first");
    let request = pb::UpdateGroupRequest {
        group_id: group.id.clone(),
        add_role_ids: vec![first.expect("it is listed").roles[0].id.clone()],
        ..Default::default()
    };
    let updated = groups.update_group(request).await.expect("updated");
    assert_eq!(updated.into_inner().group.expect("a group").title, name);

    let listed = roles.list_roles(pb::ListRolesRequest::default()).await;
    let listed = listed.expect("listed").into_inner().roles;
    let role = listed.iter().find(|role| role.name == name);
    let request = pb::UpdateRoleRequest {
        role_id: role.expect("it is listed").id.clone(),
        description: Some("described".into()),
        ..Default::default()
    };
    let updated = roles.update_role(request).await.expect("updated");
    assert_eq!(updated.into_inner().role.expect("a role").name, name);

    let listed = users.list_users(pb::ListUsersRequest::default()).await;
    let listed = listed.expect("listed").into_inner().users;
    let user = listed.iter().find(|user| user.username == name);
    let user_id = user.expect("it is listed").id.clone();
    let request = pb::UpdateUserRequest {
        user_id: user_id.clone(),
        first_name: Some("Ann".into()),
        ..Default::default()
    };
    let updated = users.update_user(request).await.expect("updated");
    assert_eq!(updated.into_inner().user.expect("a user").username, name);
    // The name can be changed, but not used again.
    let request = pb::UpdateUserRequest {
        user_id: user_id.clone(),
        username: Some(name.into()),
        ..Default::default()
    };
    assert_eq!(
        expect_error(users.update_user(request).await).fields(),
        ["username"]
    );
    let request = pb::UpdateUserRequest {
        user_id,
        username: Some("abc".into()),
        ..Default::default()
    };
    users.update_user(request).await.expect("updated");

    let mut changes = pb::change_service_client::ChangeServiceClient::new(server.connect().await);
    let listed = changes
        .list_changes(pb::ListChangesRequest::default())
        .await;
    let listed = format!("{:?}", listed.expect("listed").into_inner());
    assert!(
        listed.matches(&format!("{name:?}")).count() >= 6,
        "{listed}"
    );
    server.stop().await;
}

#[test]
fn folding_matches_unicode_data_and_is_stable() {
    if std::env::var_os(SERVER_URL_VARIABLE).is_some() {
        return;
    }
    let changes = CodePointSetData::new::<ChangesWhenNfkcCasefolded>();
    let assigned = CodePointMapData::<GeneralCategory>::new();
    for c in '\0'..=char::MAX {
        let plain = matches!(
            assigned.get(c),
            GeneralCategory::Unassigned | GeneralCategory::PrivateUse
        );
        if plain && !changes.contains(c) && !textkeys::is_default_ignorable(c) {
            continue;
        }
        let text = c.to_string();
        let folded = textkeys::casefold(&text);
        assert_eq!(folded != text, changes.contains(c), "{c:?}: {folded:?}");
        assert_eq!(textkeys::casefold(&folded), folded, "{c:?}");
        assert!(!folded.contains(textkeys::is_default_ignorable), "{c:?}");
        // Also in combination with other characters: everything that was found before is still found.
        let before = textkeys::compatibility_casefold(&format!("e{c}\u{301}"));
        let folded = textkeys::casefold(&before);
        assert_eq!(textkeys::casefold(&format!("e{c}\u{301}")), folded, "{c:?}");
        assert_eq!(textkeys::casefold(&folded), folded, "{c:?}");
        let search = textkeys::search_text(&format!("e{c}\u{301}"));
        assert_eq!(textkeys::search_text(&search), search, "{c:?}");
        assert_eq!(textkeys::search_text(&folded), search, "{c:?}");
    }
}
