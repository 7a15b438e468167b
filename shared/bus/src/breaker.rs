//! The cap on dead letters: a bad deployment must not drain a healthy topic into them.
//!
//! The counts are kept by group and worker version in the ledger, so that twenty starts of a worker that fails at
//! every message write one cap's worth of letters and not twenty.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::Timestamp;
use runtime::{Change, Entries, Ledger, LedgerDown};

use crate::KafkaConfig;
use crate::keeper::{Book, Keeper};

/// Why a version of a worker does not consume any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trip {
    pub version: String,
    /// When, and how many letters of how many messages.
    pub why: String,
}

/// What the breaker of a worker's group says: the versions that were stopped.
///
/// # Errors
/// When the ledger does not answer.
pub async fn trips(ledger: &dyn Ledger, kafka: &KafkaConfig, worker: &str) -> Result<Vec<Trip>, LedgerDown> {
    ledger.change(&book(kafka, worker), &[]).await.map(|said| all_trips(&said))
}

/// Lets every version of a worker consume again, with counts that start anew; tells which had been stopped.
///
/// # Errors
/// When the ledger does not answer.
pub async fn reset(ledger: &dyn Ledger, kafka: &KafkaConfig, worker: &str) -> Result<Vec<Trip>, LedgerDown> {
    let stopped = trips(ledger, kafka, worker).await?;
    ledger.change(&book(kafka, worker), &[Change::Clear]).await?;
    Ok(stopped)
}

fn book(kafka: &KafkaConfig, worker: &str) -> String {
    format!("{}/breaker", kafka.name(worker))
}

fn all_trips(said: &Entries) -> Vec<Trip> {
    said.iter()
        .filter_map(|(entry, why)| {
            entry.strip_prefix("trip@").map(|version| Trip {
                version: version.to_owned(),
                why: why.clone(),
            })
        })
        .collect()
}

/// So many dead letters in a row, and it is the worker that fails and not the messages.
const RUN: u64 = 100;
/// The share of dead letters is looked at from so many messages on; then more than half is too many.
const SHARE_FROM: u64 = 200;
/// Both counts of the share are halved here, so that a good past does not hide a bad present.
const SHARE_TO: u64 = 400;

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    /// Dead letters since a message was last done.
    run: u64,
    /// Dead letters among `seen`.
    dead: u64,
    /// Messages that were done or dead-lettered.
    seen: u64,
}

impl Tally {
    fn done(&mut self, messages: u64) {
        if messages > 0 {
            self.run = 0;
            self.seen += messages;
        }
    }

    fn buried(&mut self) {
        self.run += 1;
        self.dead += 1;
        self.seen += 1;
    }

    fn is_too_much(&self) -> bool {
        self.run > RUN || (self.seen >= SHARE_FROM && self.dead * 2 > self.seen)
    }

    /// The counts of the share, when they have grown so far that they are to be halved.
    fn halved(&self) -> Option<Self> {
        (self.seen >= SHARE_TO).then_some(Self {
            run: self.run,
            dead: self.dead / 2,
            // Rounded up, so that half is not made more than half.
            seen: self.seen.div_ceil(2),
        })
    }

    fn read(said: &Entries, version: &str) -> Self {
        let number = |name: &str| said.get(&format!("{name}@{version}")).and_then(|n| n.parse().ok()).unwrap_or(0);
        Self {
            run: number("run"),
            dead: number("dead"),
            seen: number("seen"),
        }
    }
}

/// The breaker of this process. Messages that are done cost it one addition; only dead letters are told the ledger.
pub(crate) struct Breaker {
    book: Book,
    version: &'static str,
    /// Done since the ledger was last told.
    done: AtomicU64,
    tally: Mutex<Tally>,
    /// Entries of other versions, as they were found.
    others: OnceLock<Vec<String>>,
}

impl Breaker {
    pub fn new(keeper: &Keeper, kafka: &KafkaConfig, worker: &str, version: &'static str) -> Self {
        Self {
            book: keeper.book(book(kafka, worker)),
            version,
            done: AtomicU64::new(0),
            tally: Mutex::default(),
            others: OnceLock::new(),
        }
    }

    /// Reads what earlier processes have left; why this version must not consume, when it must not.
    pub async fn open(&self) -> Option<Trip> {
        let said = self.book.change(Vec::new()).await?;
        *self.tally() = Tally::read(&said, self.version);
        let ours = self.entry("");
        let others = said.keys().filter(|entry| !entry.ends_with(&ours)).cloned().collect();
        self.others.get_or_init(|| others);
        all_trips(&said).into_iter().find(|trip| trip.version == self.version)
    }

    /// A message is done.
    pub fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether one more dead letter may be written. It is counted before it is, so that a process that ends in between
    /// has counted one too many and not one too few.
    pub async fn permits(&self, now: Timestamp) -> bool {
        let done = self.done.swap(0, Ordering::Relaxed);
        let alone = {
            let mut tally = self.tally();
            tally.done(done);
            tally.buried();
            *tally
        };
        let mut changes = self.told_of(done);
        changes.extend(["run", "dead", "seen"].map(|name| Change::Add(self.entry(name), 1)));
        let said = self.book.change(changes).await;
        let tally = match &said {
            Some(said) => {
                let told = Tally::read(said, self.version);
                *self.tally() = told;
                told
            }
            None => alone,
        };
        if said.is_some_and(|said| said.contains_key(&self.entry("trip"))) {
            return false;
        }
        if tally.is_too_much() {
            let why = format!(
                "{now}: {} dead letters in a row, {} among the last {}",
                tally.run - 1,
                tally.dead - 1,
                tally.seen - 1
            );
            self.book.change(vec![Change::Put(self.entry("trip"), why)]).await;
            return false;
        }
        if let Some(halved) = tally.halved() {
            *self.tally() = halved;
            let put = |name, count: u64| Change::Put(self.entry(name), count.to_string());
            drop(self.book.change(vec![put("dead", halved.dead), put("seen", halved.seen)]));
        }
        true
    }

    /// Tells the ledger of messages that are done, when it knows of dead letters; it need not be waited for.
    pub fn tell(&self) -> impl Future<Output = Option<Entries>> + Send + use<> {
        let mut tally = self.tally();
        let worried = *tally != Tally::default();
        let done = if worried { self.done.swap(0, Ordering::Relaxed) } else { 0 };
        tally.done(done);
        let told = (done > 0).then(|| self.book.change(self.told_of(done)));
        async move { told?.await }
    }

    /// Forgets other versions, once this one has done what there was to do.
    pub async fn forget_others(&self) {
        let others = self.others.get().cloned().unwrap_or_default();
        if !others.is_empty() {
            let changes = others.into_iter().map(Change::Remove).collect();
            self.book.change(changes).await;
        }
    }

    fn told_of(&self, done: u64) -> Vec<Change> {
        if done == 0 {
            return Vec::new();
        }
        let by = i64::try_from(done).unwrap_or(i64::MAX);
        vec![Change::Put(self.entry("run"), "0".to_owned()), Change::Add(self.entry("seen"), by)]
    }

    fn entry(&self, name: &str) -> String {
        format!("{name}@{}", self.version)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
