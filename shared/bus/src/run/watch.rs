//! Whether the process gets on with its work; when it does not, liveness says so and it is started again.

use std::time::{Duration, Instant};

use tracing::{error, info};

use super::Loop;
use crate::Worker;

/// The loop and the polling thread go round many times a second; a callback may hold the thread up for some.
pub(super) const STILL: Duration = Duration::from_secs(60);

impl<W: Worker> Loop<W> {
    /// Looks for a handler that has held a message for too long.
    pub(super) fn look_for_the_stuck(&mut self, now: Instant) {
        let bound = self.config.stuck_after.unwrap_or(W::STUCK_AFTER);
        let stuck = self.attempts.hands.longest().filter(|held| now >= held.since + bound);
        match (stuck, self.stuck) {
            (Some(held), false) => error!(
                message.partition = held.partition,
                message.offset = held.offset,
                held_seconds = now.saturating_duration_since(held.since).as_secs(),
                "a handler is stuck at this message, the process should be restarted (STUCK_SECONDS is the bound)"
            ),
            (None, true) => info!("no handler is stuck any more"),
            (Some(_), true) | (None, false) => return,
        }
        self.stuck = stuck.is_some();
        self.process.health.set_stuck(self.stuck);
    }
}
