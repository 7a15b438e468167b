//! A message as the loop holds it, and how much it holds.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::message::Timestamp as KafkaTimestamp;

use crate::sys;

/// Messages share memory until about so many bytes are full.
const PIECE: usize = 8 * 1024;
/// So many pieces are kept to be used again.
const SPARE: usize = 32;

/// How much the loop holds, so that the thread can stop fetching without asking.
#[derive(Default)]
pub(crate) struct Weights {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    paused: AtomicBool,
    spare: Mutex<Vec<Memory>>,
}

/// What a [`Piece`] is made of. It is used again: between threads, memory of this size is dear to give back and to get.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    /// Where each message lies in it: a message is moved often, and should be small.
    parts: Vec<Part>,
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

    /// Memory that is empty, of a piece that was let go if there is any.
    fn memory(&self) -> Memory {
        self.spare().pop().unwrap_or_default()
    }

    fn keep(&self, mut memory: Memory) {
        if memory.bytes.capacity() == PIECE {
            memory.bytes.clear();
            memory.parts.clear();
            let mut spare = self.spare();
            if spare.len() < SPARE {
                spare.push(memory);
            }
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Memory>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
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
}

/// Memory that several messages share. It counts against the bound until the last of them is let go.
struct Piece {
    memory: Memory,
    weights: Arc<Weights>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.weights.bytes.fetch_sub(self.memory.bytes.len(), Ordering::Relaxed);
        self.weights.keep(std::mem::take(&mut self.memory));
    }
}

/// Copies messages out of librdkafka's buffers: one that is kept must not keep the whole answer to a fetch alive.
/// Neighbours share a piece of memory, because one for each would cost as much as handling it; pieces are small, so that
/// a message that is slow keeps little besides itself.
pub(super) struct Copier {
    weights: Arc<Weights>,
    memory: Memory,
}

impl Copier {
    pub fn new(weights: Arc<Weights>) -> Self {
        Self {
            weights,
            memory: Memory::default(),
        }
    }

    /// Copies a message, and says how many bytes that are; it and its neighbours are moved to `records` once they fill
    /// a piece.
    pub fn add(&mut self, message: sys::Message<'_>, records: &mut Vec<Record>) -> usize {
        let (headers, key, value) = (message.headers(), message.key(), message.value());
        let length = headers.len() + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        if self.memory.bytes.len() + length > PIECE {
            self.finish(records);
        }
        if self.memory.bytes.capacity() == 0 {
            self.memory = self.weights.memory();
            self.memory.bytes.reserve_exact(PIECE.max(length));
        }
        let Memory { bytes, parts } = &mut self.memory;
        let begin = bytes.len();
        bytes.extend_from_slice(headers);
        let key_at = bytes.len();
        bytes.extend_from_slice(key.unwrap_or_default());
        let value_at = bytes.len();
        bytes.extend_from_slice(value.unwrap_or_default());
        parts.push(Part {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp(),
            at: [begin, key_at, value_at, bytes.len()],
            has_key: key.is_some(),
            has_value: value.is_some(),
        });
        // The next one is likely to be as large.
        if bytes.len() + length > PIECE {
            self.finish(records);
        }
        length
    }

    /// Moves what has been copied to `records`.
    pub fn finish(&mut self, records: &mut Vec<Record>) {
        if self.memory.parts.is_empty() {
            return;
        }
        let mut memory = std::mem::take(&mut self.memory);
        if memory.bytes.len() < memory.bytes.capacity() / 2 {
            memory.bytes.shrink_to_fit();
        }
        let messages = memory.parts.len();
        self.weights.messages.fetch_add(messages, Ordering::Relaxed);
        self.weights.bytes.fetch_add(memory.bytes.len(), Ordering::Relaxed);
        let weights = self.weights.clone();
        let piece = Arc::new(Piece { memory, weights });
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
    pub fn alone(message: sys::Message<'_>) -> Option<Self> {
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
        let Some(own) = self.piece.memory.bytes.get(begin..end) else {
            return;
        };
        if own.len() >= self.piece.memory.bytes.len() / 2 {
            return;
        }
        let part = Part {
            at: at.map(|at| at - begin),
            ..*self.part()
        };
        let memory = Memory {
            bytes: own.to_vec(),
            parts: vec![part],
        };
        let weights = self.piece.weights.clone();
        weights.bytes.fetch_add(memory.bytes.len(), Ordering::Relaxed);
        let piece = Piece { memory, weights };
        (self.piece, self.nth) = (Arc::new(piece), 0);
    }

    fn part(&self) -> &Part {
        &self.piece.memory.parts[self.nth]
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
        self.lies(0).and_then(RecordHeaders::new)
    }

    fn lies(&self, n: usize) -> Option<&[u8]> {
        self.piece.memory.bytes.get(*self.part().at.get(n)?..*self.part().at.get(n + 1)?)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.piece.weights.messages.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Headers as a broker sends them: how many they are, and of each its name's length, its name, its value's length and its
/// value (<https://kafka.apache.org/documentation/#recordheader>). What does not keep to that ends them.
#[derive(Clone, Copy)]
pub(crate) struct RecordHeaders<'r> {
    left: i64,
    rest: &'r [u8],
}

impl<'r> RecordHeaders<'r> {
    fn new(mut rest: &'r [u8]) -> Option<Self> {
        let left = varint(&mut rest).filter(|headers| *headers > 0)?;
        Some(Self { left, rest })
    }
}

impl<'r> Iterator for RecordHeaders<'r> {
    type Item = (&'r [u8], Option<&'r [u8]>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1).filter(|left| *left >= 0)?;
        let name = taken(&mut self.rest)??;
        let value = taken(&mut self.rest)?;
        Some((name, value))
    }
}

/// Takes bytes and the length before them; `Some(None)` for null, whose length is -1.
#[inline]
fn taken<'r>(rest: &mut &'r [u8]) -> Option<Option<&'r [u8]>> {
    let length = varint(rest)?;
    if length == -1 {
        return Some(None);
    }
    let (bytes, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    Some(Some(bytes))
}

/// Takes a number as Protocol Buffers write a signed one: seven bits a byte, the lowest first, zigzag.
#[inline]
fn varint(rest: &mut &[u8]) -> Option<i64> {
    match *rest {
        // Nearly all are short.
        [byte @ ..0x80, behind @ ..] => {
            *rest = behind;
            Some(signed(u64::from(*byte)))
        }
        _ => long_varint(rest),
    }
}

fn long_varint(rest: &mut &[u8]) -> Option<i64> {
    let mut zigzag = 0;
    for shift in (0..i64::BITS).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(signed(zigzag));
        }
    }
    None
}

fn signed(zigzag: u64) -> i64 {
    (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()
}

/// Writes headers as a broker does.
#[cfg(test)]
fn put_headers<'h>(bytes: &mut Vec<u8>, headers: impl ExactSizeIterator<Item = (&'h [u8], Option<&'h [u8]>)>) {
    let number = |bytes: &mut Vec<u8>, number: i64| {
        let mut zigzag = ((number << 1) ^ (number >> 63)).cast_unsigned();
        while zigzag >= 0x80 {
            bytes.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        bytes.push(zigzag as u8);
    };
    number(bytes, headers.len() as i64);
    for (name, value) in headers {
        for part in [Some(name), value] {
            number(bytes, part.map_or(-1, |part| part.len() as i64));
            bytes.extend_from_slice(part.unwrap_or_default());
        }
    }
}

#[cfg(test)]
impl Copier {
    /// Adds a message that never was on a broker.
    fn make(&mut self, offset: i64, written_ms: i64, headers: &[(&str, Option<&[u8]>)], key: &[u8]) {
        let Memory { bytes, parts } = &mut self.memory;
        let begin = bytes.len();
        put_headers(bytes, headers.iter().map(|(name, value)| (name.as_bytes(), *value)));
        let key_at = bytes.len();
        bytes.extend_from_slice(key);
        parts.push(Part {
            partition: 0,
            offset,
            timestamp: KafkaTimestamp::CreateTime(written_ms),
            at: [begin, key_at, bytes.len(), bytes.len()],
            has_key: true,
            has_value: false,
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
    use std::time::{Duration, Instant};

    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    use rdkafka::{ClientConfig, Offset, TopicPartitionList};

    use super::*;

    #[test]
    fn headers_are_those_that_librdkafka_unpacks() {
        let producer: BaseProducer = ClientConfig::new().set("test.mock.num.brokers", "1").create().unwrap();
        let brokers = producer.client().mock_cluster().unwrap().bootstrap_servers();
        let (long, longer) = ("n".repeat(100), vec![7; 10_000]);
        let put: [(&str, Option<&[u8]>); 6] = [
            ("ce_id", Some(b"7")),
            ("null", None),
            ("empty", Some(b"")),
            (&long, Some(&longer)),
            ("ce_id", Some(b"twice")),
            ("not text", Some(&[0, 0xff])),
        ];
        let headers = put
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value }));
        let record = || BaseRecord::<[u8], [u8]>::to("t").partition(0).payload(b"value");
        producer.send(record().headers(headers)).map_err(|(e, _)| e).unwrap();
        producer.send(record().key(b"")).map_err(|(e, _)| e).unwrap();
        producer.flush(Duration::from_secs(20)).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", "t");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut from = TopicPartitionList::new();
        from.add_partition_offset("t", 0, Offset::Beginning).unwrap();
        consumer.assign(&from).unwrap();
        let (deadline, mut read) = (Instant::now() + Duration::from_secs(20), Vec::new());
        while read.len() < 2 {
            assert!(Instant::now() < deadline, "{} messages came", read.len());
            let Some(message) = consumer.poll(Duration::from_millis(100)) else {
                continue;
            };
            let message = message.unwrap();
            let record = Record::alone(sys::Message::of(&message)).unwrap();
            let place = |key: Option<&[u8]>, value: Option<&[u8]>| (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
            assert_eq!(place(record.key(), record.value()), place(message.key(), message.payload()));
            assert_eq!(record.timestamp(), message.timestamp());
            let theirs = message.headers().map(|headers| {
                let all = headers.iter().map(|h| (h.key.as_bytes().to_vec(), h.value.map(<[u8]>::to_vec)));
                all.collect::<Vec<_>>()
            });
            let ours = record.headers().map(|headers| {
                let all = headers.map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)));
                all.collect::<Vec<_>>()
            });
            assert_eq!(ours, theirs);
            read.push(ours.map(|all| all.len()));
        }
        assert_eq!(read, [Some(put.len()), None]);
    }

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
        let long = [7; 1000];
        let put: [(&[u8], Option<&[u8]>); 6] = [
            (b"ce_id", Some(b"7")),
            (b"", Some(b"nameless")),
            (b"null", None),
            (b"empty", Some(b"")),
            (b"long", Some(&long)),
            (b"ce_id", Some(b"twice")),
        ];
        let mut bytes = Vec::new();
        put_headers(&mut bytes, put.iter().copied());
        let read = RecordHeaders::new(&bytes).unwrap();
        assert_eq!(read.collect::<Vec<_>>(), put);
        for cut in 1..bytes.len() {
            let read: Vec<_> = RecordHeaders::new(&bytes[..cut]).unwrap().collect();
            assert!(read.len() < put.len(), "cut off behind {cut} bytes");
            assert_eq!(read, put[..read.len()]);
        }
        assert!(RecordHeaders::new(&[]).is_none(), "as a message of an old format has them");
        assert!(RecordHeaders::new(&[0]).is_none());
        assert!(RecordHeaders::new(&[0xff; 12]).is_none(), "a number without an end");
    }
}
