//! The directory's time: that of writes, and the one by which it is judged how old something is. One instance's clock
//! may be wrong, and must not decide what all of them lose.
//!
//! On a server it is the server's clock. Every probe reads it, and between two of them it is carried on by monotonic
//! time. SQLite has no clock of its own: there it is this machine's, which is followed as long as it doesn't jump.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use super::Db;
use crate::domain::Timestamp;

/// Clocks that differ by more are wrong.
const TOLERANCE: Duration = Duration::from_secs(10);

/// The directory's time.
#[derive(Debug)]
pub(super) struct Clock {
    begin: Instant,
    /// The directory's time at `begin`, in microseconds since 1970.
    time_at_begin: AtomicI64,
    /// Whether the database has no clock of its own.
    is_local: bool,
}

impl Clock {
    /// One that shows this machine's time, until more is known.
    pub(super) fn new(is_local: bool) -> Self {
        Self {
            begin: Instant::now(),
            time_at_begin: AtomicI64::new(Timestamp::now().micros()),
            is_local,
        }
    }

    /// The present time.
    pub(super) fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The time of a write. Where this machine's clock has jumped ahead and there is no other, it may be right: a
    /// machine that was suspended sees the same.
    pub(super) fn of_write(&self) -> Timestamp {
        if self.is_local {
            self.now().max(Timestamp::now())
        } else {
            self.now()
        }
    }

    /// Learns what the database's clock showed at some instant between these two. The previous
    /// estimate is kept if it is within the error of this measurement.
    pub(super) fn learn(&self, [asked, answered]: [Instant; 2], shown: Timestamp) {
        let (earliest, latest) = (self.at(asked), self.at(answered));
        self.correct(shown.micros() - shown.clamp(earliest, latest).micros());
    }

    /// Follows this machine's clock, unless it has jumped.
    pub(super) fn follow(&self) {
        if !self.is_doubtful() {
            self.correct(self.ahead());
        }
    }

    /// By how many microseconds this machine's clock is ahead; negative if it is behind.
    fn ahead(&self) -> i64 {
        Timestamp::now().micros() - self.now().micros()
    }

    fn is_doubtful(&self) -> bool {
        u128::from(self.ahead().unsigned_abs()) > TOLERANCE.as_micros()
    }

    fn at(&self, instant: Instant) -> Timestamp {
        let at_begin = Timestamp::from_micros(self.time_at_begin.load(Ordering::Relaxed));
        at_begin.after(instant.saturating_duration_since(self.begin))
    }

    fn correct(&self, by: i64) {
        self.time_at_begin.fetch_add(by, Ordering::Relaxed);
    }
}

impl Db {
    /// The directory's time: of all instances the same, whatever their clocks.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// By how many seconds this machine's clock is ahead of the directory's time; negative if it is behind.
    #[must_use]
    pub fn clock_difference(&self) -> f64 {
        let ahead = self.clock.ahead();
        Duration::from_micros(ahead.unsigned_abs())
            .as_secs_f64()
            .copysign(if ahead < 0 { -1.0 } else { 1.0 })
    }

    /// Whether this machine's clock agrees with the directory's time. If not, one of them is wrong, and it can't be
    /// judged how old something is.
    #[must_use]
    pub fn clocks_agree(&self) -> bool {
        !self.clock.is_doubtful()
    }
}
