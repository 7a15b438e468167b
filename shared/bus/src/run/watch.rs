//! Whether the process gets on with its work; when it does not, liveness says so and it is started again.

use std::time::{Duration, Instant};

use tracing::{error, info};

use super::Loop;
use crate::Worker;

/// The loop and the polling thread go round many times a second; a callback may hold the thread up for some.
pub(super) const STILL: Duration = Duration::from_secs(60);

/// A handler whose time is up is dropped, as soon as it gives its thread back. One that has not by then never will.
const LET_GO: Duration = Duration::from_secs(5);

impl<W: Worker> Loop<W> {
    /// Looks for a handler that has held a message for too long, and cannot be made to let go of it.
    pub(super) fn look_for_the_stuck(&mut self, now: Instant) {
        let bound = self.attempts.stuck_after.saturating_add(LET_GO);
        let held_for = |held: Instant| now.saturating_duration_since(held);
        let stuck = self.attempts.hands.longest().filter(|held| held_for(held.since) >= bound);
        match (stuck, self.stuck) {
            (Some(held), false) => error!(
                message.partition = held.partition,
                message.offset = held.offset,
                held_seconds = held_for(held.since).as_secs(),
                "a handler is stuck at this message, the process should be restarted (STUCK_SECONDS is the bound)"
            ),
            (None, true) => info!("no handler is stuck any more"),
            (Some(_), true) | (None, false) => return,
        }
        self.stuck = stuck.is_some();
        self.process.health.set_stuck(self.stuck);
    }
}
