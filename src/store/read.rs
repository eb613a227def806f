//! The read path: which state a read sees, and from which server.

mod replica;

use std::{
    future::Future,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::{Duration, Instant},
};

use sea_orm::DatabaseExecutor;

use self::replica::read_replica;
use super::{
    At, Db, FRESHNESS_TIMEOUT, Glance, Page, change,
    engine::{Admitted, Reader},
    fair::Kind,
};
use crate::{
    domain::Revision,
    error::{Error, Result},
};

/// How often it is looked into memory while that changes.
const GLANCES: usize = 3;
/// How often a read is tried again that found less than it must.
const BEHIND_INTERVAL: Duration = Duration::from_millis(50);

/// A command that reads the directory.
pub trait Read: Clone + Send + Sync + 'static {
    /// What the command answers with.
    type Output: Seen + Send + 'static;

    /// Whether each of its statements tells the revision that it saw (`View::saw`). Then they need no
    /// transaction as long as they saw the same one, which saves its beginning and its end.
    const TELLS: bool = false;

    /// Whether it can be carried out on what is in memory.
    const CACHED: bool = false;

    /// What is read must be at least as fresh.
    fn min_revision(&self) -> Revision;

    /// Whether it may look at every row of a table, because of what the caller asks for.
    fn searches(&self) -> bool {
        false
    }

    /// Carries the command out on what is in memory; nothing if that can't be, and it must be read.
    ///
    /// # Errors
    /// What is missing in memory can't be read.
    fn recall(
        &self,
        glance: &Glance<'_>,
    ) -> impl Future<Output = Result<Option<Self::Output>>> + Send {
        let _ = glance;
        std::future::ready(Ok(None))
    }

    /// Carries the command out on a state.
    ///
    /// # Errors
    /// Whatever the command fails with.
    fn read(&self, view: &View<'_>) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// What was read, and names the revision that it reflects.
pub trait Seen {
    /// The revision.
    fn revision(&self) -> Revision;
}

impl<T> Seen for At<T> {
    fn revision(&self) -> Revision {
        self.revision
    }
}

impl<T> Seen for Page<T> {
    fn revision(&self) -> Revision {
        self.revision
    }
}

/// A state of the directory: a snapshot, or as long as nobody writes in between, just what is there.
#[derive(Debug)]
pub struct View<'a> {
    db: DatabaseExecutor<'a>,
    revision: AtomicI64,
    torn: AtomicBool,
}

impl<'a> View<'a> {
    fn of(db: impl Into<DatabaseExecutor<'a>>, revision: Revision) -> Self {
        Self {
            db: db.into(),
            revision: AtomicI64::new(revision.number()),
            torn: AtomicBool::new(false),
        }
    }

    /// What statements are carried out on.
    pub(super) fn db(&self) -> &DatabaseExecutor<'a> {
        &self.db
    }

    /// Notes the revision that a statement saw.
    pub(super) fn saw(&self, revision: Revision) {
        let before = self.revision.swap(revision.number(), Ordering::Relaxed);
        if before != 0 && before != revision.number() {
            self.tear();
        }
    }

    /// Notes that a statement couldn't tell what it saw. In a snapshot that doesn't matter.
    pub(super) fn tear(&self) {
        self.torn.store(true, Ordering::Relaxed);
    }

    /// The revision of this state.
    pub(super) fn revision(&self) -> Revision {
        Revision::parse(self.revision.load(Ordering::Relaxed)).unwrap_or_default()
    }
}

/// Carries out a read: from memory, on the replica, or on the primary, whichever comes first in this order and has a
/// state that is
/// - no older than the caller asks for (`min_revision`),
/// - no older than what this instance has answered or acknowledged before,
/// - the present one, or one that was so at most `--max-staleness` ago.
///
/// # Errors
/// What the command fails with, that the directory has never given the revision, or that the database is
/// unavailable.
pub async fn read<R: Read>(db: &Db, command: &R) -> Result<R::Output> {
    let wanted = std::cmp::max(command.min_revision(), db.revisions.answered());
    if R::CACHED && db.cache.is_on() {
        if let Some(output) = recall(db, command, wanted).await {
            db.cache.counts.answered.fetch_add(1, Ordering::Relaxed);
            db.revisions.answer(output.revision());
            return Ok(output);
        }
        db.cache.counts.passed_on.fetch_add(1, Ordering::Relaxed);
    }
    // In a box of its own: whoever is answered from memory needn't carry the room for it about.
    let (result, seen) = Box::pin(read_anew(db, command, wanted)).await?;
    // Also an error tells what there is, and what isn't.
    db.revisions.answer(seen);
    result
}

/// Carries out a read on the database: what it is answered with, and the revision that was seen.
async fn read_anew<R: Read>(
    db: &Db,
    command: &R,
    wanted: Revision,
) -> Result<(Result<R::Output>, Revision)> {
    if let Some(replica) = db
        .replica
        .as_deref()
        .filter(|replica| replica.is_usable(db, wanted))
        && let Some(answer) = read_replica(db, replica, command, wanted).await
    {
        return Ok(answer);
    }
    db.health.while_there(db.reached(wanted)).await?;
    let begun = Instant::now();
    loop {
        let read = async {
            Ok(match db.reader.enter(kind(command)).await {
                Ok(admitted) => attempt(&db.reader, admitted, command, wanted).await,
                Err(error) => (Err(error), Revision::NONE),
            })
        };
        let (result, seen) = db.health.while_there(read).await?;
        db.health.note(&result);
        match result {
            Err(error @ (Error::Unavailable(_) | Error::Overloaded(_) | Error::Internal(_))) => {
                return Err(error);
            }
            result if seen >= wanted => {
                db.reach(seen);
                return Ok((result, seen));
            }
            // It is committed, but not on this server yet.
            _ if begun.elapsed() < FRESHNESS_TIMEOUT => tokio::time::sleep(BEHIND_INTERVAL).await,
            _ => {
                return Err(Error::Unavailable(
                    "the server that is read from is behind".into(),
                ));
            }
        }
    }
}

/// Carries a read out on what is in memory, if that is fresh enough. Errors are left to those who read.
async fn recall<R: Read>(db: &Db, command: &R, wanted: Revision) -> Option<R::Output> {
    for _ in 0..GLANCES {
        db.health.check().ok()?;
        let glance = Glance::begin(db)?;
        let present = db.revisions.present_at(glance.revision())?;
        // Looked at twice: reading may have taken its time, or the process may have been stopped meanwhile.
        let recent = || present.elapsed() < db.max_staleness;
        if !recent() {
            return None;
        }
        if glance.revision() >= wanted {
            match command.recall(&glance).await {
                Ok(Some(output)) if glance.holds() && recent() => return Some(output),
                // Something is newer than the rest: soon the rest will be known to be right for that, too.
                Ok(None) if glance.moved() => {}
                Ok(_) | Err(_) => return None,
            }
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Whether it is what the command is answered with, and no fault of the connection.
fn is_answer(error: &Error) -> bool {
    !matches!(
        error,
        Error::Conflict(_) | Error::Overloaded(_) | Error::Unavailable(_) | Error::Internal(_)
    )
}

fn kind<R: Read>(command: &R) -> Kind {
    if command.searches() {
        Kind::Search
    } else {
        Kind::Other
    }
}

/// Reads once, and tells the revision that was seen.
async fn attempt<R: Read>(
    reader: &Reader,
    admitted: Admitted,
    command: &R,
    wanted: Revision,
) -> (Result<R::Output>, Revision) {
    let command = command.clone();
    let read = async move { read_admitted(admitted, &command, wanted).await };
    match reader.finish(read).await {
        Ok(read) => read,
        Err(error) => (Err(error), Revision::NONE),
    }
}

async fn read_admitted<R: Read>(
    mut admitted: Admitted,
    command: &R,
    wanted: Revision,
) -> (Result<R::Output>, Revision) {
    if R::TELLS {
        let db = match admitted.lend().await {
            Ok(db) => db,
            Err(error) => return (Err(error.into()), Revision::NONE),
        };
        let view = View::of(db, Revision::NONE);
        let result = command.read(&view).await;
        let seen = view.revision();
        let stale = result.is_err() && seen < wanted;
        let torn = view.torn.load(Ordering::Relaxed) || stale;
        drop(view);
        if result.as_ref().err().is_none_or(is_answer) {
            admitted.done();
        }
        match &result {
            Err(Error::Unavailable(_) | Error::Overloaded(_)) => return (result, seen),
            _ if !torn => return (result, seen),
            _ => {}
        }
    }
    let mut seen = Revision::NONE;
    let within = async {
        let snapshot = admitted.snapshot().await?;
        seen = change::directory(snapshot).await?.revision;
        command.read(&View::of(snapshot, seen)).await
    };
    let result = within.await;
    if result.as_ref().err().is_none_or(is_answer) {
        admitted.done();
    }
    (result, seen)
}
