//! Any bytes as the message of any RPC: a command whose values are valid, or violations that name the message's
//! fields. The first byte says which RPC.
#![no_main]

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::OnceLock,
};

use group_service::{
    domain::{
        AccessRequest, Actor, AssignUsers, BatchCheckAccess, ChangeFilter, CheckAccess,
        CreateGroup, CreateRole, CreateUser, DeleteGroup, DeleteRole, DeleteUser, Description, Get,
        GroupId, ListChanges, ListGroups, ListRoles, ListRolesInGroup, ListRolesOfUser, ListUsers,
        ListUsersInGroup, ListUsersWithAccess, Literal, MAX_ACTION, MAX_BUNDLE, Name, PageRequest,
        Pattern, PersonName, Revision, RoleId, Rule, SearchQuery, SearchText, SortBy,
        UnassignUsers, UpdateGroup, UpdateRole, UpdateUser, UserId, WatchChanges,
    },
    error::Error,
    pb,
};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use prost_types::FileDescriptorSet;

/// No request gets more complaints: a thousand rules to add and to remove, each wrong in four ways, and a few more.
const MAX_VIOLATIONS: usize = 2 * 4 * 1000 + 100;

macro_rules! rpcs {
    ($($rpc:literal $request:ident $command:ty)+) => {
        /// How many there are.
        const RPCS: usize = [$($rpc),+].len();

        fn convert(rpc: usize, bytes: &[u8]) {
            let mut number = 0;
            $(
                if rpc == number {
                    return through::<pb::$request, $command>(stringify!($request), bytes);
                }
                number += 1;
            )+
            unreachable!("{number} RPCs");
        }

        /// The requests that there are here.
        fn known() -> BTreeSet<&'static str> {
            BTreeSet::from([$(stringify!($request)),+])
        }
    };
}

rpcs! {
    "CheckAccess" CheckAccessRequest CheckAccess
    "BatchCheckAccess" BatchCheckAccessRequest BatchCheckAccess
    "ListUsersWithAccess" ListUsersWithAccessRequest ListUsersWithAccess
    "ListChanges" ListChangesRequest ListChanges
    "WatchChanges" WatchChangesRequest WatchChanges
    "CreateGroup" CreateGroupRequest CreateGroup
    "GetGroup" GetGroupRequest Get<GroupId>
    "ListGroups" ListGroupsRequest ListGroups
    "UpdateGroup" UpdateGroupRequest UpdateGroup
    "DeleteGroup" DeleteGroupRequest DeleteGroup
    "ListRolesInGroup" ListRolesInGroupRequest ListRolesInGroup
    "ListUsersInGroup" ListUsersInGroupRequest ListUsersInGroup
    "AssignUser" AssignUserRequest AssignUsers
    "UnassignUser" UnassignUserRequest UnassignUsers
    "BatchAssignUsers" BatchAssignUsersRequest AssignUsers
    "BatchUnassignUsers" BatchUnassignUsersRequest UnassignUsers
    "CreateRole" CreateRoleRequest CreateRole
    "GetRole" GetRoleRequest Get<RoleId>
    "ListRoles" ListRolesRequest ListRoles
    "UpdateRole" UpdateRoleRequest UpdateRole
    "DeleteRole" DeleteRoleRequest DeleteRole
    "CreateUser" CreateUserRequest CreateUser
    "GetUser" GetUserRequest Get<UserId>
    "ListUsers" ListUsersRequest ListUsers
    "UpdateUser" UpdateUserRequest UpdateUser
    "DeleteUser" DeleteUserRequest DeleteUser
    "ListRolesOfUser" ListRolesOfUserRequest ListRolesOfUser
}

fuzz_target!(|data: &[u8]| {
    let Some((rpc, message)) = data.split_first() else {
        return;
    };
    convert(usize::from(*rpc) % RPCS, message);
});

fn through<M, C>(kind: &'static str, bytes: &[u8])
where
    M: Message + Default,
    C: TryFrom<M, Error = Error> + Valid,
{
    let Ok(message) = M::decode(bytes) else {
        return;
    };
    match C::try_from(message) {
        Ok(command) => command.check(),
        Err(Error::Invalid(violations)) => {
            assert!(!violations.is_empty(), "refused without a reason");
            assert!(violations.len() <= MAX_VIOLATIONS, "{}", violations.len());
            for one in &violations {
                let field = one.field.split(['.', '[']).next().unwrap_or_default();
                assert!(fields(kind).contains(field), "{one:?} of {kind}");
                assert!(!one.description.is_empty(), "{one:?}");
                // What a caller sent isn't sent back at any length.
                assert!(one.description.len() < 200, "{one:?}");
            }
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// The fields of a request, by the contract's own description.
fn fields(kind: &str) -> &'static BTreeSet<String> {
    static FIELDS: OnceLock<HashMap<String, BTreeSet<String>>> = OnceLock::new();
    let fields = FIELDS.get_or_init(|| {
        let set = FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).expect("a descriptor set");
        let files = set
            .file
            .into_iter()
            .filter(|file| file.package() == "groups.v1");
        let (mut messages, mut requests) = (HashMap::new(), BTreeSet::new());
        for file in files {
            for service in &file.service {
                let methods = service.method.iter();
                requests.extend(methods.map(|rpc| {
                    let name = rpc.input_type().rsplit('.').next();
                    name.unwrap_or_default().to_owned()
                }));
            }
            for message in file.message_type {
                let fields = message.field.iter().map(|field| field.name().to_owned());
                messages.insert(message.name().to_owned(), fields.collect());
            }
        }
        let known: BTreeSet<_> = known().into_iter().map(str::to_owned).collect();
        assert_eq!(known, requests, "an RPC is missing here");
        messages
    });
    &fields[kind]
}

/// A command whose values can be looked at.
trait Valid {
    /// Panics if the domain wouldn't have it.
    fn check(&self);
}

fn name(name: &Name) {
    let text = name.as_str();
    assert_eq!(
        Name::parse(text).as_ref(),
        Ok(name),
        "normalized, and stays so"
    );
    assert_eq!(text.trim(), text);
    assert!((1..=255).contains(&text.chars().count()));
    assert!(!text.contains(char::is_control));
    assert!(name.sort_key().as_bytes().len() <= 1000);
    check_characters(text);
    // Characters that are ignored tell no names apart, and other cases don't.
    for same in [
        format!("{text}\u{200b}"),
        format!("\u{ad} {text}"),
        text.to_lowercase(),
    ] {
        if let Ok(same) = Name::parse(&same) {
            assert_eq!(name.unique_key(), same.unique_key(), "{text:?}, {same:?}");
        }
    }
    // A name is found by itself, if it has words that a query may have.
    let found = SearchText::name(name);
    if let Ok(Some(query)) = SearchQuery::parse(text) {
        let mut words = query.words().iter();
        assert!(words.all(|word| found.as_str().contains(word)), "{text:?}");
    }
}

fn words(words: &PersonName) {
    let text = words.clone().into_string();
    assert_eq!(PersonName::parse(&text).as_ref(), Ok(words));
    assert!(text.chars().count() <= 255 && !text.contains(char::is_control));
    check_characters(&text);
}

fn check_characters(text: &str) {
    assert!(!text.contains([
        '\u{200e}', '\u{202e}', '\u{2066}', '\u{2028}', '\u{2029}', '\u{ffff}'
    ]));
}

fn note(note: &Description) {
    assert_eq!(Description::parse(note.as_str()).as_ref(), Ok(note));
    assert!(note.as_str().chars().count() <= 1000);
    assert!(!note.as_str().contains('\0'));
}

fn once<T: Eq + Hash>(list: &[T], most: usize) {
    assert!(list.len() <= most);
    let distinct: std::collections::HashSet<_> = list.iter().collect();
    assert_eq!(distinct.len(), list.len(), "each once");
}

fn apart<T: Eq>(add: &[T], remove: &[T]) {
    assert!(
        add.iter().all(|one| !remove.contains(one)),
        "added and removed"
    );
}

fn rules(rules: &[Rule]) {
    once(rules, 1000);
    for Rule {
        bundle,
        controller,
        action,
        effect: _,
    } in rules
    {
        for (part, max) in [
            (bundle, MAX_BUNDLE),
            (controller, MAX_BUNDLE),
            (action, MAX_ACTION),
        ] {
            assert_eq!(Pattern::parse(part.as_str(), max).as_ref(), Ok(part));
        }
    }
}

fn question(question: &AccessRequest) {
    let AccessRequest {
        bundle,
        controller,
        action,
    } = question;
    for (part, max) in [
        (bundle, MAX_BUNDLE),
        (controller, MAX_BUNDLE),
        (action, MAX_ACTION),
    ] {
        let text = part.as_str();
        assert_eq!(Literal::parse(text.to_owned(), max).as_ref(), Ok(part));
        // No question asks for everything at once.
        assert_ne!(text, "*");
        assert!((1..=max).contains(&text.len()) && text.is_ascii());
    }
}

fn query(query: Option<&SearchQuery>) {
    let Some(query) = query else {
        return;
    };
    let words = query.words();
    assert!((1..=10).contains(&words.len()));
    assert!(
        words
            .iter()
            .all(|word| !word.is_empty() && !word.contains(char::is_whitespace))
    );
    // Some characters become many: then the words are too long to be asked for again.
    let again = words.join(" ");
    if again.chars().count() <= 255 {
        assert_eq!(
            SearchQuery::parse(&again).as_ref(),
            Ok(&Some(query.clone()))
        );
    }
}

fn page(page: &PageRequest, by: &[SortBy]) {
    assert!((1..=1000).contains(&page.size));
    assert!(by.contains(&page.order.by));
}

fn revision(revision: Revision) {
    assert!(revision.number() >= 0);
}

fn filter(filter: &ChangeFilter) {
    let kinds: Vec<_> = filter.kinds.iter().map(|kind| kind.number()).collect();
    once(&kinds, 19);
    if let Some(actor) = &filter.actor {
        assert!(!actor.as_str().is_empty());
        assert_eq!(Actor::parse(actor.as_str()).as_ref(), Ok(actor));
    }
    if let (Some(start), Some(end)) = (filter.start, filter.end) {
        assert!(start <= end);
    }
}

const OF_ROWS: &[SortBy] = &[SortBy::Name, SortBy::CreateTime];
const BY_NAME: &[SortBy] = &[SortBy::Name];

macro_rules! valid {
    ($($command:ty: |$it:ident| $check:block)+) => {$(
        impl Valid for $command {
            fn check(&self) {
                let $it = self;
                $check
            }
        }
    )+};
}

valid! {
    CheckAccess: |it| {
        assert_eq!(it.questions.len(), 1);
        it.questions.iter().for_each(|(_, one)| question(one));
        revision(it.min_revision);
    }
    BatchCheckAccess: |it| {
        let count = it.check.questions.len() + it.malformed.len();
        assert!((1..=1000).contains(&count));
        it.check.questions.iter().for_each(|(_, one)| question(one));
        revision(it.check.min_revision);
        // In order, each at a place of its own, and each for a reason.
        assert!(it.malformed.is_sorted_by(|(one, _), (next, _)| one < next));
        for (index, violations) in &it.malformed {
            assert!(*index < count);
            assert!((1..=4).contains(&violations.len()), "{violations:?}");
            for one in violations {
                assert!(["user_id", "bundle", "controller", "action"].contains(&&*one.field), "{one:?}");
                assert!(!one.description.is_empty() && one.description.len() < 200, "{one:?}");
            }
        }
    }
    ListUsersWithAccess: |it| {
        question(&it.question);
        page(&it.page, BY_NAME);
        revision(it.min_revision);
    }
    ListChanges: |it| {
        filter(&it.filter);
        page(&it.page, &[SortBy::Revision]);
        assert!(it.from.is_none_or(|from| from > Revision::NONE));
    }
    WatchChanges: |it| {
        filter(&it.filter);
        assert!(it.from.is_none_or(|from| from > Revision::NONE));
    }
    CreateGroup: |it| {
        name(&it.title);
        assert!(!it.role_ids.is_empty());
        once(&it.role_ids, 100);
    }
    Get<GroupId>: |it| { revision(it.min_revision); }
    Get<RoleId>: |it| { revision(it.min_revision); }
    Get<UserId>: |it| { revision(it.min_revision); }
    ListGroups: |it| {
        page(&it.page, OF_ROWS);
        query(it.query.as_ref());
        revision(it.min_revision);
    }
    UpdateGroup: |it| {
        it.title.iter().for_each(name);
        once(&it.add, 100);
        once(&it.remove, 100);
        apart(&it.add, &it.remove);
    }
    DeleteGroup: |_it| {}
    ListRolesInGroup: |it| {
        page(&it.page, BY_NAME);
        revision(it.min_revision);
    }
    ListUsersInGroup: |it| {
        page(&it.page, BY_NAME);
        query(it.query.as_ref());
        revision(it.min_revision);
    }
    AssignUsers: |it| {
        assert!(!it.user_ids.is_empty());
        once(&it.user_ids, 1000);
    }
    UnassignUsers: |it| {
        assert!(!it.user_ids.is_empty());
        once(&it.user_ids, 1000);
    }
    CreateRole: |it| {
        name(&it.name);
        note(&it.description);
        rules(&it.rules);
    }
    ListRoles: |it| {
        page(&it.page, OF_ROWS);
        query(it.query.as_ref());
        revision(it.min_revision);
    }
    UpdateRole: |it| {
        it.name.iter().for_each(name);
        it.description.iter().for_each(note);
        rules(&it.add);
        rules(&it.remove);
        apart(&it.add, &it.remove);
    }
    DeleteRole: |_it| {}
    CreateUser: |it| {
        name(&it.username);
        words(&it.first_name);
        words(&it.last_name);
    }
    ListUsers: |it| {
        page(&it.page, OF_ROWS);
        query(it.query.as_ref());
        revision(it.min_revision);
    }
    UpdateUser: |it| {
        it.username.iter().for_each(name);
        it.first_name.iter().chain(&it.last_name).for_each(words);
    }
    DeleteUser: |_it| {}
    ListRolesOfUser: |it| {
        page(&it.page, BY_NAME);
        revision(it.min_revision);
    }
}
