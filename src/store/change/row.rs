//! Changes to rows and back.

use sea_orm::{
    ActiveEnum,
    ActiveValue::{NotSet, Set},
};

use super::{Origin, change};
use crate::domain::{
    Change, ChangeKind, Deleted, DeletedDetails, Effect, MAX_ACTION, MAX_BUNDLE, Name, Note,
    Pattern, Recorded, Revision, Rule, Timestamp, UserStatus, Value, Version, Words,
};

/// Between the parts of a value: no text that callers give has it.
const SEPARATOR: char = '\u{1f}';

pub(super) fn encode(
    change: Change,
    revision: Revision,
    index: i32,
    origin: &Origin,
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
        actor: Set(origin.actor.clone()),
        request_id: Set(origin.once.as_ref().map(|once| once.id)),
        group_id: Set(group_id),
        group_title: Set(group_title),
        role_id: Set(role_id),
        role_name: Set(role_name),
        user_id: Set(user_id),
        username: Set(username),
        before: Set(before.map(text)),
        after: Set(after.map(text)),
        // Most changes have none, and no place in their statement for it.
        deleted: deleted.map_or(NotSet, |deleted| Set(Some(last_state(deleted)))),
    }
}

pub(super) fn decode(row: change::Model) -> Recorded {
    let kind = row.kind.known();
    // A newer version may have other kinds, and other values of those that are known: they are passed on as they are.
    let value = |text: String| {
        let value = kind.and_then(|kind| value(kind, &text));
        value.unwrap_or(Value::Raw(text))
    };
    Recorded {
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
        Value::Description(note) => note.into_string(),
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
        ChangeKind::RoleDescribed => Some(Value::Description(Note::stored(text))),
        ChangeKind::UserNamed => {
            let (first, last) = text.split_once(SEPARATOR)?;
            Some(Value::PersonName(Words::stored(first), Words::stored(last)))
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
        _ => Some(Value::Name(Name::stored(text))),
    }
}

/// The last state of what was deleted, as it is stored: what all have, then what is of its kind.
fn last_state(deleted: Deleted) -> String {
    let Deleted {
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
        DeletedDetails::Group => {}
        DeletedDetails::Role { description } => parts.push(description.into_string()),
        DeletedDetails::User {
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

/// Reads a last state. Parts that a newer version has added behind those that are known are passed over.
fn deleted(kind: ChangeKind, text: &str) -> Option<Deleted> {
    let mut parts = text.split(SEPARATOR);
    let created_at = parts.next()?.parse().ok()?;
    let updated_at = parts.next()?.parse().ok()?;
    let version = parts.next()?.parse().ok()?;
    let details = match kind {
        ChangeKind::GroupDeleted => DeletedDetails::Group,
        ChangeKind::RoleDeleted => DeletedDetails::Role {
            description: Note::stored(parts.next()?),
        },
        ChangeKind::UserDeleted => DeletedDetails::User {
            first_name: Words::stored(parts.next()?),
            last_name: Words::stored(parts.next()?),
            status: UserStatus::try_from_value(&parts.next()?.parse().ok()?).ok()?,
        },
        _ => return None,
    };
    Some(Deleted {
        created_at: Timestamp::from_micros(created_at),
        updated_at: Timestamp::from_micros(updated_at),
        version: Version::from_number(version),
        details,
    })
}
