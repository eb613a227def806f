//! What is logged, which may be changed while it serves.

use std::sync::{Arc, PoisonError, RwLock};

use tracing::Metadata;
use tracing_subscriber::filter::Targets;

/// Who logs lines of files with passwords as they are, and values of parameters of database URLs: never logged.
const SECRET: &str = "sqlx_postgres::options";

/// What is logged. Each place that logs is asked about once, and again when this is changed: a call doesn't pay for
/// its being changeable.
#[derive(Clone, Debug)]
pub struct LogFilter(Arc<RwLock<Targets>>);

impl LogFilter {
    /// This, to begin with.
    #[must_use]
    pub fn new(targets: Targets) -> Self {
        Self(Arc::new(RwLock::new(targets)))
    }

    /// This from now on.
    pub fn set(&self, targets: Targets) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = targets;
        // Not while the lock is held: every place is asked about anew.
        tracing::callsite::rebuild_interest_cache();
    }

    pub(super) fn wants(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.target().starts_with(SECRET) {
            return false;
        }
        let targets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        targets.would_enable(metadata.target(), metadata.level())
    }
}
