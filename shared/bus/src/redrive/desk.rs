//! Where letters are put back: the record is read, claims are made, messages go out, and what is done is written down.
//!
//! Every step may be the last before a crash. A claim without its message is found out by looking for the message behind
//! the ends that the claim names; so a letter goes once, whoever dies between.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use futures::future::join_all;
use jiff::Timestamp;
use messages::{ClaimedLetter, Event, Outgoing, PutBack, RedriveClaimed, RedriveDone, RedrivePayload, topics};
use rdkafka::producer::FutureRecord;
use runtime::Exit;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::history::{Claim, History};
use super::letter::{Letter, header};
use super::log::{Log, Range, only};
use crate::attempt::decode;
use crate::producer::Placed;
use crate::source::Record;
use crate::{KafkaConfig, Producer};

/// How long after its claim a letter may still be sent; see [`CLAIM_ENDS`](super::history::CLAIM_ENDS).
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// How much of a claim's time is used up by the rate, at most.
const BATCH_TIME: u32 = 2;
/// Letters that are held in memory, and claimed, at one time.
const BATCH: u32 = 500;
/// How long our own event may take to be seen in the topic.
const FOLLOW: Duration = Duration::from_secs(10);

/// A letter on its way back.
pub(super) struct Going {
    pub letter: Letter,
    /// The claim that it had.
    pub after: Option<Uuid>,
    /// How often it has been put back.
    pub times: u32,
}

/// What became of it.
pub(super) enum Outcome {
    Back(Placed),
    /// Somebody else was a moment faster.
    LeftTo(String),
    /// Not acknowledged; whether it is back, the next run finds out.
    Unknown(String),
}

pub(super) struct Desk<'k> {
    kafka: &'k KafkaConfig,
    worker: &'k str,
    producer: Producer,
    records: Log,
    target: Log,
    pub history: History,
}

impl<'k> Desk<'k> {
    /// Reads the record. `oldest` is the first letter that is still there.
    ///
    /// # Errors
    /// When the topics do not exist, or the brokers do not answer.
    pub fn open(kafka: &'k KafkaConfig, worker: &'k str, oldest: i64) -> anyhow::Result<Self> {
        let name = kafka.name(topics::REDRIVES);
        let mut records = Log::new(kafka, worker, name.clone())?;
        let all = only(&name, &records.bounds()?)?;
        // Whatever comes later is read as it comes, so the assignment is made even when there is nothing yet.
        records.seek(&[Range { to: i64::MAX, ..all }])?;
        let mut desk = Self {
            kafka,
            worker,
            producer: Producer::new(kafka, "redrive")?,
            records,
            target: Log::new(kafka, worker, kafka.name(worker))?,
            history: History::new(worker, oldest),
        };
        while let Some(record) = desk.records.next()? {
            desk.take(&record)?;
        }
        Ok(desk)
    }

    fn take(&mut self, record: &Record) -> anyhow::Result<Uuid> {
        let event: Event<RedrivePayload> = decode(record).map_err(|e| {
            anyhow!(
                "offset {} of topic {} cannot be read: {e}; if a newer version wrote it, use that one",
                record.offset(),
                topics::REDRIVES
            )
        })?;
        let id = event.envelope.id;
        self.history.take(id, event.envelope.time, event.payload);
        Ok(id)
    }

    /// Writes an event to the record and reads up to it: what others wrote before it counts.
    fn write(&mut self, event: &Outgoing) -> anyhow::Result<()> {
        let sent = Handle::current().block_on(self.producer.send(event));
        sent.map_err(|e| unavailable(&e).context("the record of redrives cannot be written"))?;
        loop {
            let record = self.records.follow(FOLLOW)?;
            if self.take(&record)? == event.envelope.id {
                return Ok(());
            }
        }
    }

    /// Finds out what became of the letters of claims that a crash has left open: those whose message is on its topic are
    /// done, and written down as that when `write`; the others are returned, free to be claimed anew. Letters of which
    /// the topic tells no more (its retention is shorter than theirs) are neither.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub fn settle(&mut self, now: Timestamp, write: bool) -> anyhow::Result<HashSet<i64>> {
        let unclear = self.history.unclear(now);
        if unclear.is_empty() {
            return Ok(HashSet::new());
        }
        let bounds = self.target.bounds()?;
        let wanted: HashMap<Uuid, &[i64]> = unclear.iter().map(|(claim, letters)| (claim.id, letters.as_slice())).collect();
        let from = |r: &Range| unclear.iter().map(|(claim, _)| end(claim, r)).min().unwrap_or(r.from).max(r.from);
        let ranges: Vec<Range> = bounds.iter().map(|r| Range { from: from(r), ..*r }).collect();
        self.target.seek(&ranges)?;
        let mut found: BTreeMap<Uuid, Vec<PutBack>> = BTreeMap::new();
        while let Some(record) = self.target.next()? {
            if let Some((claim, letter)) = sender(&record)
                && wanted.get(&claim).is_some_and(|letters| letters.contains(&letter))
            {
                let (partition, offset) = (record.partition(), record.offset());
                found.entry(claim).or_default().push(PutBack { letter, partition, offset });
            }
        }
        let mut absent = HashSet::new();
        for (claim, letters) in &unclear {
            let told = bounds.iter().all(|r| r.from <= end(claim, r));
            let back = found.get(&claim.id).map(Vec::as_slice).unwrap_or_default();
            absent.extend(letters.iter().filter(|l| told && !back.iter().any(|b| b.letter == **l)));
        }
        for (claim, letters) in found {
            let topic = self.worker.to_owned();
            let done = RedriveDone { topic, claim, letters };
            if write {
                self.write(&Outgoing::redrive(self.worker, now, &done))?;
            } else {
                self.history.take(Uuid::nil(), now, RedrivePayload::Done(done));
            }
        }
        Ok(absent)
    }

    /// How many letters go together at this rate.
    pub fn batch(rate: u32) -> usize {
        (rate * BATCH_TIME).clamp(1, BATCH) as usize
    }

    /// Claims letters, sends those that it got, and writes down which are back. The outcomes are in the letters' order.
    ///
    /// # Errors
    /// When nothing was sent, because the claim could not be made.
    pub fn put_back(&mut self, batch: &[Going], by: &str, reason: Option<&str>, rate: u32) -> anyhow::Result<Vec<Outcome>> {
        let begun = Instant::now();
        let now = Timestamp::now();
        let claim = RedriveClaimed {
            topic: self.worker.to_owned(),
            by: by.to_owned(),
            reason: reason.map(str::to_owned),
            ends: self.target.ends()?,
            letters: batch.iter().map(claimed).collect(),
        };
        let claim = Outgoing::redrive(self.worker, now, &claim);
        self.write(&claim)?;
        let id = claim.envelope.id;
        let gap = Duration::from_secs(1) / rate;
        let (dead, target) = (self.kafka.name(&topics::dead(self.worker)), self.kafka.name(self.worker));
        let sent = batch.iter().enumerate().map(|(number, going)| {
            let (producer, history, dead, target) = (&self.producer, &self.history, &dead, &target);
            async move {
                let letter = &going.letter;
                if !history.is_of(id, letter.offset) {
                    return Outcome::LeftTo(history.holder(letter.offset));
                }
                tokio::time::sleep(gap * u32::try_from(number).unwrap_or(u32::MAX)).await;
                if begun.elapsed() > SEND_WITHIN + Duration::from_secs(BATCH_TIME.into()) {
                    return Outcome::Unknown("not sent: this process was held up for too long".to_owned());
                }
                let headers = letter.headers_again(dead, id, by, now, going.times);
                // The time is that of putting it back: with the old one the broker might delete it at once.
                let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(target).headers(headers);
                record.key = letter.key();
                record.payload = letter.value();
                match producer.send_record(record).await {
                    Ok(placed) => Outcome::Back(placed),
                    Err(e) => Outcome::Unknown(e.to_string()),
                }
            }
        });
        let outcomes = Handle::current().block_on(join_all(sent));
        let letters: Vec<PutBack> = batch.iter().zip(&outcomes).filter_map(back).collect();
        if !letters.is_empty() {
            let topic = self.worker.to_owned();
            let done = RedriveDone { topic, claim: id, letters };
            self.write(&Outgoing::redrive(self.worker, Timestamp::now(), &done))
                .context("letters are back on their topic, but the record does not say so yet; the next run will find them")?;
        }
        Ok(outcomes)
    }
}

fn claimed(going: &Going) -> ClaimedLetter {
    ClaimedLetter {
        offset: going.letter.offset,
        written_ms: going.letter.written_ms,
        after: going.after,
    }
}

fn back((going, outcome): (&Going, &Outcome)) -> Option<PutBack> {
    match outcome {
        Outcome::Back(placed) => Some(PutBack {
            letter: going.letter.offset,
            partition: placed.partition,
            offset: placed.offset,
        }),
        Outcome::LeftTo(_) | Outcome::Unknown(_) => None,
    }
}

/// Where a partition ended when the claim was made; one that came later began after it.
fn end(claim: &Claim, range: &Range) -> i64 {
    let end = claim.ends.iter().find(|e| e.partition == range.partition);
    end.map_or(range.from, |e| e.offset)
}

/// The claim and the letter that a message was put back by.
fn sender(record: &Record) -> Option<(Uuid, i64)> {
    let headers = record.headers()?;
    // The last of a name: ours are behind the message's own.
    let text = |name: &str| {
        let found = headers.filter(|(n, _)| *n == name.as_bytes()).last();
        found.and_then(|(_, value)| std::str::from_utf8(value?).ok())
    };
    let letter = text(header::LETTER)?.rsplit_once('/')?.1.parse().ok()?;
    Some((text(header::CLAIM)?.parse().ok()?, letter))
}

fn unavailable(error: &crate::SendError) -> anyhow::Error {
    let exit = if error.is_permanent() {
        Exit::NotAuthorised
    } else {
        Exit::Unavailable
    };
    exit.error().context(error.to_string())
}
