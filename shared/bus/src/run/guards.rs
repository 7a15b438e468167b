//! What keeps the loop from doing harm: the cap on dead letters, and the circuit.

use std::time::Instant;

use runtime::Exit;
use tracing::{error, info, warn};

use super::Loop;
use crate::Worker;

impl<W: Worker> Loop<W> {
    /// Ends because of too many dead letters. What is in flight may still be done; what fails stays in the topic.
    pub(super) fn trip(&mut self) {
        if self.ending == Exit::DeadLetterCap {
            return;
        }
        error!(
            topic = self.config.kafka.name(W::NAME),
            "too many dead letters: the worker fails and not the messages, they stay in the topic; deploy a mended version, or run \
             `scripts/redrive TOPIC --reset`"
        );
        self.ending = Exit::DeadLetterCap;
        if self.stopping.is_none() {
            self.stop("too many dead letters");
        }
    }

    /// Ends because a dead letter cannot be written: whatever else fails would have to wait for ever.
    pub(super) fn end_unwritten(&mut self) {
        if self.ending == Exit::Drained {
            self.ending = Exit::NotAcknowledged;
        }
        if self.stopping.is_none() {
            self.stop("a dead letter cannot be written");
        }
    }

    pub(super) fn open_circuit(&mut self) {
        if self.circuit.unavailable(Instant::now(), rand::random()) {
            warn!("something that the handler needs is unavailable: beginning nothing but a probe now and then");
            self.meters.circuit(true);
        }
    }

    pub(super) fn close_circuit(&mut self) {
        if let Some(open) = self.circuit.done(Instant::now) {
            info!(open_seconds = open.as_secs_f64(), "what was unavailable is there again, going on");
            self.meters.circuit(false);
        }
    }

    /// The time is up. With something unavailable that is no good end: nothing says that there was nothing to do.
    pub(super) fn end_of_time(&mut self) {
        if self.circuit.is_open() {
            self.ending = Exit::Unavailable;
        }
        self.stop("the maximum run time is over");
    }
}
