//! A message as the loop holds it, and how much it holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rdkafka::message::{BorrowedMessage, Message as _, Timestamp as KafkaTimestamp};

use crate::sys;

/// Messages share memory until about so many bytes are full.
const PIECE: usize = 8 * 1024;
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

/// Where a message lies in its [`Piece`], and what is known of it besides.
#[derive(Clone, Copy)]
struct Part {
    partition: i32,
    offset: i64,
    timestamp: KafkaTimestamp,
    /// Where its headers begin, its key, its value, and where that ends.
    at: [usize; 4],
    has_key: bool,
    has_value: bool,
    has_headers: bool,
}

/// Memory that several messages share. It counts against the bound until the last of them is let go.
struct Piece {
    bytes: Vec<u8>,
    /// Where each of them lies in it: a message is moved often, and should be small.
    parts: Vec<Part>,
    weights: Arc<Weights>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.weights.bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// Copies messages out of librdkafka's buffers: one that is kept must not keep the whole answer to a fetch alive.
/// Neighbours share a piece of memory, because one for each would cost as much as handling it; pieces are small, so that
/// a message that is slow keeps little besides itself.
pub(super) struct Copier {
    weights: Arc<Weights>,
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

impl Copier {
    pub fn new(weights: Arc<Weights>) -> Self {
        Self {
            weights,
            bytes: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// Copies a message, and says how many bytes that are; it and its neighbours are moved to `records` once they fill
    /// a piece.
    pub fn add(&mut self, message: &BorrowedMessage<'_>, records: &mut Vec<Record>) -> usize {
        let (key, value) = (message.key(), message.payload());
        let length = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        if self.bytes.len() + length > PIECE {
            self.finish(records);
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(PIECE);
        }
        let begin = self.bytes.len();
        let has_headers = sys::headers(message, |name, value| put_header(&mut self.bytes, name, value));
        let key_at = self.bytes.len();
        self.bytes.reserve_exact(length);
        self.bytes.extend_from_slice(key.unwrap_or_default());
        let value_at = self.bytes.len();
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.parts.push(Part {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp(),
            at: [begin, key_at, value_at, self.bytes.len()],
            has_key: key.is_some(),
            has_value: value.is_some(),
            has_headers,
        });
        let added = self.bytes.len() - begin;
        // The next one is likely to be as large.
        if self.bytes.len() + added > PIECE {
            self.finish(records);
        }
        added
    }

    /// Moves what has been copied to `records`.
    pub fn finish(&mut self, records: &mut Vec<Record>) {
        if self.parts.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.len() < bytes.capacity() / 2 {
            bytes.shrink_to_fit();
        }
        // The next piece is likely to be like this one.
        let next = Vec::with_capacity(self.parts.len());
        let parts = std::mem::replace(&mut self.parts, next);
        self.weights.messages.fetch_add(parts.len(), Ordering::Relaxed);
        self.weights.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        let messages = parts.len();
        let piece = Arc::new(Piece {
            bytes,
            parts,
            weights: self.weights.clone(),
        });
        records.extend((0..messages).map(|nth| Record { nth, piece: piece.clone() }));
    }
}

/// A message that is held.
pub(crate) struct Record {
    piece: Arc<Piece>,
    /// Which of the piece's messages it is.
    nth: usize,
}

impl Record {
    /// Copies a message that no bound of the loop counts.
    pub fn alone(message: &BorrowedMessage<'_>) -> Option<Self> {
        let (mut copier, mut records) = (Copier::new(Arc::default()), Vec::new());
        copier.add(message, &mut records);
        copier.finish(&mut records);
        records.pop()
    }

    /// Moves it to memory of its own, unless most of what it keeps is its own: one that has to wait for others must not
    /// keep neighbours that are done.
    pub fn part_from_neighbours(&mut self) {
        let at = self.part().at;
        let [begin, .., end] = at;
        let Some(own) = self.piece.bytes.get(begin..end) else { return };
        if own.len() >= self.piece.bytes.len() / 2 {
            return;
        }
        let part = Part {
            at: at.map(|at| at - begin),
            ..*self.part()
        };
        let piece = Piece {
            bytes: own.to_vec(),
            parts: vec![part],
            weights: self.piece.weights.clone(),
        };
        piece.weights.bytes.fetch_add(piece.bytes.len(), Ordering::Relaxed);
        (self.piece, self.nth) = (Arc::new(piece), 0);
    }

    fn part(&self) -> &Part {
        &self.piece.parts[self.nth]
    }

    pub fn partition(&self) -> i32 {
        self.part().partition
    }

    pub fn offset(&self) -> i64 {
        self.part().offset
    }

    pub fn timestamp(&self) -> KafkaTimestamp {
        self.part().timestamp
    }

    pub fn key(&self) -> Option<&[u8]> {
        self.lies(1).filter(|_| self.part().has_key)
    }

    pub fn value(&self) -> Option<&[u8]> {
        self.lies(2).filter(|_| self.part().has_value)
    }

    /// The headers in their order, or `None` when the message has none at all.
    pub fn headers(&self) -> Option<RecordHeaders<'_>> {
        self.lies(0).filter(|_| self.part().has_headers).map(RecordHeaders)
    }

    fn lies(&self, n: usize) -> Option<&[u8]> {
        self.piece.bytes.get(*self.part().at.get(n)?..*self.part().at.get(n + 1)?)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.piece.weights.messages.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Headers as they lie in a [`Record`]: two lengths, the name, the value.
#[derive(Clone, Copy)]
pub(crate) struct RecordHeaders<'r>(&'r [u8]);

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
impl Copier {
    /// Adds a message that never was on a broker.
    fn make(&mut self, offset: i64, written_ms: i64, headers: &[(&str, Option<&[u8]>)], key: &[u8]) {
        let begin = self.bytes.len();
        for (name, value) in headers {
            put_header(&mut self.bytes, name.as_bytes(), *value);
        }
        let key_at = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.parts.push(Part {
            partition: 0,
            offset,
            timestamp: KafkaTimestamp::CreateTime(written_ms),
            at: [begin, key_at, self.bytes.len(), self.bytes.len()],
            has_key: true,
            has_value: false,
            has_headers: true,
        });
    }
}

#[cfg(test)]
impl Record {
    /// A message that never was on a broker: offset, time, headers and key.
    pub fn made(offset: i64, written_ms: i64, headers: &[(&str, Option<&[u8]>)], key: &[u8]) -> Self {
        let (mut copier, mut records) = (Copier::new(Arc::default()), Vec::new());
        copier.make(offset, written_ms, headers, key);
        copier.finish(&mut records);
        records.pop().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_has_to_wait_keeps_nothing_but_itself() {
        let weights = Arc::<Weights>::default();
        let (mut copier, mut records) = (Copier::new(weights.clone()), Vec::new());
        for offset in 0..10 {
            let digit = offset.to_string();
            copier.make(offset, 0, &[("n", Some(digit.as_bytes()))], format!("key {offset}").as_bytes());
        }
        copier.finish(&mut records);
        let (ten, each) = (weights.now().1, weights.now().1 / 10);
        let mut waits = records.remove(3);
        waits.part_from_neighbours();
        assert_eq!(waits.key(), Some(b"key 3".as_slice()));
        assert_eq!(
            waits.headers().unwrap().collect::<Vec<_>>(),
            [(b"n".as_slice(), Some(b"3".as_slice()))]
        );
        assert_eq!(weights.now(), (10, ten + each, false), "its neighbours are still there");
        drop(records);
        assert_eq!(weights.now(), (1, each, false));
        waits.part_from_neighbours();
        assert_eq!(weights.now(), (1, each, false), "it is apart already");
        drop(waits);
        assert_eq!(weights.now(), (0, 0, false));
    }

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
    }
}
