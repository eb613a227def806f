//! The directory's time: the time of writes, and the one by which ages are measured. A single instance's clock may be
//! wrong, and must not decide what expires for all instances.
//!
//! With a database server it is the server's clock: every probe reads it, and in between it advances by monotonic time.
//! SQLite has no clock, so this machine's is used, as long as it doesn't jump.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use super::Db;
use crate::domain::Timestamp;

/// Clocks that differ by more than this are considered wrong.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(10);

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
    /// A clock that shows this machine's time until it is synchronized.
    pub(super) fn new(is_local: bool) -> Self {
        Self {
            begin: Instant::now(),
            time_at_begin: AtomicI64::new(Timestamp::now().micros()),
            is_local,
        }
    }

    /// The current time.
    pub(super) fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The time of a write. If this machine's clock has jumped ahead and is the only one, it may be right: it also
    /// jumps when the machine was suspended.
    pub(super) fn write_time(&self) -> Timestamp {
        if self.is_local {
            self.now().max(Timestamp::now())
        } else {
            self.now()
        }
    }

    /// Sets the clock to what the database's clock showed at some instant between these two. The previous estimate is
    /// kept if it is within the error of this measurement.
    pub(super) fn synchronize(&self, [asked, answered]: [Instant; 2], shown: Timestamp) {
        let (earliest, latest) = (self.at(asked), self.at(answered));
        self.correct(shown.micros() - shown.clamp(earliest, latest).micros());
    }

    /// Follows this machine's clock, unless it has jumped.
    pub(super) fn follow_system_clock(&self) {
        if !self.is_out_of_sync() {
            self.correct(self.ahead());
        }
    }

    /// Microseconds that this machine's clock is ahead of the directory's time; negative if it is behind.
    fn ahead(&self) -> i64 {
        Timestamp::now().micros() - self.now().micros()
    }

    fn is_out_of_sync(&self) -> bool {
        u128::from(self.ahead().unsigned_abs()) > MAX_CLOCK_DIFFERENCE.as_micros()
    }

    fn at(&self, instant: Instant) -> Timestamp {
        let at_begin = Timestamp::from_micros(self.time_at_begin.load(Ordering::Relaxed));
        at_begin.plus(instant.saturating_duration_since(self.begin))
    }

    fn correct(&self, by: i64) {
        self.time_at_begin.fetch_add(by, Ordering::Relaxed);
    }
}

impl Db {
    /// The directory's time: the same on all instances, whatever their clocks.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Seconds that this machine's clock is ahead of the directory's time; negative if it is behind.
    #[must_use]
    pub fn clock_difference(&self) -> f64 {
        let ahead = self.clock.ahead();
        Duration::from_micros(ahead.unsigned_abs())
            .as_secs_f64()
            .copysign(if ahead < 0 { -1.0 } else { 1.0 })
    }

    /// Whether this machine's clock agrees with the directory's time. If not, one of them is wrong, and ages can't be
    /// measured.
    #[must_use]
    pub fn clocks_agree(&self) -> bool {
        !self.clock.is_out_of_sync()
    }
}
