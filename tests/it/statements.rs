//! The number of SQL statements per call is constant: it doesn't depend on the amount of data.

use group_service::pb;
use sea_orm::DbBackend;

use crate::{
    group::create,
    harness::{TestServer, engine},
    member::{assign_all, unassign_all},
};

#[tokio::test]
async fn statement_count_is_independent_of_data_size() {
    let mut w = TestServer::without_cache().await;
    let roles = w.many_roles("role", 100).await;
    let users = w.many_users("user", 1001).await;
    let roles: Vec<_> = roles.iter().map(String::as_str).collect();

    let mut created = Vec::new();
    let mut statements = Vec::new();
    for (title, roles) in [("small", &roles[..1]), ("large", &roles[..])] {
        let trace = w.traced();
        created.push(w.group(title, roles).await.id);
        statements.push(trace.statements().await);
    }
    assert_same(
        "CreateGroup with 1 and with 100 roles",
        &statements,
        expected_statements(3, 3),
    );

    statements.clear();
    for id in &created {
        let trace = w.traced();
        w.get_group(id).await;
        statements.push(trace.statements().await);
    }
    assert_same("GetGroup with 1 and with 100 roles", &statements, 1);

    statements.clear();
    for id in &created {
        let trace = w.traced();
        let request = pb::ListRolesInGroupRequest {
            group_id: id.clone(),
            page_size: 1000,
            ..Default::default()
        };
        w.groups.list_roles_in_group(request).await.expect("listed");
        statements.push(trace.statements().await);
    }
    assert_same("ListRolesInGroup of 1 and of 100", &statements, 2);

    statements.clear();
    for batch in [&users[..1], &users[1..]] {
        let trace = w.traced();
        let response = w
            .groups
            .batch_assign_users(assign_all(&created[0], batch))
            .await;
        assert_eq!(
            response.expect("assigned").into_inner().assigned_count as usize,
            batch.len()
        );
        statements.push(trace.statements().await);
    }
    assert_same(
        "BatchAssignUsers of 1 and of 1,000",
        &statements,
        expected_statements(3, 2),
    );

    statements.clear();
    for page_size in [10, 1000] {
        let trace = w.traced();
        let request = pb::ListUsersInGroupRequest {
            page_size,
            ..crate::member::users_in(&created[0])
        };
        let page = w
            .groups
            .list_users_in_group(request)
            .await
            .expect("listed")
            .into_inner();
        assert_eq!(page.users.len(), page_size as usize);
        statements.push(trace.statements().await);
    }
    assert_same("ListUsersInGroup of 10 and of 1,000", &statements, 2);

    statements.clear();
    for batch in [&users[..1], &users[1..]] {
        let trace = w.traced();
        w.groups
            .batch_unassign_users(unassign_all(&created[0], batch))
            .await
            .expect("unassigned");
        statements.push(trace.statements().await);
    }
    assert_same(
        "BatchUnassignUsers of 1 and of 1,000",
        &statements,
        expected_statements(3, 2),
    );

    statements.clear();
    w.trace(None);
    for number in 0..998 {
        w.groups
            .create_group(create(&format!("g {number}"), &roles[..2]))
            .await
            .expect("created");
    }
    for page_size in [10, 1000] {
        let trace = w.traced();
        let request = pb::ListGroupsRequest {
            page_size,
            with_total_size: true,
            ..Default::default()
        };
        let page = w
            .groups
            .list_groups(request)
            .await
            .expect("listed")
            .into_inner();
        assert_eq!(page.groups.len(), page_size as usize);
        statements.push(trace.statements().await);
    }
    assert_same("ListGroups of 10 and of 1,000, counted", &statements, 4);

    statements.clear();
    w.trace(None);
    let small = w.group("update me", &roles[..1]).await.id;
    for add in [&roles[1..2], &roles[2..]] {
        let trace = w.traced();
        let request = pb::UpdateGroupRequest {
            group_id: small.clone(),
            add_role_ids: add.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        w.groups.update_group(request).await.expect("updated");
        statements.push(trace.statements().await);
    }
    assert_same(
        "UpdateGroup adding 1 and 98 roles",
        &statements,
        expected_statements(5, 3),
    );
}

#[tokio::test]
async fn access_statement_count_is_independent_of_user_count() {
    let mut w = TestServer::without_cache().await;
    let request = pb::CreateRoleRequest {
        name: "Viewer".into(),
        rules: vec![crate::access::allow("shop", "*", "view")],
        ..Default::default()
    };
    let role = w.roles.create_role(request).await.expect("created");
    let role = role.into_inner().role.expect("a role").id;
    let group = w.group("Viewers", &[&role]).await.id;
    let users = w.many_users("user", 200).await;
    let request = assign_all(&group, &users);
    w.groups
        .batch_assign_users(request)
        .await
        .expect("assigned");

    let mut statements = Vec::new();
    for page_size in [1, 200] {
        let trace = w.traced();
        let request = pb::ListUsersWithAccessRequest {
            bundle: "shop".into(),
            controller: "order".into(),
            action: "view".into(),
            page_size,
            ..Default::default()
        };
        let page = w.access.list_users_with_access(request).await;
        let page = page.expect("listed").into_inner();
        assert_eq!(page.users.len(), page_size as usize);
        statements.push(trace.statements().await);
    }
    assert_same("ListUsersWithAccess of 1 and of 200", &statements, 6);

    statements.clear();
    for asked in [&users[..1], &users] {
        let trace = w.traced();
        let questions = asked.iter().map(|user| pb::Question {
            user_id: user.clone(),
            bundle: "shop".into(),
            controller: "order".into(),
            action: "view".into(),
        });
        let request = pb::BatchCheckAccessRequest {
            questions: questions.collect(),
            ..Default::default()
        };
        w.access.batch_check_access(request).await.expect("decided");
        statements.push(trace.statements().await);
    }
    assert_same(
        "BatchCheckAccess about 1 and about 200 users",
        &statements,
        5,
    );
}

fn assert_same(what: &str, statements: &[usize], expected: usize) {
    assert_eq!(statements, [expected; 2], "{what}");
}

/// The expected number of statements: `others`, and `writes`, which SQLite and PostgreSQL combine into one.
fn expected_statements(others: usize, writes: usize) -> usize {
    match engine() {
        DbBackend::MySql => others + writes,
        _ => others + 1,
    }
}
