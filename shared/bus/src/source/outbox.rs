//! The one way from the thread, and the callbacks that run on it, to the loop.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

use super::FromKafka;
use super::record::{Copier, Record, Weights};
use super::tails::Tails;
use crate::sys::Message;

/// So many messages go to the loop together: a wake-up costs as much as handling some of them.
const MESSAGES: usize = 128;
/// So many bytes do, whatever their number.
const BYTES: usize = 1024 * 1024;

/// Keeps the order: messages go before what is said after them.
pub(super) struct Outbox {
    batch: Mutex<Batch>,
    events: UnboundedSender<FromKafka>,
}

struct Batch {
    copier: Copier,
    records: Vec<Record>,
    /// Messages since the last were sent, and their bytes.
    messages: usize,
    bytes: usize,
    tails: Tails,
}

impl Outbox {
    /// What it holds, and what it has handed over until it is let go, counts among `held`.
    pub fn new(events: UnboundedSender<FromKafka>, held: Arc<Weights>) -> Self {
        let batch = Batch {
            copier: Copier::new(held),
            records: Vec::new(),
            messages: 0,
            bytes: 0,
            tails: Tails::default(),
        };
        Self {
            batch: Mutex::new(batch),
            events,
        }
    }

    /// Adds a message to those that go next; `true` when it is time for them to.
    pub fn add(&self, message: Message<'_>) -> bool {
        let mut batch = self.batch();
        let Batch { copier, records, .. } = &mut *batch;
        batch.bytes += copier.add(message, records);
        batch.messages += 1;
        batch.tails.saw(message.partition(), message.offset());
        batch.messages >= MESSAGES || batch.bytes >= BYTES
    }

    /// Sends the messages that are waiting.
    pub fn send(&self) {
        let records = {
            let mut batch = self.batch();
            let Batch { copier, records, .. } = &mut *batch;
            copier.finish(records);
            (batch.messages, batch.bytes) = (0, 0);
            std::mem::take(&mut batch.records)
        };
        if !records.is_empty() {
            self.tell(FromKafka::Records(records));
        }
    }

    /// Says something, after the messages that came before it.
    pub fn say(&self, event: FromKafka) {
        self.send();
        if matches!(event, FromKafka::Assigned(_) | FromKafka::Revoked { .. } | FromKafka::Lost(_)) {
            self.batch().tails = Tails::default();
        }
        self.tell(event);
    }

    /// The last messages added since this was last asked; none of before a rebalance.
    pub fn tails(&self) -> Tails {
        std::mem::take(&mut self.batch().tails)
    }

    /// The loop may have ended already; then nobody needs to know.
    fn tell(&self, event: FromKafka) {
        drop(self.events.send(event));
    }

    /// Only one thread ever locks it.
    fn batch(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_goes_and_comes_back_is_not_at_the_end_that_it_had_before() {
        let (events, _heard) = tokio::sync::mpsc::unbounded_channel();
        let outbox = Outbox::new(events, Arc::default());
        for rebalance in [FromKafka::Lost(vec![0]), FromKafka::Assigned(vec![0])] {
            outbox.batch().tails.saw(0, 9);
            outbox.say(rebalance);
            assert!(outbox.tails().is_empty());
        }
        outbox.batch().tails.saw(0, 9);
        outbox.say(FromKafka::FetchingAgain);
        assert!(!outbox.tails().is_empty(), "what is no rebalance forgets nothing");
    }
}
