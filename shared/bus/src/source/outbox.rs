//! The one way from the thread, and the callbacks that run on it, to the loop.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

use super::{FromKafka, Record};

/// So many messages go to the loop together: a wake-up costs as much as handling some of them.
const MESSAGES: usize = 128;
/// So many bytes do, whatever their number.
const BYTES: usize = 1024 * 1024;

/// Keeps the order: messages go before what is said after them.
pub(super) struct Outbox {
    batch: Mutex<Batch>,
    events: UnboundedSender<FromKafka>,
}

#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    bytes: usize,
}

impl Outbox {
    pub fn new(events: UnboundedSender<FromKafka>) -> Self {
        Self {
            batch: Mutex::default(),
            events,
        }
    }

    /// Adds a message to those that go next; `true` when it is time for them to.
    pub fn add(&self, record: Record) -> bool {
        let mut batch = self.batch();
        batch.bytes += record.len();
        batch.records.push(record);
        batch.records.len() >= MESSAGES || batch.bytes >= BYTES
    }

    /// Sends the messages that are waiting.
    pub fn send(&self) {
        let Batch { records, .. } = std::mem::take(&mut *self.batch());
        if !records.is_empty() {
            self.tell(FromKafka::Records(records));
        }
    }

    /// Says something, after the messages that came before it.
    pub fn say(&self, event: FromKafka) {
        self.send();
        self.tell(event);
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
