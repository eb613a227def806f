//! Conversions of `groups.v1.ChangeService` requests to commands, and of changes to responses.

use std::{collections::HashSet, sync::Arc};

use crate::{
    domain::{
        Actor, ChangeFilter, ChangeKind, DeletedResource, DeletedResourceDetails, GroupId,
        HistoryId, ListChanges, Order, PageRequest, PersonName, RecordedChange, Revision, RoleId,
        Scope, Timestamp, UserId, Value, Violations, WatchChanges,
    },
    error::Error,
    feed::WatchBatch,
    grpc::timestamp,
    pb::{self, value::Value as Wire},
};

impl TryFrom<pb::ListChangesRequest> for ListChanges {
    type Error = Error;

    fn try_from(request: pb::ListChangesRequest) -> Result<Self, Error> {
        let pb::ListChangesRequest {
            page_size,
            page_token,
            filter,
            order_by,
            from_revision,
            history_id,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let filter = parse_filter(&mut violations, filter.unwrap_or_default());
        // Scoped to the parsed filter, so that a page token stays valid for an equivalent filter that is written
        // differently.
        let scope = filter.as_ref().map(|filter| {
            Scope::new("changes").words(&[&format!("{filter:?}"), &from_revision.to_string()])
        });
        let order = violations.check("order_by", Order::parse_changes(&order_by));
        let from = violations.check("from_revision", Revision::parse(from_revision));
        let history = violations.optional_id::<HistoryId>("history_id", &history_id);
        let min_revision = violations.check("min_revision", Revision::parse(min_revision));
        let page = PageRequest::parse(&mut violations, page_size, &page_token, order, scope);
        match (page, filter, from, history, min_revision) {
            (Some(page), Some(filter), Some(from), Some(history), Some(min_revision)) => Ok(Self {
                page,
                filter,
                from: non_zero(from),
                history,
                min_revision,
            }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::WatchChangesRequest> for WatchChanges {
    type Error = Error;

    fn try_from(request: pb::WatchChangesRequest) -> Result<Self, Error> {
        let pb::WatchChangesRequest {
            from_revision,
            history_id,
            filter,
        } = request;
        let mut violations = Violations::default();
        let from = violations.check("from_revision", Revision::parse(from_revision));
        let history = violations.optional_id::<HistoryId>("history_id", &history_id);
        let filter = parse_filter(&mut violations, filter.unwrap_or_default());
        match (from, history, filter) {
            (Some(from), Some(history), Some(filter)) => Ok(Self {
                from: non_zero(from),
                history,
                filter,
            }),
            _ => Err(violations.into()),
        }
    }
}

fn non_zero(revision: Revision) -> Option<Revision> {
    (revision != Revision::NONE).then_some(revision)
}

fn parse_filter(violations: &mut Violations, filter: pb::ChangeFilter) -> Option<ChangeFilter> {
    let pb::ChangeFilter {
        group_id,
        role_id,
        user_id,
        actor,
        kinds,
        start_time,
        end_time,
    } = filter;
    let group = violations.optional_id::<GroupId>("filter.group_id", &group_id);
    let role = violations.optional_id::<RoleId>("filter.role_id", &role_id);
    let user = violations.optional_id::<UserId>("filter.user_id", &user_id);
    let actor = violations.check("filter.actor", Actor::parse(&actor));
    let kinds = parse_kinds(violations, &kinds);
    let start = parse_bound(violations, "filter.start_time", start_time);
    let end = parse_bound(violations, "filter.end_time", end_time);
    let exactly = |time: prost_types::Timestamp| (time.seconds, time.nanos);
    if let (Some(_), Some(_)) = (start, end)
        && let (Some(start), Some(end)) = (start_time, end_time)
        && exactly(end) < exactly(start)
    {
        violations.add("filter.end_time", "must not be before start_time");
        return None;
    }
    Some(ChangeFilter {
        group: group?,
        role: role?,
        user: user?,
        actor: Some(actor?).filter(|actor| !actor.as_str().is_empty()),
        kinds: kinds?,
        start: start?,
        end: end?,
    })
}

fn parse_kinds(violations: &mut Violations, kinds: &[i32]) -> Option<Vec<ChangeKind>> {
    let mut seen = HashSet::new();
    let mut read = Vec::new();
    for (index, number) in kinds.iter().enumerate() {
        let kind = ChangeKind::from_number(*number);
        let field = format!("filter.kinds[{index}]");
        match kind {
            Some(_) if !seen.insert(*number) => violations.add(field, "must not be given twice"),
            Some(kind) => read.push(kind),
            None => violations.add(field, "must be a kind of change"),
        }
        if read.len() <= index {
            // Stops at the first violation, because the list of kinds has no limit of its own and neither would its
            // violations.
            return None;
        }
    }
    read.sort_unstable();
    Some(read)
}

/// Rounds a time bound up to whole microseconds. Changes have microsecond times, so `>=` and `<` then select the same
/// changes as the exact bound.
fn parse_bound(
    violations: &mut Violations,
    field: &str,
    time: Option<prost_types::Timestamp>,
) -> Option<Option<Timestamp>> {
    let Some(prost_types::Timestamp { seconds, nanos }) = time else {
        return Some(None);
    };
    let micros = (0..1_000_000_000)
        .contains(&nanos)
        .then(|| {
            seconds
                .checked_mul(1_000_000)?
                .checked_add(i64::from((nanos + 999) / 1000))
        })
        .flatten();
    if micros.is_none() {
        violations.add(field, "must be a time");
    }
    micros.map(|micros| Some(Timestamp::from_micros(micros)))
}

impl From<WatchBatch> for pb::WatchChangesResponse {
    fn from(
        WatchBatch {
            changes,
            complete,
            history,
        }: WatchBatch,
    ) -> Self {
        Self {
            changes: changes
                .into_iter()
                .map(|change| Arc::unwrap_or_clone(change).into())
                .collect(),
            revision: complete.number(),
            history_id: history.to_string(),
        }
    }
}

impl From<RecordedChange> for pb::Change {
    fn from(recorded: RecordedChange) -> Self {
        let RecordedChange {
            revision,
            index,
            time,
            actor,
            request_id,
            change,
        } = recorded;
        let subject = |id: String, name: crate::domain::Name| pb::Subject {
            id,
            name: name.into_string(),
        };
        Self {
            revision: revision.number(),
            index,
            kind: change.kind.number(),
            time: Some(timestamp(time)),
            actor: actor.as_str().to_owned(),
            request_id: request_id.map(|id| id.to_string()).unwrap_or_default(),
            group: change.group.map(|(id, name)| subject(id.to_string(), name)),
            role: change.role.map(|(id, name)| subject(id.to_string(), name)),
            user: change.user.map(|(id, name)| subject(id.to_string(), name)),
            before: change.before.map(Into::into),
            after: change.after.map(Into::into),
            last_state: change.deleted.map(Into::into),
        }
    }
}

impl From<DeletedResource> for pb::LastState {
    fn from(deleted: DeletedResource) -> Self {
        let DeletedResource {
            created_at,
            updated_at,
            version,
            details,
        } = deleted;
        let common = Self {
            create_time: Some(timestamp(created_at)),
            update_time: Some(timestamp(updated_at)),
            etag: version.etag(),
            ..Self::default()
        };
        match details {
            DeletedResourceDetails::Group => common,
            DeletedResourceDetails::Role { description } => Self {
                description: description.into_string(),
                ..common
            },
            DeletedResourceDetails::User {
                first_name,
                last_name,
                status,
            } => Self {
                person_name: Some(person_name(first_name, last_name)),
                status: pb::UserStatus::from(status).into(),
                ..common
            },
        }
    }
}

fn person_name(first_name: PersonName, last_name: PersonName) -> pb::PersonName {
    pb::PersonName {
        first_name: first_name.into_string(),
        last_name: last_name.into_string(),
    }
}

impl From<Value> for pb::Value {
    fn from(value: Value) -> Self {
        let value = match value {
            Value::Name(name) => Wire::Name(name.into_string()),
            Value::Description(note) => Wire::Description(note.into_string()),
            Value::Raw(text) => Wire::Raw(text),
            Value::Rule(rule) => Wire::Rule(rule.into()),
            Value::PersonName(first, last) => Wire::PersonName(person_name(first, last)),
        };
        Self { value: Some(value) }
    }
}
