//! Page tokens of every list: any text, any contents under a right tag, and those that we make ourselves.
#![no_main]

use group_service::{
    domain::{
        Cursor, CursorKey, FieldViolation, HistoryId, ListChanges, ListGroups, ListRoles,
        ListRolesInGroup, ListRolesOfUser, ListUsers, ListUsersInGroup, ListUsersWithAccess, Name,
        PageRequest, PageToken, Revision, SortBy, Timestamp,
    },
    error::Error,
    fuzzing, pb,
};
use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};

/// A list: its requests differ in all but their token.
struct List {
    number: u8,
    ids: [String; 2],
    query: &'static str,
    descending: bool,
    by_time: bool,
    status: i32,
}

fuzz_target!(|data: &[u8]| {
    // Too little to draw from: there is no list.
    let _ = run(Unstructured::new(data));
});

fn run(mut input: Unstructured<'_>) -> Result<()> {
    let list = List::draw(&mut input)?;
    let other = List::draw(&mut input)?;
    let first = list.page("").expect("the first page needs no token");
    assert!(first.after.is_none());
    match input.int_in_range(0..=2_u8)? {
        // Whatever anybody sends.
        0 => {
            let text = String::from_utf8_lossy(input.take_rest()).into_owned();
            match list.page(&text) {
                Ok(page) => assert_eq!(page.after.is_none(), text.is_empty()),
                Err(violations) => only_the_token(&violations),
            }
        }
        // Behind a tag that is right anything can stand, for whoever computes tags: they are no secret.
        1 => {
            let token = fuzzing::page_token(&first.scope, input.take_rest());
            match list.page(&token) {
                Ok(page) => {
                    let cursor = page.after.expect("a token that isn't empty");
                    assert_eq!(PageToken::encode(&cursor, &first.scope), token);
                }
                Err(violations) => only_the_token(&violations),
            }
        }
        // Our own come back as they went.
        _ => {
            let id = HistoryId::from_bytes(input.arbitrary()?);
            let within = if input.arbitrary()? {
                let name = Name::parse("within").expect("a name");
                Some(Box::new(Cursor {
                    key: CursorKey::Name(name.sort_key()),
                    id: HistoryId::from_bytes(input.arbitrary()?).uuid(),
                    within: None,
                }))
            } else {
                None
            };
            let key = match first.order.by {
                SortBy::Name => {
                    let text = String::from_utf8_lossy(input.take_rest()).into_owned();
                    let Ok(name) = Name::parse(&text) else {
                        return Ok(());
                    };
                    CursorKey::Name(name.sort_key())
                }
                SortBy::CreateTime => {
                    CursorKey::CreateTime(Timestamp::from_micros(input.arbitrary()?))
                }
                SortBy::Revision => {
                    let revision = input.int_in_range(0..=i64::MAX)?;
                    let revision = Revision::parse(revision).expect("not negative");
                    CursorKey::Change(revision, input.arbitrary()?)
                }
            };
            let cursor = Cursor {
                key,
                id: id.uuid(),
                within,
            };
            let token = PageToken::encode(&cursor, &first.scope);
            let page = list.page(&token).expect("our own token");
            assert_eq!(page.after, Some(cursor));
            // Nowhere else are they good for anything.
            if other.is_another_than(&list) {
                only_the_token(&other.page(&token).expect_err("a token of another list"));
            }
        }
    }
    Ok(())
}

fn only_the_token(violations: &[FieldViolation]) {
    let fields: Vec<_> = violations.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["page_token"]);
}

impl List {
    fn draw(input: &mut Unstructured<'_>) -> Result<Self> {
        let mut id = || {
            let id = HistoryId::from_bytes([input.int_in_range(0..=1_u8)?; 16]).to_string();
            Ok(id)
        };
        Ok(Self {
            ids: [id()?, id()?],
            number: input.int_in_range(0..=7_u8)?,
            query: input.choose(&["", "a", "b"])?,
            descending: input.arbitrary()?,
            by_time: input.arbitrary()?,
            status: input.int_in_range(0..=2)?,
        })
    }

    /// Whether its tokens are other ones: what a list doesn't have makes no difference.
    fn is_another_than(&self, list: &Self) -> bool {
        let parts = |list: &Self| {
            let order = matches!(list.number, 0 | 3 | 4 | 7).then_some(list.descending);
            let by = matches!(list.number, 0 | 3 | 4).then_some(list.by_time);
            let ids = match list.number {
                0 => &list.ids[..],
                1 | 2 | 5 | 7 => &list.ids[..1],
                _ => &[],
            };
            let query = matches!(list.number, 0 | 2 | 3 | 4).then_some(list.query);
            let status = (list.number == 4).then_some(list.status);
            (list.number, order, by, ids.to_vec(), query, status)
        };
        parts(self) != parts(list)
    }

    /// The page behind a token.
    fn page(&self, token: &str) -> std::result::Result<PageRequest, Vec<FieldViolation>> {
        let [id, other] = self.ids.clone();
        let page_token = token.to_owned();
        let query = self.query.to_owned();
        let order_by = |name: &str| {
            let by = if self.by_time { "create_time" } else { name };
            format!("{by}{}", if self.descending { " desc" } else { "" })
        };
        let page = match self.number {
            0 => ListGroups::try_from(pb::ListGroupsRequest {
                page_token,
                query,
                role_id: id,
                user_id: other,
                order_by: order_by("title"),
                ..Default::default()
            })
            .map(|list| list.page),
            1 => ListRolesInGroup::try_from(pb::ListRolesInGroupRequest {
                page_token,
                group_id: id,
                ..Default::default()
            })
            .map(|list| list.page),
            2 => ListUsersInGroup::try_from(pb::ListUsersInGroupRequest {
                page_token,
                group_id: id,
                query,
                ..Default::default()
            })
            .map(|list| list.page),
            3 => ListRoles::try_from(pb::ListRolesRequest {
                page_token,
                query,
                order_by: order_by("name"),
                ..Default::default()
            })
            .map(|list| list.page),
            4 => ListUsers::try_from(pb::ListUsersRequest {
                page_token,
                query,
                status: self.status,
                order_by: order_by("username"),
                ..Default::default()
            })
            .map(|list| list.page),
            5 => ListRolesOfUser::try_from(pb::ListRolesOfUserRequest {
                page_token,
                user_id: id,
                ..Default::default()
            })
            .map(|list| list.page),
            6 => ListUsersWithAccess::try_from(pb::ListUsersWithAccessRequest {
                page_token,
                bundle: "a".to_owned(),
                controller: "b".to_owned(),
                action: "c".to_owned(),
                ..Default::default()
            })
            .map(|list| list.page),
            _ => ListChanges::try_from(pb::ListChangesRequest {
                page_token,
                filter: Some(pb::ChangeFilter {
                    group_id: id,
                    ..Default::default()
                }),
                order_by: match self.descending {
                    true => "revision desc".to_owned(),
                    false => String::new(),
                },
                ..Default::default()
            })
            .map(|list| list.page),
        };
        page.map_err(|error| match error {
            Error::Invalid(violations) => violations,
            other => panic!("no violation: {other:?}"),
        })
    }
}
