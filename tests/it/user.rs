//! `UserService`.

use group_service::pb;

use crate::{
    contract::{Failure, Success},
    harness::{TestServer, expect_error, unknown_id},
};

pub(crate) fn successes() -> Vec<Success> {
    vec![
        Success {
            rpc: "CreateUser",
            run: |w| {
                Box::pin(async move {
                    let trace = w.traced();
                    let user = w
                        .users
                        .create_user(create_ann())
                        .await
                        .expect("created")
                        .into_inner();
                    let user = user.user.expect("a user");
                    assert_eq!(
                        (user.first_name.as_str(), user.last_name.as_str()),
                        ("Ann", "Lee")
                    );
                    assert_eq!(user.username, "ann@shop.example");
                    assert_eq!(user.status(), pb::UserStatus::Active);
                    assert_eq!(user.create_time, user.update_time);
                    w.trace(None);
                    assert_eq!(get_user(w, &user.id).await, user);
                    trace
                })
            },
        },
        Success {
            rpc: "GetUser",
            run: |w| {
                Box::pin(async move {
                    let user = w.user("ann").await;
                    let trace = w.traced();
                    assert_eq!(get_user(w, &user.id).await, user);
                    trace
                })
            },
        },
        Success {
            rpc: "ListUsers",
            run: |w| {
                Box::pin(async move {
                    let create_ann = w
                        .users
                        .create_user(create_ann())
                        .await
                        .expect("created")
                        .into_inner()
                        .user;
                    let bob = w.user("Bob").await;
                    let trace = w.traced();
                    let list = w.users.list_users(pb::ListUsersRequest::default()).await;
                    let list = list.expect("listed").into_inner();
                    assert_eq!(list.users, [create_ann.clone().expect("a user"), bob]);
                    w.trace(None);
                    // Matches in the username, in either name, and across both names, regardless of case.
                    for query in ["SHOP", "ann", "lee", "ann le"] {
                        let request = pb::ListUsersRequest {
                            query: query.into(),
                            ..Default::default()
                        };
                        let list = w
                            .users
                            .list_users(request)
                            .await
                            .expect("listed")
                            .into_inner();
                        assert_eq!(list.users, [create_ann.clone().expect("a user")], "{query}");
                    }
                    trace
                })
            },
        },
        Success {
            rpc: "UpdateUser",
            run: |w| {
                Box::pin(async move {
                    let before = w.user("ann").await;
                    let trace = w.traced();
                    let request = pb::UpdateUserRequest {
                        first_name: Some("Ann".into()),
                        status: Some(pb::UserStatus::Blocked.into()),
                        etag: before.etag.clone(),
                        ..update(&before.id)
                    };
                    let after = w
                        .users
                        .update_user(request)
                        .await
                        .expect("updated")
                        .into_inner();
                    let after = after.user.expect("a user");
                    assert_eq!(
                        (after.username.as_str(), after.first_name.as_str()),
                        ("ann", "Ann")
                    );
                    assert_eq!(after.status(), pb::UserStatus::Blocked);
                    assert_ne!(after.etag, before.etag);
                    w.trace(None);
                    assert_eq!(get_user(w, &before.id).await, after);
                    let same = w
                        .users
                        .update_user(update(&before.id))
                        .await
                        .expect("no change");
                    assert_eq!(same.into_inner().user, Some(after));
                    trace
                })
            },
        },
        Success {
            rpc: "ListRolesOfUser",
            run: |w| {
                Box::pin(async move {
                    let (b, a, other) = (
                        w.role("B").await.id,
                        w.role("A").await.id,
                        w.role("C").await.id,
                    );
                    let user = w.user("ann").await.id;
                    let second = w.group("Second", &[&a, &b]).await.id;
                    let first = w.group("First", &[&a]).await.id;
                    w.group("Not hers", &[&other]).await;
                    w.assign(&second, &user).await;
                    w.assign(&first, &user).await;
                    let trace = w.traced();
                    let list = w.users.list_roles_of_user(roles_of(&user)).await;
                    let list = list.expect("listed").into_inner();
                    // Each role once, by name, with its groups by title.
                    let reported: Vec<_> = list
                        .roles
                        .iter()
                        .map(|entry| {
                            let role = entry.role.as_ref().expect("a role").name.as_str();
                            let groups = entry.groups.iter().map(|group| group.title.as_str());
                            (role, groups.collect::<Vec<_>>())
                        })
                        .collect();
                    assert_eq!(
                        reported,
                        [("A", vec!["First", "Second"]), ("B", vec!["Second"])]
                    );
                    assert_eq!((list.revision, list.next_page_token.as_str()), (9, ""));
                    w.trace(None);
                    let request = pb::ListRolesOfUserRequest {
                        page_size: 1,
                        ..roles_of(&user)
                    };
                    let page = w
                        .users
                        .list_roles_of_user(request)
                        .await
                        .expect("listed")
                        .into_inner();
                    let request = pb::ListRolesOfUserRequest {
                        page_token: page.next_page_token,
                        ..roles_of(&user)
                    };
                    let rest = w
                        .users
                        .list_roles_of_user(request)
                        .await
                        .expect("listed")
                        .into_inner();
                    let pages: Vec<_> = page.roles.into_iter().chain(rest.roles).collect();
                    assert_eq!(pages, list.roles);
                    trace
                })
            },
        },
        Success {
            rpc: "DeleteUser",
            run: |w| {
                Box::pin(async move {
                    let (role, user) = (w.role("A").await, w.user("ann").await);
                    let (one, other) = (
                        w.group("1", &[&role.id]).await,
                        w.group("2", &[&role.id]).await,
                    );
                    w.assign(&one.id, &user.id).await;
                    w.assign(&other.id, &user.id).await;
                    let trace = w.traced();
                    let request = pb::DeleteUserRequest {
                        etag: user.etag,
                        ..delete(&user.id)
                    };
                    w.users.delete_user(request).await.expect("deleted");
                    w.trace(None);
                    // Its associations are deleted, too.
                    assert_eq!(w.get_group(&one.id).await, one);
                    assert_eq!(w.get_group(&other.id).await, other);
                    trace
                })
            },
        },
    ]
}

pub(crate) fn failures() -> Vec<Failure> {
    vec![
        Failure {
            rpc: "CreateUser",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let request = pb::CreateUserRequest {
                        username: String::new(),
                        first_name: "\n-\n-".into(),
                        last_name: "x".repeat(256),
                        ..Default::default()
                    };
                    let reported = expect_error(w.users.create_user(request).await);
                    assert_eq!(reported.fields(), ["username", "first_name", "last_name"]);
                    reported
                })
            },
        },
        Failure {
            rpc: "CreateUser",
            reason: "USERNAME_TAKEN",
            run: |w| {
                Box::pin(async move {
                    w.user("Ann").await;
                    let request = pb::CreateUserRequest {
                        username: "aNN".into(),
                        ..Default::default()
                    };
                    expect_error(w.users.create_user(request).await)
                })
            },
        },
        Failure {
            rpc: "GetUser",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let request = pb::GetUserRequest {
                        user_id: "{01890a5d-ac96-774b-bcce-b302099a8057}".into(),
                        ..Default::default()
                    };
                    expect_error(w.users.get_user(request).await)
                })
            },
        },
        Failure {
            rpc: "GetUser",
            reason: "USER_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let request = pb::GetUserRequest {
                        user_id: unknown_id(),
                        ..Default::default()
                    };
                    expect_error(w.users.get_user(request).await)
                })
            },
        },
        Failure {
            rpc: "ListUsers",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let request = pb::ListUsersRequest {
                        page_size: i32::MIN,
                        status: 7,
                        order_by: "username asc".into(),
                        ..Default::default()
                    };
                    let reported = expect_error(w.users.list_users(request).await);
                    assert_eq!(reported.fields(), ["status", "order_by", "page_size"]);
                    reported
                })
            },
        },
        Failure {
            rpc: "ListRolesOfUser",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(
                    async move { expect_error(w.users.list_roles_of_user(roles_of("u")).await) },
                )
            },
        },
        Failure {
            rpc: "ListRolesOfUser",
            reason: "USER_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    // A user in no group is not an error.
                    let user = w.user("ann").await.id;
                    let none = w.users.list_roles_of_user(roles_of(&user)).await;
                    assert_eq!(none.expect("listed").into_inner().roles, []);
                    expect_error(w.users.list_roles_of_user(roles_of(&unknown_id())).await)
                })
            },
        },
        Failure {
            rpc: "UpdateUser",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let request = pb::UpdateUserRequest {
                        username: Some("\t".into()),
                        first_name: Some("\u{7f}x".into()),
                        last_name: Some("\u{85}x\u{85}y".into()),
                        status: Some(0),
                        ..update("u")
                    };
                    let reported = expect_error(w.users.update_user(request).await);
                    let fields = ["user_id", "username", "first_name", "last_name", "status"];
                    assert_eq!(reported.fields(), fields);
                    reported
                })
            },
        },
        Failure {
            rpc: "UpdateUser",
            reason: "USER_NOT_FOUND",
            run: |w| {
                Box::pin(
                    async move { expect_error(w.users.update_user(update(&unknown_id())).await) },
                )
            },
        },
        Failure {
            rpc: "UpdateUser",
            reason: "USERNAME_TAKEN",
            run: |w| {
                Box::pin(async move {
                    w.user("ann").await;
                    let bob = w.user("bob").await;
                    let request = pb::UpdateUserRequest {
                        username: Some("ANN".into()),
                        ..update(&bob.id)
                    };
                    let reported = expect_error(w.users.update_user(request).await);
                    assert_eq!(get_user(w, &bob.id).await, bob);
                    reported
                })
            },
        },
        Failure {
            rpc: "UpdateUser",
            reason: "ETAG_MISMATCH",
            run: |w| {
                Box::pin(async move {
                    let user = w.user("ann").await;
                    let request = pb::UpdateUserRequest {
                        etag: "2".into(),
                        ..update(&user.id)
                    };
                    expect_error(w.users.update_user(request).await)
                })
            },
        },
        Failure {
            rpc: "DeleteUser",
            reason: "INVALID_REQUEST",
            run: |w| Box::pin(async move { expect_error(w.users.delete_user(delete("u")).await) }),
        },
        Failure {
            rpc: "DeleteUser",
            reason: "USER_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let absent = unknown_id();
                    let request = pb::DeleteUserRequest {
                        allow_missing: true,
                        ..delete(&absent)
                    };
                    w.users
                        .delete_user(request)
                        .await
                        .expect("a success where that is allowed");
                    expect_error(w.users.delete_user(delete(&absent)).await)
                })
            },
        },
        Failure {
            rpc: "DeleteUser",
            reason: "ETAG_MISMATCH",
            run: |w| {
                Box::pin(async move {
                    let user = w.user("ann").await;
                    let request = pb::DeleteUserRequest {
                        etag: "2".into(),
                        ..delete(&user.id)
                    };
                    let reported = expect_error(w.users.delete_user(request).await);
                    assert_eq!(get_user(w, &user.id).await, user);
                    reported
                })
            },
        },
    ]
}

async fn get_user(w: &TestServer, user_id: &str) -> pb::User {
    let request = pb::GetUserRequest {
        user_id: user_id.into(),
        ..Default::default()
    };
    let response = w.users.clone().get_user(request).await;
    response
        .expect("the user is there")
        .into_inner()
        .user
        .expect("a user")
}

fn create_ann() -> pb::CreateUserRequest {
    pb::CreateUserRequest {
        username: "ann@shop.example".into(),
        first_name: "Ann ".into(),
        last_name: "Lee".into(),
        ..Default::default()
    }
}

fn update(user_id: &str) -> pb::UpdateUserRequest {
    pb::UpdateUserRequest {
        user_id: user_id.into(),
        ..Default::default()
    }
}

pub(crate) fn delete(user_id: &str) -> pb::DeleteUserRequest {
    pb::DeleteUserRequest {
        user_id: user_id.into(),
        ..Default::default()
    }
}

fn roles_of(user_id: &str) -> pb::ListRolesOfUserRequest {
    pb::ListRolesOfUserRequest {
        user_id: user_id.into(),
        ..Default::default()
    }
}
