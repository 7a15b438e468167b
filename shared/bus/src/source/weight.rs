//! What the loop holds, in messages and bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rdkafka::message::{Message as _, OwnedMessage};

/// How much the loop holds, so that the thread can pause fetching without asking.
#[derive(Default)]
pub(super) struct Weights {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Weights {
    pub(super) fn above(&self, messages: usize, bytes: usize) -> bool {
        self.messages.load(Ordering::Relaxed) > messages || self.bytes.load(Ordering::Relaxed) > bytes
    }
}

/// A message that counts against the bound for as long as it is held.
pub(crate) struct Weighed {
    pub message: OwnedMessage,
    bytes: usize,
    weights: Arc<Weights>,
}

impl Weighed {
    pub(super) fn new(message: OwnedMessage, weights: Arc<Weights>) -> Self {
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        // Headers and what keeping a message costs are about half a kilobyte.
        let bytes = length(message.payload()) + length(message.key()) + 512;
        weights.messages.fetch_add(1, Ordering::Relaxed);
        weights.bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { message, bytes, weights }
    }
}

impl Drop for Weighed {
    fn drop(&mut self) {
        self.weights.messages.fetch_sub(1, Ordering::Relaxed);
        self.weights.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
