//! Text: what is accepted, what comes back, what counts as the same, and what comes first.

use group_service::pb;

use crate::harness::{World, told};

#[tokio::test]
async fn what_the_user_typed_comes_back_trimmed_and_in_nfc() {
    let w = World::start().await;
    for (typed, kept) in [
        ("  Ops\t", "Ops"),
        ("\u{a0}\u{3000}Night shift\u{2003}", "Night shift"),
        ("Cafe\u{301}", "Café"),
        ("ﬁrst ＬＩＮＥ ①", "ﬁrst ＬＩＮＥ ①"),
        ("two  spaces", "two  spaces"),
        ("\u{1100}\u{1161}", "가"),
        ("%_\\'\"`; --", "%_\\'\"`; --"),
        ("👩‍👩‍👧‍👦", "👩‍👩‍👧‍👦"),
    ] {
        assert_eq!(w.role(typed).await.name, kept);
    }
}

#[tokio::test]
async fn names_are_one_to_255_characters_without_controls() {
    let mut w = World::start().await;
    w.role("x").await;
    // Characters are Unicode scalar values, counted in NFC and without the white space around them.
    w.role(&"𝕏".repeat(255)).await;
    w.role(&format!("  {}  ", "y".repeat(255))).await;
    w.role(&"e\u{301}".repeat(255)).await;
    // The longest folding and the longest sort key of all (8,415 and 10,853 bytes).
    let longest = w.role(&"\u{fdfa}".repeat(255)).await;
    let request = pb::ListRolesRequest {
        query: "\u{fdfa}".into(),
        ..Default::default()
    };
    let found = w
        .roles
        .list_roles(request)
        .await
        .expect("listed")
        .into_inner()
        .roles;
    assert_eq!(found, [longest]);

    for (name, complaint) in [
        ("", "must not be empty"),
        (" \t\n\u{a0}\u{2028}", "must not be empty"),
        (&"z".repeat(256), "must be at most 255 characters, not 256"),
        ("a\u{0}b", "must not contain the control character U+0000"),
        ("a\nb", "must not contain the control character U+000A"),
        ("a\u{9f}b", "must not contain the control character U+009F"),
    ] {
        let request = pb::CreateRoleRequest {
            name: name.into(),
            ..Default::default()
        };
        let told = told(w.roles.create_role(request).await);
        assert_eq!(told.violations, [("name".to_owned(), complaint.to_owned())]);
        assert_eq!(told.message, format!("name {complaint}"));
    }
}

#[tokio::test]
async fn names_are_unique_without_regard_to_case_or_compatibility_form() {
    let mut w = World::start().await;
    for (number, (one, other)) in [
        ("Ops", "OPS"),
        ("Ops x", "ＯＰＳ　ｘ"),
        ("Straße", "STRASSE"),
        ("ΟΔΟΣ", "οδος"),
        ("ſet", "SET"),
        ("Å\u{212b}", "åå"),
        ("ﬁle", "FILE"),
        ("① of Ⅳ", "1 OF IV"),
        ("Ǆ", "ǆ"),
        ("ﷺ", "صلى الله عليه وسلم"),
        ("e\u{345}\u{301}", "E\u{301}\u{345}"),
        ("İx", "i\u{307}X"),
    ]
    .into_iter()
    .enumerate()
    {
        // The same on all three kinds of things; each kind for itself.
        let role = w.role(one).await;
        w.group(one, &[&role.id]).await;
        w.user(one).await;
        let request = pb::CreateRoleRequest {
            name: other.into(),
            ..Default::default()
        };
        assert_eq!(
            told(w.roles.create_role(request).await).reason,
            "ROLE_NAME_TAKEN",
            "{number}"
        );
        let request = crate::group::create(other, &[&role.id]);
        assert_eq!(
            told(w.groups.create_group(request).await).reason,
            "GROUP_TITLE_TAKEN",
            "{number}"
        );
        let request = pb::CreateUserRequest {
            username: other.into(),
            ..Default::default()
        };
        assert_eq!(
            told(w.users.create_user(request).await).reason,
            "USERNAME_TAKEN",
            "{number}"
        );
    }
    // Alike to the eye or the tongue, but not the same.
    for name in [
        "resume", "résumé", "oe", "œ", "I", "ı", "Ο", "O", "a b", "a-b", "ab",
    ] {
        w.role(name).await;
    }
}

#[tokio::test]
async fn names_are_in_the_order_that_people_expect() {
    let mut w = World::start().await;
    // The Unicode root collation, numbers by their value.
    let sorted = [
        "-",
        "'n",
        "#1",
        "1st",
        "2nd",
        "10th",
        "a b",
        "a-b",
        "aa",
        "apple",
        "Äquator",
        "ar",
        "Œuvre",
        "ofen",
        "Öfen",
        "Team 2",
        "team 2 b",
        "Team 10",
        "Team 010 b",
        "Ⅻ of us",
        "zebra",
        "Ω",
        "Я",
        "א",
        "가",
        "あ",
        "一",
    ];
    for (index, _) in sorted.iter().enumerate() {
        // Created in another order than they are listed in.
        let name = sorted[index * 7 % sorted.len()];
        w.user(name).await;
        w.role(name).await;
    }
    let role = w.role("for groups").await;
    for name in sorted {
        w.group(name, &[&role.id]).await;
    }
    let users = w
        .users
        .list_users(pb::ListUsersRequest::default())
        .await
        .expect("listed");
    let users: Vec<_> = users
        .into_inner()
        .users
        .into_iter()
        .map(|user| user.username)
        .collect();
    assert_eq!(users, sorted);
    let groups = w
        .groups
        .list_groups(pb::ListGroupsRequest::default())
        .await
        .expect("listed");
    let groups: Vec<_> = groups
        .into_inner()
        .groups
        .into_iter()
        .map(|group| group.title)
        .collect();
    assert_eq!(groups, sorted);
    let request = pb::ListRolesRequest {
        order_by: "name desc".into(),
        ..Default::default()
    };
    let roles = w.roles.list_roles(request).await.expect("listed");
    let mut roles: Vec<_> = roles
        .into_inner()
        .roles
        .into_iter()
        .map(|role| role.name)
        .collect();
    roles.retain(|name| name != "for groups");
    roles.reverse();
    assert_eq!(roles, sorted);
}

#[tokio::test]
async fn a_query_is_a_substring_without_regard_to_case() {
    let mut w = World::start().await;
    let role = w.role("A").await;
    for title in [
        "Straßenbau",
        "100 % Ops",
        "Ops_team",
        "Café Ops",
        "ＯＰＳ ２",
    ] {
        w.group(title, &[&role.id]).await;
    }
    for (query, expected) in [
        (
            "ops",
            &["100 % Ops", "Café Ops", "ＯＰＳ ２", "Ops_team"][..],
        ),
        ("OPS 2", &["ＯＰＳ ２"]),
        ("STRASSE", &["Straßenbau"]),
        ("straß", &["Straßenbau"]),
        ("%", &["100 % Ops"]),
        ("_", &["Ops_team"]),
        ("cafe\u{301}", &["Café Ops"]),
        ("cafe", &[]),
        (" ops", &["100 % Ops", "Café Ops"]),
        ("ops\\", &[]),
        ("'", &[]),
    ] {
        let request = pb::ListGroupsRequest {
            query: query.into(),
            with_total_size: true,
            ..Default::default()
        };
        let list = w
            .groups
            .list_groups(request)
            .await
            .expect("listed")
            .into_inner();
        let titles: Vec<_> = list
            .groups
            .iter()
            .map(|group| group.title.as_str())
            .collect();
        assert_eq!(titles, expected, "{query}");
        assert_eq!(list.total_size, Some(expected.len() as i64));
    }
}
