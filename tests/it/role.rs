//! `RoleService`.

use group_service::pb;

use crate::{
    contract::{Failure, Success},
    harness::{expect_error, unknown_id},
};

pub(crate) fn successes() -> Vec<Success> {
    vec![
        Success {
            rpc: "CreateRole",
            run: |w| {
                Box::pin(async move {
                    let trace = w.traced();
                    let request = pb::CreateRoleRequest {
                        name: " Editor ".into(),
                        description: "Writes\n\tpages. ".into(),
                        ..Default::default()
                    };
                    let role = w
                        .roles
                        .create_role(request)
                        .await
                        .expect("created")
                        .into_inner();
                    let role = role.role.expect("a role");
                    assert_eq!(
                        (role.name.as_str(), role.description.as_str()),
                        ("Editor", "Writes\n\tpages.")
                    );
                    assert_eq!(role.group_count, 0);
                    assert_eq!(role.create_time, role.update_time);
                    w.trace(None);
                    assert_eq!(w.get_role(&role.id).await, role);
                    trace
                })
            },
        },
        Success {
            rpc: "GetRole",
            run: |w| {
                Box::pin(async move {
                    let role = w.role("Editor").await;
                    let trace = w.traced();
                    assert_eq!(w.get_role(&role.id).await, role);
                    trace
                })
            },
        },
        Success {
            rpc: "ListRoles",
            run: |w| {
                Box::pin(async move {
                    let (b, a) = (w.role("B side").await, w.role("A SIDE").await);
                    w.role("Other").await;
                    let trace = w.traced();
                    let request = pb::ListRolesRequest {
                        query: "side".into(),
                        ..Default::default()
                    };
                    let list = w
                        .roles
                        .list_roles(request)
                        .await
                        .expect("listed")
                        .into_inner();
                    assert_eq!(list.roles, [a, b]);
                    trace
                })
            },
        },
        Success {
            rpc: "UpdateRole",
            run: |w| {
                Box::pin(async move {
                    let before = w.role("Editor").await;
                    let trace = w.traced();
                    let request = pb::UpdateRoleRequest {
                        description: Some("Writes pages.".into()),
                        etag: before.etag.clone(),
                        ..update(&before.id)
                    };
                    let after = w
                        .roles
                        .update_role(request)
                        .await
                        .expect("updated")
                        .into_inner();
                    let after = after.role.expect("a role");
                    assert_eq!(
                        (after.name.as_str(), after.description.as_str()),
                        ("Editor", "Writes pages.")
                    );
                    assert_ne!(after.etag, before.etag);
                    w.trace(None);
                    assert_eq!(w.get_role(&before.id).await, after);
                    // The same update again changes nothing. An empty description is a valid value.
                    let request = pb::UpdateRoleRequest {
                        name: Some("Editor".into()),
                        ..update(&before.id)
                    };
                    let same = w
                        .roles
                        .update_role(request)
                        .await
                        .expect("updated")
                        .into_inner();
                    assert_eq!(same.role, Some(after));
                    let request = pb::UpdateRoleRequest {
                        name: Some("Author".into()),
                        description: Some(String::new()),
                        ..update(&before.id)
                    };
                    let role = w
                        .roles
                        .update_role(request)
                        .await
                        .expect("updated")
                        .into_inner();
                    let role = role.role.expect("a role");
                    assert_eq!(
                        (role.name.as_str(), role.description.as_str()),
                        ("Author", "")
                    );
                    trace
                })
            },
        },
        Success {
            rpc: "DeleteRole",
            run: |w| {
                Box::pin(async move {
                    let role = w.role("Editor").await;
                    let trace = w.traced();
                    w.roles
                        .delete_role(delete(&role.id))
                        .await
                        .expect("deleted");
                    w.trace(None);
                    assert_eq!(
                        expect_error(w.roles.get_role(get(&role.id)).await).reason,
                        "ROLE_NOT_FOUND"
                    );
                    // The name can be used again.
                    w.role("EDITOR").await;
                    trace
                })
            },
        },
    ]
}

pub(crate) fn failures() -> Vec<Failure> {
    vec![
        Failure {
            rpc: "CreateRole",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let request = pb::CreateRoleRequest {
                        name: " ".into(),
                        description: "x".repeat(1001),
                        ..Default::default()
                    };
                    let reported = expect_error(w.roles.create_role(request).await);
                    assert_eq!(reported.fields(), ["name", "description"]);
                    reported
                })
            },
        },
        Failure {
            rpc: "CreateRole",
            reason: "ROLE_NAME_TAKEN",
            run: |w| {
                Box::pin(async move {
                    w.role("Straße").await;
                    let request = pb::CreateRoleRequest {
                        name: "STRASSE".into(),
                        ..Default::default()
                    };
                    expect_error(w.roles.create_role(request).await)
                })
            },
        },
        Failure {
            rpc: "GetRole",
            reason: "INVALID_REQUEST",
            run: |w| Box::pin(async move { expect_error(w.roles.get_role(get("")).await) }),
        },
        Failure {
            rpc: "GetRole",
            reason: "ROLE_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let absent = unknown_id();
                    let reported = expect_error(w.roles.get_role(get(&absent)).await);
                    assert_eq!(reported.metadata["role_ids"], absent);
                    reported
                })
            },
        },
        Failure {
            rpc: "ListRoles",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let request = pb::ListRolesRequest {
                        page_size: -1,
                        query: "\0".into(),
                        order_by: "title".into(),
                        ..Default::default()
                    };
                    let reported = expect_error(w.roles.list_roles(request).await);
                    assert_eq!(reported.fields(), ["query", "order_by", "page_size"]);
                    reported
                })
            },
        },
        Failure {
            rpc: "UpdateRole",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let request = pb::UpdateRoleRequest {
                        name: Some("x".repeat(256)),
                        description: Some("\u{1b}[31m".into()),
                        ..update("r")
                    };
                    let reported = expect_error(w.roles.update_role(request).await);
                    assert_eq!(reported.fields(), ["role_id", "name", "description"]);
                    reported
                })
            },
        },
        Failure {
            rpc: "UpdateRole",
            reason: "ROLE_NOT_FOUND",
            run: |w| {
                Box::pin(
                    async move { expect_error(w.roles.update_role(update(&unknown_id())).await) },
                )
            },
        },
        Failure {
            rpc: "UpdateRole",
            reason: "ROLE_NAME_TAKEN",
            run: |w| {
                Box::pin(async move {
                    w.role("Editor").await;
                    let role = w.role("Author").await;
                    let request = pb::UpdateRoleRequest {
                        name: Some("editor".into()),
                        ..update(&role.id)
                    };
                    let reported = expect_error(w.roles.update_role(request).await);
                    assert_eq!(w.get_role(&role.id).await, role);
                    reported
                })
            },
        },
        Failure {
            rpc: "UpdateRole",
            reason: "ETAG_MISMATCH",
            run: |w| {
                Box::pin(async move {
                    let role = w.role("Editor").await;
                    let request = pb::UpdateRoleRequest {
                        etag: "0".into(),
                        ..update(&role.id)
                    };
                    expect_error(w.roles.update_role(request).await)
                })
            },
        },
        Failure {
            rpc: "DeleteRole",
            reason: "INVALID_REQUEST",
            run: |w| Box::pin(async move { expect_error(w.roles.delete_role(delete("r")).await) }),
        },
        Failure {
            rpc: "DeleteRole",
            reason: "ROLE_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let absent = unknown_id();
                    let request = pb::DeleteRoleRequest {
                        allow_missing: true,
                        ..delete(&absent)
                    };
                    w.roles
                        .delete_role(request)
                        .await
                        .expect("a success where that is allowed");
                    expect_error(w.roles.delete_role(delete(&absent)).await)
                })
            },
        },
        Failure {
            rpc: "DeleteRole",
            reason: "ROLE_IN_USE",
            run: |w| {
                Box::pin(async move {
                    let role = w.role("Editor").await;
                    let mut groups = Vec::new();
                    for number in 1..=11 {
                        groups.push(w.group(&format!("Team {number}"), &[&role.id]).await);
                    }
                    let reported = expect_error(w.roles.delete_role(delete(&role.id)).await);
                    assert_eq!(reported.metadata["group_count"], "11");
                    // The first ten by title, with numbers in numeric order.
                    let expected: Vec<_> = groups[..10]
                        .iter()
                        .map(|g| (g.id.clone(), g.title.clone()))
                        .collect();
                    assert_eq!(reported.preconditions, expected);
                    assert_eq!(w.get_role(&role.id).await.group_count, 11);
                    reported
                })
            },
        },
        Failure {
            rpc: "DeleteRole",
            reason: "ETAG_MISMATCH",
            run: |w| {
                Box::pin(async move {
                    let role = w.role("Editor").await;
                    let request = pb::DeleteRoleRequest {
                        etag: "x".into(),
                        ..delete(&role.id)
                    };
                    let reported = expect_error(w.roles.delete_role(request).await);
                    assert_eq!(w.get_role(&role.id).await, role);
                    reported
                })
            },
        },
    ]
}

fn get(role_id: &str) -> pb::GetRoleRequest {
    pb::GetRoleRequest {
        role_id: role_id.into(),
        ..Default::default()
    }
}

fn update(role_id: &str) -> pb::UpdateRoleRequest {
    pb::UpdateRoleRequest {
        role_id: role_id.into(),
        ..Default::default()
    }
}

pub(crate) fn delete(role_id: &str) -> pb::DeleteRoleRequest {
    pb::DeleteRoleRequest {
        role_id: role_id.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn rules_are_updated_by_deltas_up_to_1000() {
    let mut w = crate::harness::TestServer::start().await;
    let rule = |number: usize| crate::access::allow("shop", &format!("c{number:04}"), "*");
    let request = pb::CreateRoleRequest {
        name: "Editor".into(),
        rules: (0..999).rev().map(rule).collect(),
        ..Default::default()
    };
    let role = w.roles.create_role(request).await.expect("created");
    let role = role.into_inner().role.expect("a role");
    assert_eq!(role.rules, (0..999).map(rule).collect::<Vec<_>>());

    // Adding an existing rule and removing a missing one change nothing; the changes of both editors remain.
    for (add, remove) in [
        (vec![rule(0), rule(1000)], vec![rule(7000)]),
        (vec![], vec![rule(1)]),
    ] {
        let request = pb::UpdateRoleRequest {
            add_rules: add,
            remove_rules: remove,
            ..update(&role.id)
        };
        w.roles.update_role(request).await.expect("updated");
    }
    let now = w.get_role(&role.id).await;
    let expected: Vec<_> = [0]
        .into_iter()
        .chain(2..999)
        .chain([1000])
        .map(rule)
        .collect();
    assert_eq!(now.rules, expected);
    assert_ne!(now.etag, role.etag);

    // The limit applies to the role's total number of rules.
    let request = pb::UpdateRoleRequest {
        add_rules: (2000..2002).map(rule).collect(),
        ..update(&role.id)
    };
    let told_of = expect_error(w.roles.update_role(request).await);
    assert_eq!(told_of.fields(), ["add_rules"]);
    assert_eq!(w.get_role(&role.id).await, now);
    let request = pb::UpdateRoleRequest {
        add_rules: vec![rule(2000)],
        remove_rules: (2..500).map(rule).collect(),
        ..update(&role.id)
    };
    let role = w.roles.update_role(request).await.expect("updated");
    assert_eq!(role.into_inner().role.expect("a role").rules.len(), 502);
}

#[tokio::test]
async fn all_rule_violations_are_reported() {
    let mut w = crate::harness::TestServer::start().await;
    let fine = crate::access::allow("a", "b", "c");
    let part = |bundle: &str, controller: &str, action: &str| {
        crate::access::allow(bundle, controller, action)
    };
    let bad = [
        fine.clone(),
        fine.clone(),
        part("", "A", "a b"),
        part(&"x".repeat(61), &"x".repeat(61), &"x".repeat(46)),
        part("**", "a*", "ä"),
        pb::Rule {
            effect: 7,
            ..part("*", "*", "*")
        },
    ];
    let fields = [
        "rules[1]",
        "rules[2].bundle",
        "rules[2].controller",
        "rules[2].action",
        "rules[3].bundle",
        "rules[3].controller",
        "rules[3].action",
        "rules[4].bundle",
        "rules[4].controller",
        "rules[4].action",
        "rules[5].effect",
    ];
    let request = pb::CreateRoleRequest {
        name: "A".into(),
        rules: bad.to_vec(),
        ..Default::default()
    };
    assert_eq!(
        expect_error(w.roles.create_role(request).await).fields(),
        fields
    );
    let request = pb::CreateRoleRequest {
        name: "A".into(),
        rules: vec![fine.clone(); 1001],
        ..Default::default()
    };
    assert_eq!(
        expect_error(w.roles.create_role(request).await).fields(),
        ["rules"]
    );
    let request = pb::UpdateRoleRequest {
        add_rules: vec![fine.clone()],
        remove_rules: vec![part("x", "y", "z"), fine],
        ..update(&unknown_id())
    };
    assert_eq!(
        expect_error(w.roles.update_role(request).await).fields(),
        ["remove_rules[1]"]
    );
    // Texts of the maximum length.
    let request = pb::CreateRoleRequest {
        name: "A".into(),
        rules: vec![part(&"x".repeat(60), &"x".repeat(60), &"x".repeat(45))],
        ..Default::default()
    };
    w.roles.create_role(request).await.expect("created");
}
