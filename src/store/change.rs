//! Revisions and changes: taking the one, recording the other, and reading them back.

mod expire;
mod record;
mod row;
mod time;

use std::sync::Arc;

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
    sea_query::{Expr, ExprTrait},
};

use super::{Db, Origin, Page, engine::Admitted};
use crate::{
    domain::{ChangeFilter, Cursor, CursorKey, HistoryId, ListChanges, Recorded, Revision},
    entity::{change, directory},
    error::{Error, Result},
};

pub use expire::expire;
pub(super) use record::{record, rows};

/// The directory as a whole: its history, its revision, and the oldest that is kept.
pub(super) async fn directory(db: &impl ConnectionTrait) -> Result<directory::Model> {
    let row = directory::Entity::find().one(db).await?;
    row.ok_or_else(|| Error::Internal("the directory has no row".into()))
}

/// A page of changes, and the history that they are of.
///
/// # Errors
/// What is asked for is no longer kept, or was never given; or the database is unavailable.
pub async fn list(db: &Db, list: &ListChanges) -> Result<(Page<Recorded>, HistoryId)> {
    db.reached(list.min_revision).await?;
    let admitted = db.admitted().await?;
    let (reading, list) = (db.clone(), list.clone());
    let read = async move { list_admitted(&reading, admitted, &list).await };
    db.reader.finish(read).await?
}

async fn list_admitted(
    db: &Db,
    mut admitted: Admitted,
    list: &ListChanges,
) -> Result<(Page<Recorded>, HistoryId)> {
    let ListChanges {
        page,
        filter,
        from,
        history,
        min_revision: _,
    } = list;
    let snapshot = db.snapshot(&mut admitted).await?;
    let directory = directory(snapshot).await?;
    db.reach(directory.revision);
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
        select = select.filter(behind(*revision, *index, page.order.descending));
    }
    let between = time::revisions(snapshot, &directory, filter).await?;
    // Never two bounds on one side: SQLite would begin at the first of them, and pass over all up to the second.
    if cursor.is_none() || page.order.descending {
        let oldest = std::cmp::max(from.unwrap_or_default(), directory.oldest_revision);
        let oldest = std::cmp::max(oldest, between.first);
        select = select.filter(change::Column::Revision.gte(oldest));
    }
    if let Some(end) = between.end
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
    admitted.done();
    db.revisions.answer(directory.revision);
    let rows = rows.into_iter().map(row::decode).collect();
    let page = super::page::cut(rows, page, |recorded, _| Cursor {
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

/// Part of the feed.
#[derive(Debug)]
pub(crate) struct Slice {
    /// The changes that are wanted, in order.
    pub(crate) changes: Vec<Arc<Recorded>>,
    /// The place behind all that was looked at.
    pub(crate) position: (Revision, i32),
    /// Every revision up to and with this one was looked at whole.
    pub(crate) complete: Revision,
}

/// The changes behind a place, at most `limit` of them, as they stand in the table.
///
/// # Errors
/// They are no longer kept, or the database is unavailable.
pub(crate) async fn after(
    db: &Db,
    place: (Revision, i32),
    filter: &ChangeFilter,
    limit: usize,
) -> Result<Slice> {
    let read = async {
        let admitted = db.admitted().await?;
        let (reading, filter) = (db.clone(), filter.clone());
        let read = async move { read_after(&reading, admitted, place, &filter, limit).await };
        db.reader.finish(read).await?
    };
    db.health.while_there(read).await
}

async fn read_after(
    db: &Db,
    mut admitted: Admitted,
    (revision, index): (Revision, i32),
    filter: &ChangeFilter,
    limit: usize,
) -> Result<Slice> {
    let snapshot = db.snapshot(&mut admitted).await?;
    let directory = directory(snapshot).await?;
    db.reach(directory.revision);
    // Behind the last change of a revision, the next one is what is wanted.
    let next = if index == i32::MAX {
        revision.next()
    } else {
        revision
    };
    check_range(Some(next), &directory)?;
    let rows = matching(filter)
        .filter(behind(revision, index, false))
        .order_by_asc(change::Column::Revision)
        .order_by_asc(change::Column::Ordinal)
        .limit(limit as u64 + 1)
        .all(snapshot)
        .await?;
    admitted.done();
    let mut changes = rows
        .into_iter()
        .map(|row| Arc::new(row::decode(row)))
        .collect::<Vec<_>>();
    let beyond = changes.split_off(changes.len().min(limit)).pop();
    Ok(match (changes.last(), beyond) {
        (Some(last), Some(beyond)) => Slice {
            position: (last.revision, last.index),
            complete: std::cmp::min(beyond.revision.previous(), last.revision),
            changes,
        },
        _ => Slice {
            position: (directory.revision, i32::MAX),
            complete: directory.revision,
            changes,
        },
    })
}

/// Where a feed begins: behind this place.
///
/// # Errors
/// It is no longer kept, or was never given.
pub(crate) async fn start(
    db: &Db,
    from: Option<Revision>,
    history: Option<HistoryId>,
) -> Result<((Revision, i32), HistoryId)> {
    let read = async {
        let mut admitted = db.admitted().await?;
        let reading = db.clone();
        let read = async move {
            let snapshot = reading.snapshot(&mut admitted).await?;
            let directory = directory(snapshot).await?;
            admitted.done();
            Ok(directory)
        };
        db.reader.finish(read).await?
    };
    // A watcher has no deadline: it must not wait for a server that went away.
    let directory = db.health.while_there(read).await?;
    db.reach(directory.revision);
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

fn behind(revision: Revision, index: i32, descending: bool) -> Condition {
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
        // Several stand in no order together, and beside other filters the index of kinds is the worse one.
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
        // Not by the index of times, which isn't in the order of the list: `time` tells where to look.
        .add_option(start.map(|time| Expr::col(C::Time).add(0).gte(time.micros())))
        .add_option(end.map(|time| Expr::col(C::Time).add(0).lt(time.micros())));
    change::Entity::find().filter(wanted)
}
