//! The log filter, which can be changed while the process runs.

use std::sync::{Arc, PoisonError, RwLock};

use tracing::Metadata;
use tracing_subscriber::filter::Targets;

/// Never logged: this target logs lines of password files and values of database URL parameters verbatim.
const SECRET_TARGET: &str = "sqlx_postgres::options";

/// The log filter. tracing caches its result for each callsite until [`Self::set`] is called, so that calls don't pay
/// for its being changeable.
#[derive(Clone, Debug)]
pub struct LogFilter(Arc<RwLock<Targets>>);

impl LogFilter {
    /// A filter that enables these targets.
    #[must_use]
    pub fn new(targets: Targets) -> Self {
        Self(Arc::new(RwLock::new(targets)))
    }

    /// Replaces the enabled targets.
    pub fn set(&self, targets: Targets) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = targets;
        // After the lock is released, because this evaluates the filter for every callsite.
        tracing::callsite::rebuild_interest_cache();
    }

    pub(super) fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.target().starts_with(SECRET_TARGET) {
            return false;
        }
        let targets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        targets.would_enable(metadata.target(), metadata.level())
    }
}
