//! The change log: recording changes, reading them, and expiring them.

mod expire;
mod record;
mod row;
mod time_range;

use std::sync::Arc;

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
    sea_query::{Expr, ExprTrait},
};

use super::{Db, Page, RequestContext, engine::ReadPermit};
use crate::{
    domain::{ChangeFilter, Cursor, CursorKey, HistoryId, ListChanges, RecordedChange, Revision},
    entity::{change, directory},
    error::{Error, Result},
};

pub use expire::expire;
pub(super) use record::{insert_changes, to_rows};

/// Reads the row of the directory: its history, its revision, and the oldest revision that is kept.
pub(super) async fn read_directory(db: &impl ConnectionTrait) -> Result<directory::Model> {
    let row = directory::Entity::find().one(db).await?;
    row.ok_or_else(|| Error::Internal("the directory has no row".into()))
}

/// Reads a page of changes; returns it with the history to which they belong.
///
/// # Errors
/// The wanted revision is no longer kept, or was never allocated, or belongs to another history; or the database is
/// unavailable.
pub async fn list(db: &Db, list: &ListChanges) -> Result<(Page<RecordedChange>, HistoryId)> {
    db.wait_for_revision(list.min_revision).await?;
    let permit = db.acquire_read().await?;
    let (reading, list) = (db.clone(), list.clone());
    let read = async move { list_with_permit(&reading, permit, &list).await };
    db.reader.run_to_completion(read).await?
}

async fn list_with_permit(
    db: &Db,
    mut permit: ReadPermit,
    list: &ListChanges,
) -> Result<(Page<RecordedChange>, HistoryId)> {
    let ListChanges {
        page,
        filter,
        from,
        history,
        min_revision: _,
    } = list;
    let snapshot = db.snapshot(&mut permit).await?;
    let directory = read_directory(snapshot).await?;
    db.record_committed(directory.revision);
    check_history(*history, &directory)?;
    let wanted = match &page.after {
        Some(Cursor {
            key: CursorKey::Change(revision, _),
            ..
        }) if !page.order.descending => Some(*revision),
        _ => *from,
    };
    check_range(wanted, &directory)?;

    let mut select = matching(filter);
    let cursor = page.after.as_ref().map(|cursor| &cursor.key);
    if let Some(CursorKey::Change(revision, index)) = cursor {
        select = select.filter(after_position(*revision, *index, page.order.descending));
    }
    let range = time_range::revision_range(snapshot, &directory, filter).await?;
    // Never two bounds on one side: SQLite would start at the first of them, and scan all rows up to the second.
    if cursor.is_none() || page.order.descending {
        let oldest = std::cmp::max(from.unwrap_or_default(), directory.oldest_revision);
        let oldest = std::cmp::max(oldest, range.first);
        select = select.filter(change::Column::Revision.gte(oldest));
    }
    if let Some(end) = range.end
        && (cursor.is_none() || !page.order.descending)
    {
        select = select.filter(change::Column::Revision.lt(end));
    }
    let order = if page.order.descending {
        sea_orm::Order::Desc
    } else {
        sea_orm::Order::Asc
    };
    let rows = select
        .order_by(change::Column::Revision, order.clone())
        .order_by(change::Column::Ordinal, order)
        .limit(u64::from(page.size) + 1)
        .all(snapshot)
        .await?;
    permit.mark_clean();
    db.revisions.record_returned(directory.revision);
    let rows = rows.into_iter().map(row::decode).collect();
    let page = super::page::paginate(rows, page, |recorded, _| Cursor {
        key: CursorKey::Change(recorded.revision, recorded.index),
        id: sea_orm::prelude::Uuid::nil(),
        within: None,
    });
    Ok((
        Page {
            revision: directory.revision,
            ..page
        },
        directory.history_id,
    ))
}

/// A section of the change log, as read for the feed.
#[derive(Debug)]
pub(crate) struct ChangeSlice {
    /// The changes that match the filter, in order.
    pub(crate) changes: Vec<Arc<RecordedChange>>,
    /// The position after everything that was read.
    pub(crate) position: (Revision, i32),
    /// Every revision up to and including this one was read completely.
    pub(crate) complete: Revision,
}

/// Reads at most `limit` changes after a position, in the order of the change log.
///
/// # Errors
/// The changes are no longer kept, or the database is unavailable.
pub(crate) async fn read_after(
    db: &Db,
    place: (Revision, i32),
    filter: &ChangeFilter,
    limit: usize,
) -> Result<ChangeSlice> {
    let read = async {
        let permit = db.acquire_read().await?;
        let (reading, filter) = (db.clone(), filter.clone());
        let read =
            async move { read_after_with_permit(&reading, permit, place, &filter, limit).await };
        db.reader.run_to_completion(read).await?
    };
    db.health.while_reachable(read).await
}

async fn read_after_with_permit(
    db: &Db,
    mut permit: ReadPermit,
    (revision, index): (Revision, i32),
    filter: &ChangeFilter,
    limit: usize,
) -> Result<ChangeSlice> {
    let snapshot = db.snapshot(&mut permit).await?;
    let directory = read_directory(snapshot).await?;
    db.record_committed(directory.revision);
    // After the last change of a revision, the next revision is wanted.
    let next = if index == i32::MAX {
        revision.next()
    } else {
        revision
    };
    check_range(Some(next), &directory)?;
    let rows = matching(filter)
        .filter(after_position(revision, index, false))
        .order_by_asc(change::Column::Revision)
        .order_by_asc(change::Column::Ordinal)
        .limit(limit as u64 + 1)
        .all(snapshot)
        .await?;
    permit.mark_clean();
    let mut changes = rows
        .into_iter()
        .map(|row| Arc::new(row::decode(row)))
        .collect::<Vec<_>>();
    let beyond = changes.split_off(changes.len().min(limit)).pop();
    Ok(match (changes.last(), beyond) {
        (Some(last), Some(beyond)) => ChangeSlice {
            position: (last.revision, last.index),
            complete: std::cmp::min(beyond.revision.previous(), last.revision),
            changes,
        },
        _ => ChangeSlice {
            position: (directory.revision, i32::MAX),
            complete: directory.revision,
            changes,
        },
    })
}

/// The position after which a feed starts, and the directory's history.
///
/// # Errors
/// The wanted revision is no longer kept, or was never allocated, or belongs to another history; or the database is
/// unavailable.
pub(crate) async fn start_position(
    db: &Db,
    from: Option<Revision>,
    history: Option<HistoryId>,
) -> Result<((Revision, i32), HistoryId)> {
    let read = async {
        let mut permit = db.acquire_read().await?;
        let reading = db.clone();
        let read = async move {
            let snapshot = reading.snapshot(&mut permit).await?;
            let directory = read_directory(snapshot).await?;
            permit.mark_clean();
            Ok(directory)
        };
        db.reader.run_to_completion(read).await?
    };
    // A watcher has no deadline, so it must not wait for a server that has become unreachable.
    let directory = db.health.while_reachable(read).await?;
    db.record_committed(directory.revision);
    check_history(history, &directory)?;
    check_range(from, &directory)?;
    let behind = from.map_or(directory.revision, Revision::previous);
    Ok(((behind, i32::MAX), directory.history_id))
}

fn check_history(wanted: Option<HistoryId>, directory: &directory::Model) -> Result<()> {
    if wanted.is_none_or(|history| directory.history_id == history) {
        Ok(())
    } else {
        Err(Error::RevisionUnknown {
            present: directory.revision,
        })
    }
}

fn check_range(wanted: Option<Revision>, directory: &directory::Model) -> Result<()> {
    match wanted {
        Some(revision) if revision > directory.revision.next() => Err(Error::RevisionUnknown {
            present: directory.revision,
        }),
        Some(revision) if revision < directory.oldest_revision => Err(Error::RevisionCompacted {
            oldest: directory.oldest_revision,
        }),
        _ => Ok(()),
    }
}

fn after_position(revision: Revision, index: i32, descending: bool) -> Condition {
    use change::Column as C;
    let (from, tie) = if descending {
        let tie = Condition::any()
            .add(C::Revision.lt(revision))
            .add(C::Ordinal.lt(index));
        (C::Revision.lte(revision), tie)
    } else {
        let tie = Condition::any()
            .add(C::Revision.gt(revision))
            .add(C::Ordinal.gt(index));
        (C::Revision.gte(revision), tie)
    };
    Condition::all().add(from).add(tie)
}

fn matching(filter: &ChangeFilter) -> Select<change::Entity> {
    use change::Column as C;
    let ChangeFilter {
        group,
        role,
        user,
        actor,
        kinds,
        start,
        end,
    } = filter;
    let selective = group.is_some() || role.is_some() || user.is_some() || actor.is_some();
    let of_kinds = match &kinds[..] {
        [] => None,
        [kind] if !selective => Some(C::Kind.eq(*kind)),
        // `+ 0` keeps the index of kinds from being used: it doesn't have several kinds in the order of the list, and
        // beside another filter that filter's index is the better one.
        kinds => {
            let numbers = kinds.iter().map(|kind| i32::from(*kind as i16));
            Some(Expr::col(C::Kind).add(0).is_in(numbers))
        }
    };
    let wanted = Condition::all()
        .add_option(group.map(|id| C::GroupId.eq(id)))
        .add_option(role.map(|id| C::RoleId.eq(id)))
        .add_option(user.map(|id| C::UserId.eq(id)))
        .add_option(actor.as_ref().map(|actor| C::Actor.eq(actor.clone())))
        .add_option(of_kinds)
        // `+ 0` keeps the index of times from being used, which isn't in the order of the list; `time_range` bounds the
        // revisions instead.
        .add_option(start.map(|time| Expr::col(C::Time).add(0).gte(time.micros())))
        .add_option(end.map(|time| Expr::col(C::Time).add(0).lt(time.micros())));
    change::Entity::find().filter(wanted)
}
