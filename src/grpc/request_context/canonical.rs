//! Canonical forms of requests. Two requests are equivalent if they differ only in the spelling of ids and texts, and
//! in the order of lists that are sets. Unknown fields are dropped when a request is decoded, so they don't affect the
//! comparison.

use super::WriteRequest;
use crate::{
    domain::{Description, Name, PersonName},
    pb,
};

/// UUIDs are case-insensitive.
fn id(id: String) -> String {
    id.to_ascii_lowercase()
}

fn ids(ids: Vec<String>) -> Vec<String> {
    let mut ids: Vec<_> = ids.into_iter().map(id).collect();
    ids.sort_unstable();
    ids
}

fn rules(mut rules: Vec<pb::Rule>) -> Vec<pb::Rule> {
    let key = |rule: &pb::Rule| {
        let pb::Rule {
            bundle,
            controller,
            action,
            effect,
        } = rule.clone();
        (bundle, controller, action, effect)
    };
    rules.sort_by_cached_key(key);
    rules
}

/// An invalid value is kept as it is: the request is rejected later.
fn name(text: String) -> String {
    Name::parse(&text).map_or(text, Name::into_string)
}

fn words(text: String) -> String {
    PersonName::parse(&text).map_or(text, PersonName::into_string)
}

fn note(text: String) -> String {
    Description::parse(&text).map_or(text, Description::into_string)
}

macro_rules! normalized {
    ($value:expr) => {
        $value
    };
    ($value:expr, $form:expr) => {
        $form($value)
    };
}

/// Lists every field with its normalization. A field without one is compared as sent.
macro_rules! impl_canonical {
    ($($request:ident { $($field:ident $(: $form:expr)?),+ })+) => {$(
        impl WriteRequest for pb::$request {
            const REQUEST_TYPE: &str = stringify!($request);

            fn request_id(&self) -> &str {
                &self.request_id
            }

            fn canonical(self) -> Self {
                Self { $($field: normalized!(self.$field $(, $form)?)),+ }
            }
        }
    )+};
}

fn optional(form: fn(String) -> String) -> impl Fn(Option<String>) -> Option<String> {
    move |text| text.map(form)
}

impl_canonical! {
    CreateGroupRequest { title: name, role_ids: ids, request_id: id }
    UpdateGroupRequest {
        group_id: id, title: optional(name), add_role_ids: ids, remove_role_ids: ids, etag, request_id: id
    }
    AssignUserRequest { group_id: id, user_id: id, request_id: id }
    UnassignUserRequest { group_id: id, user_id: id, allow_missing, request_id: id }
    BatchAssignUsersRequest { group_id: id, user_ids: ids, request_id: id }
    BatchUnassignUsersRequest { group_id: id, user_ids: ids, request_id: id }
    CreateRoleRequest { name: name, description: note, rules: rules, request_id: id }
    UpdateRoleRequest {
        role_id: id, name: optional(name), description: optional(note), etag, request_id: id,
        add_rules: rules, remove_rules: rules
    }
    CreateUserRequest { username: name, first_name: words, last_name: words, request_id: id }
    UpdateUserRequest {
        user_id: id, username: optional(name), first_name: optional(words), last_name: optional(words), status, etag,
        request_id: id
    }
}
