//! What a worker's process has done so far: measured from, and told in the line at its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows, and costs nothing to count.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counts of one process; a clone counts on.
#[derive(Clone, Default)]
pub struct Tally(Arc<Counts>);

/// Messages unless their name says otherwise.
#[derive(Default)]
pub struct Counts {
    /// Delivered by the broker.
    pub received: Count,
    pub done: Count,
    pub rejected: Count,
    /// Attempts that failed and will be repeated.
    pub retried: Count,
    /// Attempts that ended because a dependency is down.
    pub unavailable: Count,
    pub dead: Count,
    /// Events that were sent and acknowledged.
    pub published: Count,
    /// Commits of offsets that the broker took.
    pub commits: Count,
    pub commits_refused: Count,
    /// Times that the group gave us partitions, took some, or declared them lost.
    pub assigned: Count,
    pub revoked: Count,
    pub lost: Count,
    /// Questions to the ledger that got no answer.
    pub ledger_failures: Count,
    /// Microseconds from the start of `main` to the first message in a handler's hands; 0 when there was none.
    pub cold_start_us: Count,
    /// Loops that have begun: 0 in a process that is no worker.
    pub loops: Count,
}

impl std::ops::Deref for Tally {
    type Target = Counts;

    fn deref(&self) -> &Counts {
        &self.0
    }
}
