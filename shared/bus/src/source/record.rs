//! A message as the loop holds it, and how much it holds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rdkafka::message::{BorrowedMessage, Headers as _, Message as _, Timestamp as KafkaTimestamp};

/// What keeping a message costs besides its bytes.
const OVERHEAD: usize = 256;
/// Stands for the length of a header's value that is null.
const NULL: u32 = u32::MAX;

/// How much the loop holds, so that the thread can stop fetching without asking.
#[derive(Default)]
pub(crate) struct Weights {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    paused: AtomicBool,
}

impl Weights {
    /// Messages and their bytes, and whether fetching is paused because of them.
    pub fn now(&self) -> (usize, usize, bool) {
        (
            self.messages.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
            self.paused.load(Ordering::Relaxed),
        )
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    pub(super) fn above(&self, messages: usize, bytes: usize) -> bool {
        self.messages.load(Ordering::Relaxed) > messages || self.bytes.load(Ordering::Relaxed) > bytes
    }
}

/// A message, copied out of librdkafka's buffer in one piece: a message that is kept must not keep the whole answer to
/// a fetch alive. It counts against the bound for as long as it is held.
pub(crate) struct Record {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: KafkaTimestamp,
    /// The headers, the key, the value.
    bytes: Box<[u8]>,
    /// Where the headers end.
    key_at: usize,
    /// Where the key ends.
    value_at: usize,
    has_key: bool,
    has_value: bool,
    has_headers: bool,
    /// No header's name is anything but text.
    pub readable: bool,
    weights: Arc<Weights>,
}

impl Record {
    /// Copies a message; `scratch` is where its parts are joined.
    pub(super) fn new(message: &BorrowedMessage<'_>, scratch: &mut Vec<u8>, weights: &Arc<Weights>) -> Self {
        scratch.clear();
        let headers = message.headers();
        // rdkafka takes a header's name for UTF-8, which nobody has to keep to, and panics when it is not.
        let readable = catch_unwind(AssertUnwindSafe(|| {
            for header in headers.iter().flat_map(|h| h.iter()) {
                put_header(scratch, header.key.as_bytes(), header.value);
            }
        }))
        .is_ok();
        let key_at = scratch.len();
        scratch.extend_from_slice(message.key().unwrap_or_default());
        let value_at = scratch.len();
        scratch.extend_from_slice(message.payload().unwrap_or_default());
        weights.messages.fetch_add(1, Ordering::Relaxed);
        weights.bytes.fetch_add(scratch.len() + OVERHEAD, Ordering::Relaxed);
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp(),
            bytes: scratch.as_slice().into(),
            key_at,
            value_at,
            has_key: message.key().is_some(),
            has_value: message.payload().is_some(),
            has_headers: headers.is_some(),
            readable,
            weights: weights.clone(),
        }
    }

    /// Copies a message that no bound of the loop counts.
    pub fn alone(message: &BorrowedMessage<'_>) -> Self {
        Self::new(message, &mut Vec::new(), &Arc::default())
    }

    pub fn key(&self) -> Option<&[u8]> {
        self.bytes.get(self.key_at..self.value_at).filter(|_| self.has_key)
    }

    pub fn value(&self) -> Option<&[u8]> {
        self.bytes.get(self.value_at..).filter(|_| self.has_value)
    }

    /// The headers in their order, or `None` when the message has none at all.
    pub fn headers(&self) -> Option<RecordHeaders<'_>> {
        self.bytes.get(..self.key_at).filter(|_| self.has_headers).map(RecordHeaders)
    }

    /// The bytes of key, value and headers.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.weights.messages.fetch_sub(1, Ordering::Relaxed);
        self.weights.bytes.fetch_sub(self.bytes.len() + OVERHEAD, Ordering::Relaxed);
    }
}

/// Headers as they lie in a [`Record`]: two lengths, the name, the value.
#[derive(Clone, Copy)]
pub(crate) struct RecordHeaders<'r>(&'r [u8]);

impl<'r> RecordHeaders<'r> {
    /// The value of the first header of this name.
    pub fn get(mut self, name: &str) -> Option<&'r [u8]> {
        self.find(|(n, _)| *n == name.as_bytes()).and_then(|(_, value)| value)
    }
}

impl<'r> Iterator for RecordHeaders<'r> {
    type Item = (&'r [u8], Option<&'r [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_length, rest) = self.0.split_first_chunk::<4>()?;
        let (value_length, rest) = rest.split_first_chunk::<4>()?;
        let value_length = u32::from_le_bytes(*value_length);
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*name_length) as usize)?;
        let length = if value_length == NULL { 0 } else { value_length as usize };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((name, (value_length != NULL).then_some(value)))
    }
}

/// Kafka's lengths are 32 bits wide, so that these conversions keep them.
fn put_header(bytes: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&value.map_or(NULL, |v| v.len() as u32).to_le_bytes());
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(value.unwrap_or_default());
}

#[cfg(test)]
impl Record {
    /// A message that never was on a broker: offset, time, headers and key.
    pub fn made(offset: i64, written_ms: i64, headers: &[(&str, Option<&[u8]>)], key: &[u8]) -> Self {
        let mut bytes = Vec::new();
        for (name, value) in headers {
            put_header(&mut bytes, name.as_bytes(), *value);
        }
        let key_at = bytes.len();
        bytes.extend_from_slice(key);
        let weights = Arc::new(Weights::default());
        weights.messages.fetch_add(1, Ordering::Relaxed);
        weights.bytes.fetch_add(bytes.len() + OVERHEAD, Ordering::Relaxed);
        Self {
            partition: 0,
            offset,
            timestamp: KafkaTimestamp::CreateTime(written_ms),
            key_at,
            value_at: bytes.len(),
            bytes: bytes.into(),
            has_key: true,
            has_value: false,
            has_headers: true,
            readable: true,
            weights,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were_put_the_empty_and_the_null_ones_too() {
        let mut bytes = Vec::new();
        let put: [(&[u8], Option<&[u8]>); 5] = [
            (b"ce_id", Some(b"7")),
            (b"", Some(b"nameless")),
            (b"null", None),
            (b"empty", Some(b"")),
            (b"ce_id", Some(b"twice")),
        ];
        for (name, value) in put {
            put_header(&mut bytes, name, value);
        }
        let headers = RecordHeaders(&bytes);
        assert_eq!(headers.collect::<Vec<_>>(), put);
        assert_eq!(headers.get("ce_id"), Some(b"7".as_slice()));
        assert_eq!(headers.get("empty"), Some(b"".as_slice()));
        assert_eq!((headers.get("null"), headers.get("none")), (None, None));
    }
}
