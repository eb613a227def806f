//! Text: validation, normalization, uniqueness, sorting and search.

use group_service::pb;

use crate::harness::{TestServer, expect_error};

#[tokio::test]
async fn text_is_returned_trimmed_and_nfc_normalized() {
    let w = TestServer::start().await;
    for (typed, kept) in [
        ("  Ops\t", "Ops"),
        ("\u{a0}\u{3000}Night shift\u{2003}", "Night shift"),
        ("Cafe\u{301}", "Café"),
        ("ﬁrst ＬＩＮＥ ①", "ﬁrst ＬＩＮＥ ①"),
        ("two  spaces", "two  spaces"),
        ("\u{1100}\u{1161}", "가"),
        ("%_\\'\"`; --", "%_\\'\"`; --"),
        ("👩‍👩‍👧‍👦", "👩‍👩‍👧‍👦"),
        // Invisible characters are kept where a script or an emoji needs them.
        ("کتاب\u{200c}ها", "کتاب\u{200c}ها"),
        ("ශ්\u{200d}රී", "ශ්\u{200d}රී"),
        ("❤\u{fe0f}", "❤\u{fe0f}"),
        ("Ops\u{200b}x", "Ops\u{200b}x"),
    ] {
        assert_eq!(w.role(typed).await.name, kept);
    }
}

#[tokio::test]
async fn names_are_1_to_255_characters_without_controls() {
    let mut w = TestServer::start().await;
    w.role("x").await;
    // Lengths are counted in Unicode scalar values, after trimming and NFC normalization.
    w.role(&"𝕏".repeat(255)).await;
    w.role(&format!("  {}  ", "y".repeat(255))).await;
    w.role(&"e\u{301}".repeat(255)).await;
    // The character with the longest case folding and the longest sort key (8,415 and 10,853 bytes for 255 of it).
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
        (
            "a\u{202e}b\u{202e}",
            "must not contain the bidirectional control U+202E",
        ),
        (
            "a\u{200f}b",
            "must not contain the bidirectional control U+200F",
        ),
        ("a\u{2028}b", "must not contain the line separator U+2028"),
        (
            "a\u{2029}b",
            "must not contain the paragraph separator U+2029",
        ),
        ("a\u{fdd0}b", "must not contain the noncharacter U+FDD0"),
        ("a\u{10ffff}b", "must not contain the noncharacter U+10FFFF"),
        (
            "\u{2028}x\u{2067}\u{1}\u{2028}y\u{2028}z\u{fffe}\u{ffff}\u{2069}",
            "must not contain the bidirectional control U+2067, the control character U+0001, \
             the line separator U+2028, the noncharacter U+FFFE",
        ),
        ("\u{200b}", "must have at least one visible character"),
        (
            "\u{200b} \u{ad}\u{fe0f}\u{e0041}\u{3164}",
            "must have at least one visible character",
        ),
        ("\u{2800}", "must have at least one visible character"),
        (
            "\u{301}\u{20dd}",
            "must have at least one visible character",
        ),
    ] {
        let request = pb::CreateRoleRequest {
            name: name.into(),
            ..Default::default()
        };
        let reported = expect_error(w.roles.create_role(request).await);
        assert_eq!(
            reported.violations,
            [("name".to_owned(), complaint.to_owned())]
        );
        assert_eq!(reported.message, format!("name {complaint}"));
    }
}

#[tokio::test]
async fn name_uniqueness_ignores_case_compatibility_form_and_ignorable_characters() {
    let mut w = TestServer::start().await;
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
        ("root", "root\u{200b}"),
        ("r\u{ad}o\u{2060}oted", "\u{feff}ROOTED"),
        ("spaced", "\u{200b} spaced \u{200b}"),
        ("کتاب\u{200c}ها", "کتابها"),
        ("👩\u{200d}👧", "👩👧"),
        ("❤\u{fe0f}", "❤"),
        ("e\u{34f}\u{301}", "é"),
    ]
    .into_iter()
    .enumerate()
    {
        // The same rules apply to groups, roles and users, each kind separately.
        let role = w.role(one).await;
        w.group(one, &[&role.id]).await;
        w.user(one).await;
        let request = pb::CreateRoleRequest {
            name: other.into(),
            ..Default::default()
        };
        assert_eq!(
            expect_error(w.roles.create_role(request).await).reason,
            "ROLE_NAME_TAKEN",
            "{number}"
        );
        let request = crate::group::create(other, &[&role.id]);
        assert_eq!(
            expect_error(w.groups.create_group(request).await).reason,
            "GROUP_TITLE_TAKEN",
            "{number}"
        );
        let request = pb::CreateUserRequest {
            username: other.into(),
            ..Default::default()
        };
        assert_eq!(
            expect_error(w.users.create_user(request).await).reason,
            "USERNAME_TAKEN",
            "{number}"
        );
    }
    // Similar in appearance or sound, but not equal.
    for name in [
        "resume", "résumé", "oe", "œ", "I", "ı", "Ο", "O", "a b", "a-b", "ab",
    ] {
        w.role(name).await;
    }
}

#[tokio::test]
async fn names_are_sorted_by_collation_order() {
    let mut w = TestServer::start().await;
    // The Unicode root collation, with numbers in numeric order.
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
        // Created in a different order than they are listed.
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
async fn first_and_last_names_may_be_empty() {
    let mut w = TestServer::start().await;
    let request = pb::CreateUserRequest {
        username: "ann\u{202d}".into(),
        first_name: "\u{200b}".into(),
        last_name: "Lee\u{2066}".into(),
        ..Default::default()
    };
    let bidi = |code| format!("must not contain the bidirectional control {code}");
    assert_eq!(
        expect_error(w.users.create_user(request).await).violations,
        [
            ("username".to_owned(), bidi("U+202D")),
            (
                "first_name".to_owned(),
                "must have at least one visible character".to_owned()
            ),
            ("last_name".to_owned(), bidi("U+2066")),
        ]
    );
    // Descriptions needn't be unique, so they may contain the control characters of right-to-left text.
    let request = pb::CreateRoleRequest {
        name: "A".into(),
        description: "\u{200f}א\u{2028}".into(),
        ..Default::default()
    };
    let role = w.roles.create_role(request).await.expect("created");
    let role = role.into_inner().role.expect("a role");
    assert_eq!(role.description, "\u{200f}א");
}

#[tokio::test]
async fn query_matches_all_words_in_any_order() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await;
    for title in [
        "Straßenbau",
        "100 % Ops",
        "Ops_team",
        "Café Ops",
        "ＯＰＳ ２",
        "Søren Łukasz Đà Nẵng",
        "İstanbul ısı",
        "Œuvre æther",
        "Йога ёлка",
        "Ἀθῆναι",
        "שָׁלוֹם مَرْحَبًا",
        "가각",
        "がか",
        "कुमार",
        "soft\u{ad}ware 👩\u{200d}🚒",
        "´",
    ] {
        w.group(title, &[&role.id]).await;
    }
    let ops = &["100 % Ops", "Café Ops", "ＯＰＳ ２", "Ops_team"][..];
    let all = 16;
    for (query, expected) in [
        ("ops", ops),
        // Trimmed.
        ("ops ", ops),
        (" \u{a0}ops\u{3000}\t", ops),
        ("OPS 2", &["ＯＰＳ ２"]),
        ("2 ops", &["ＯＰＳ ２"]),
        ("p op ops o s", ops),
        ("ops team", &["Ops_team"]),
        ("team ops absent", &[]),
        ("STRASSE", &["Straßenbau"]),
        ("straß", &["Straßenbau"]),
        ("bau straße", &["Straßenbau"]),
        ("%", &["100 % Ops"]),
        ("_", &["Ops_team"]),
        ("ops\\", &[]),
        ("'", &[]),
        // Accents are ignored in the text and in the query.
        ("cafe\u{301}", &["Café Ops"]),
        ("cafe", &["Café Ops"]),
        ("çàfè", &["Café Ops"]),
        ("lukasz soren", &["Søren Łukasz Đà Nẵng"]),
        ("ŁUKASZ", &["Søren Łukasz Đà Nẵng"]),
        ("da nang", &["Søren Łukasz Đà Nẵng"]),
        ("ISTANBUL isi", &["İstanbul ısı"]),
        ("oeuvre aether", &["Œuvre æther"]),
        ("йога елка", &["Йога ёлка"]),
        ("αθηναι", &["Ἀθῆναι"]),
        ("שלום مرحبا", &["שָׁלוֹם مَرْحَبًا"]),
        // Marks that spell another syllable or another word aren't accents.
        ("가", &["가각"]),
        ("각", &["가각"]),
        ("갂", &[]),
        ("か", &["がか"]),
        ("がが", &[]),
        ("कमार", &[]),
        ("कुमार", &["कुमार"]),
        // Invisible characters are ignored.
        ("software", &["soft\u{ad}ware 👩\u{200d}🚒"]),
        ("soft\u{200b}ware", &["soft\u{ad}ware 👩\u{200d}🚒"]),
        ("👩🚒", &["soft\u{ad}ware 👩\u{200d}🚒"]),
        ("\u{202b}ops\u{202c}", ops),
    ] {
        let list = groups(&mut w, query).await.into_inner();
        let titles: Vec<_> = list
            .groups
            .iter()
            .map(|group| group.title.as_str())
            .collect();
        assert_eq!(titles, expected, "{query:?}");
        assert_eq!(list.total_size, Some(expected.len() as i64), "{query:?}");
    }
    // Queries that are empty after normalization.
    for query in ["", "  \u{2003} ", "\u{200b}", "´", "\u{301}"] {
        let list = groups(&mut w, query).await.into_inner();
        assert_eq!(list.total_size, Some(all), "{query:?}");
    }
}

#[tokio::test]
async fn users_are_found_by_parts_of_username_and_names() {
    let mut w = TestServer::start().await;
    let mut users = Vec::new();
    for (username, first_name, last_name) in [
        ("anna@shop.example", "Anna", "Müller"),
        ("bob@shop.example", "Bob", "Mueller"),
        ("lee", "Müller", "Lee"),
    ] {
        let request = pb::CreateUserRequest {
            username: username.into(),
            first_name: first_name.into(),
            last_name: last_name.into(),
            ..Default::default()
        };
        let user = w.users.create_user(request).await.expect("created");
        users.push(user.into_inner().user.expect("a user").id);
    }
    let role = w.role("A").await;
    let group = w.group("A", &[&role.id]).await.id;
    // More members than are scanned without the search index.
    let mut members = users.clone();
    members.extend(w.many_users("other", 60).await);
    let request = crate::member::assign_all(&group, &members);
    w.groups
        .batch_assign_users(request)
        .await
        .expect("assigned");
    for (query, expected) in [
        ("muller", &users[..1]),
        ("müller anna", &users[..1]),
        ("Anna Müller", &users[..1]),
        ("ller an", &users[..1]),
        ("muller shop", &users[..1]),
        ("shop ller", &users[..2]),
        ("mueller", &users[1..2]),
        ("lee muller", &users[2..]),
        ("anna lee", &[]),
    ] {
        // "muller" matches two of them.
        let mut expected = expected.to_vec();
        if query == "muller" {
            expected.push(users[2].clone());
        }
        let request = pb::ListUsersRequest {
            query: query.into(),
            ..Default::default()
        };
        let listed = w.users.list_users(request).await.expect("listed");
        let listed = listed.into_inner().users;
        let listed: Vec<_> = listed.into_iter().map(|user| user.id).collect();
        assert_eq!(listed, expected, "{query:?}");
        let request = pb::ListUsersInGroupRequest {
            query: query.into(),
            with_total_size: true,
            ..crate::member::users_in(&group)
        };
        let listed = w.groups.list_users_in_group(request).await;
        let listed = listed.expect("listed").into_inner();
        assert_eq!(listed.total_size, Some(expected.len() as i64), "{query:?}");
        let listed: Vec<_> = listed.users.into_iter().map(|user| user.id).collect();
        assert_eq!(listed, expected, "{query:?}");
    }
}

#[tokio::test]
async fn query_has_at_most_ten_words() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await;
    let title = "a1 b2 c3 d4 e5 f6 g7 h8 i9 j10";
    w.group(title, &[&role.id]).await;
    for query in [
        title.to_owned(),
        // Repeated words, and words contained in others, add no condition.
        format!("{title} {title} a b c"),
    ] {
        let list = groups(&mut w, &query).await.into_inner();
        assert_eq!(list.total_size, Some(1), "{query}");
    }
    let request = pb::ListGroupsRequest {
        query: format!("{title} k11"),
        ..Default::default()
    };
    let reported = expect_error(w.groups.list_groups(request).await);
    let complaint = "must be at most 10 different words, not 11";
    assert_eq!(
        reported.violations,
        [("query".to_owned(), complaint.to_owned())]
    );
}

#[tokio::test]
async fn page_token_is_valid_for_equivalent_query() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await;
    for number in 0..3 {
        w.group(&format!("Café {number}"), &[&role.id]).await;
    }
    let first = pb::ListGroupsRequest {
        query: "café  f".into(),
        page_size: 1,
        ..Default::default()
    };
    let page = w.groups.list_groups(first.clone()).await.expect("listed");
    let page_token = page.into_inner().next_page_token;
    for query in [" CAFE", "cafe\u{200b}"] {
        let request = pb::ListGroupsRequest {
            query: query.into(),
            page_token: page_token.clone(),
            ..first.clone()
        };
        let page = w.groups.list_groups(request).await.expect("its token");
        assert_eq!(page.into_inner().groups[0].title, "Café 1");
    }
    let request = pb::ListGroupsRequest {
        query: "ca fe".into(),
        page_token,
        ..first
    };
    let reported = expect_error(w.groups.list_groups(request).await);
    assert_eq!(reported.fields(), ["page_token"]);
}

async fn groups(w: &mut TestServer, query: &str) -> tonic::Response<pb::ListGroupsResponse> {
    let request = pb::ListGroupsRequest {
        query: query.into(),
        with_total_size: true,
        ..Default::default()
    };
    w.groups.list_groups(request).await.expect("listed")
}
