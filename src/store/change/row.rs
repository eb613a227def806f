//! Conversion of changes to rows and back.

use sea_orm::{
    ActiveEnum,
    ActiveValue::{NotSet, Set},
};

use super::{RequestContext, change};
use crate::domain::{
    Change, ChangeKind, DeletedResource, DeletedResourceDetails, Description, Effect, MAX_ACTION,
    MAX_BUNDLE, Name, Pattern, PersonName, RecordedChange, Revision, Rule, Timestamp, UserStatus,
    Value, Version,
};

/// Separates the parts of a value. No text from callers contains it.
const SEPARATOR: char = '\u{1f}';

pub(super) fn encode(
    change: Change,
    revision: Revision,
    index: i32,
    context: &RequestContext,
    now: Timestamp,
) -> change::ActiveModel {
    let Change {
        kind,
        group,
        role,
        user,
        before,
        after,
        deleted,
    } = change;
    let (group_id, group_title) = group.unzip();
    let (role_id, role_name) = role.unzip();
    let (user_id, username) = user.unzip();
    change::ActiveModel {
        revision: Set(revision),
        ordinal: Set(index),
        kind: Set(kind),
        time: Set(now),
        actor: Set(context.actor.clone()),
        request_id: Set(context
            .idempotency_key
            .as_ref()
            .map(|idempotency_key| idempotency_key.id)),
        group_id: Set(group_id),
        group_title: Set(group_title),
        role_id: Set(role_id),
        role_name: Set(role_name),
        user_id: Set(user_id),
        username: Set(username),
        before: Set(before.map(text)),
        after: Set(after.map(text)),
        // Most changes have none; with `NotSet` their statement doesn't contain the column.
        deleted: deleted.map_or(NotSet, |deleted| Set(Some(last_state(deleted)))),
    }
}

pub(super) fn decode(row: change::Model) -> RecordedChange {
    let kind = row.kind.known();
    // A newer version may have written unknown kinds, or unknown values of known kinds: these are passed on unchanged.
    let value = |text: String| {
        let value = kind.and_then(|kind| value(kind, &text));
        value.unwrap_or(Value::Raw(text))
    };
    RecordedChange {
        revision: row.revision,
        index: row.ordinal,
        time: row.time,
        actor: row.actor,
        request_id: row.request_id,
        change: Change {
            kind: row.kind,
            group: row.group_id.zip(row.group_title),
            role: row.role_id.zip(row.role_name),
            user: row.user_id.zip(row.username),
            before: row.before.map(value),
            after: row.after.map(value),
            deleted: kind
                .zip(row.deleted)
                .and_then(|(kind, text)| deleted(kind, &text)),
        },
    }
}

fn text(value: Value) -> String {
    match value {
        Value::Name(name) => name.into_string(),
        Value::Description(description) => description.into_string(),
        Value::Raw(text) => text,
        Value::PersonName(first, last) => {
            format!("{}{SEPARATOR}{}", first.into_string(), last.into_string())
        }
        Value::Rule(rule) => {
            let effect = match rule.effect {
                Effect::Allow => "allow",
                Effect::Deny => "deny",
            };
            let parts = [rule.bundle, rule.controller, rule.action].map(Pattern::into_string);
            let [bundle, controller, action] = parts;
            [effect, &bundle, &controller, &action].join(&SEPARATOR.to_string())
        }
    }
}

fn value(kind: ChangeKind, text: &str) -> Option<Value> {
    match kind {
        ChangeKind::RoleDescribed => Some(Value::Description(Description::from_stored(text))),
        ChangeKind::UserNamed => {
            let (first, last) = text.split_once(SEPARATOR)?;
            Some(Value::PersonName(
                PersonName::from_stored(first),
                PersonName::from_stored(last),
            ))
        }
        ChangeKind::RuleAdded | ChangeKind::RuleRemoved => {
            let mut parts = text.split(SEPARATOR);
            let effect = match parts.next()? {
                "allow" => Effect::Allow,
                "deny" => Effect::Deny,
                _ => return None,
            };
            Some(Value::Rule(Rule {
                bundle: Pattern::parse(parts.next()?, MAX_BUNDLE).ok()?,
                controller: Pattern::parse(parts.next()?, MAX_BUNDLE).ok()?,
                action: Pattern::parse(parts.next()?, MAX_ACTION).ok()?,
                effect,
            }))
        }
        _ => Some(Value::Name(Name::from_stored(text))),
    }
}

/// Encodes the last state of a deleted resource: the fields that all kinds have, then those of its kind.
fn last_state(deleted: DeletedResource) -> String {
    let DeletedResource {
        created_at,
        updated_at,
        version,
        details,
    } = deleted;
    let mut parts = vec![
        created_at.micros().to_string(),
        updated_at.micros().to_string(),
        version.number().to_string(),
    ];
    match details {
        DeletedResourceDetails::Group => {}
        DeletedResourceDetails::Role { description } => parts.push(description.into_string()),
        DeletedResourceDetails::User {
            first_name,
            last_name,
            status,
        } => {
            parts.extend([first_name.into_string(), last_name.into_string()]);
            parts.push(status.into_value().to_string());
        }
    }
    parts.join(&SEPARATOR.to_string())
}

/// Decodes a last state. Parts that a newer version has appended are ignored.
fn deleted(kind: ChangeKind, text: &str) -> Option<DeletedResource> {
    let mut parts = text.split(SEPARATOR);
    let created_at = parts.next()?.parse().ok()?;
    let updated_at = parts.next()?.parse().ok()?;
    let version = parts.next()?.parse().ok()?;
    let details = match kind {
        ChangeKind::GroupDeleted => DeletedResourceDetails::Group,
        ChangeKind::RoleDeleted => DeletedResourceDetails::Role {
            description: Description::from_stored(parts.next()?),
        },
        ChangeKind::UserDeleted => DeletedResourceDetails::User {
            first_name: PersonName::from_stored(parts.next()?),
            last_name: PersonName::from_stored(parts.next()?),
            status: UserStatus::try_from_value(&parts.next()?.parse().ok()?).ok()?,
        },
        _ => return None,
    };
    Some(DeletedResource {
        created_at: Timestamp::from_micros(created_at),
        updated_at: Timestamp::from_micros(updated_at),
        version: Version::from_number(version),
        details,
    })
}
