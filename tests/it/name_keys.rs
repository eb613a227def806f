//! Names collide, sort and match in the same way on every engine, because their keys are computed by the service.

use std::collections::BTreeMap;

use group_service::{
    domain::{Name, SearchQuery, SearchText},
    pb,
};
use tonic::Code;

use crate::harness::TestServer;

/// Edge cases of case folding, compatibility forms, combining marks, numbers, spaces, wildcards, scripts,
/// characters beyond the basic plane, and ignored characters.
const PARTS: [&str; 43] = [
    "a",
    "A",
    "ä",
    "Ä",
    "a\u{308}",
    "ß",
    "SS",
    "ss",
    "ſ",
    "İ",
    "i",
    "I",
    "ı",
    "ǆ",
    "ǅ",
    "ﬁ",
    "fi",
    "Ｏ",
    "O",
    "½",
    "1⁄2",
    "2",
    "10",
    "02",
    "%",
    "_",
    "\\",
    "'",
    "\"",
    "Ω",
    "ω",
    "Å",
    "é",
    "e\u{301}",
    "日本",
    "ﷺ",
    "😀",
    "👍🏽",
    "א",
    "!",
    "a\u{200b}",
    "ø",
    "か\u{3099}",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_unique_sorted_and_searched_identically_on_every_engine() {
    let test_server = TestServer::start().await;
    let mut there: BTreeMap<Vec<u8>, (String, String)> = BTreeMap::new();
    for first in PARTS {
        for second in PARTS {
            for between in [" ", "x in the midst of "] {
                let text = format!("{first}{between}{second}");
                let name = Name::parse(&text).expect("a name");
                let key: sea_orm::Value = name.unique_key().into();
                let sea_orm::Value::Bytes(Some(key)) = key else {
                    panic!("a key is bytes");
                };
                let request = pb::CreateRoleRequest {
                    name: text.clone(),
                    ..Default::default()
                };
                let created = test_server.roles.clone().create_role(request).await;
                match (created, there.contains_key(&key)) {
                    (Ok(created), false) => {
                        let role = created.into_inner().role.expect("a role");
                        there.insert(key, (role.name, role.id));
                    }
                    (Err(status), true) => assert_eq!(status.code(), Code::AlreadyExists),
                    (created, known) => panic!("{text:?}: {created:?}, known: {known}"),
                }
            }
        }
    }
    let mut expected: Vec<_> = there.into_values().collect();
    expected.sort_by_key(|(name, id)| (Name::parse(name).expect("a name").sort_key(), id.clone()));
    assert_eq!(listed(&test_server, "").await, expected);
    // Also search for some names, for parts of them, and for what more than half of them contain.
    let parts: Vec<String> = expected
        .iter()
        .step_by(61)
        .flat_map(|(name, _)| {
            let chars: Vec<char> = name.chars().collect();
            let part =
                |from: usize, to: usize| chars.get(from..to).unwrap_or(&chars).iter().collect();
            [part(0, chars.len()), part(0, 3), part(1, 4), part(1, 6)]
        })
        .collect();
    let queries = [
        "a x",
        "% ",
        "_x",
        "\\x",
        "10 ",
        "fix",
        "sS",
        "midst",
        "in the midst of",
        "midst in fi",
        "tsdim",
    ];
    for query in PARTS
        .into_iter()
        .chain(queries)
        .chain(parts.iter().map(String::as_str))
    {
        let Some(parsed) = SearchQuery::parse(query).expect("a query") else {
            panic!("{query:?} asks for nothing");
        };
        let matching = expected.iter().filter(|(name, _)| {
            let name = SearchText::name(&Name::parse(name).expect("a name"));
            let mut words = parsed.words().iter();
            words.all(|word| name.as_str().contains(word))
        });
        let matching: Vec<_> = matching.cloned().collect();
        assert_eq!(listed(&test_server, query).await, matching, "{query:?}");
    }
}

async fn listed(test_server: &TestServer, query: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut request = pb::ListRolesRequest {
        page_size: 500,
        query: query.into(),
        ..Default::default()
    };
    loop {
        let page = test_server.roles.clone().list_roles(request.clone()).await;
        let page = page.expect("listed").into_inner();
        all.extend(page.roles.into_iter().map(|role| (role.name, role.id)));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return all;
        }
    }
}
