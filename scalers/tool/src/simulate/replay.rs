//! Decisions that were taken, taken again: every look that `scalers run --events` has logged.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::log::Log;
use crate::engine::{Bound, Jobs, Memory, Partition, Version};
use crate::spec::{self, Scaler, Trigger};

/// A look as it is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    pub worker: String,
    /// Of the first kafka trigger, partition by partition: committed (`null`: nothing) and end. None when it could not be read.
    pub offsets: Offsets,
    /// What the other triggers saw, in their order; `null` when one could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Option<Other>>,
    pub running: i64,
    pub pending: i64,
    pub metric: i64,
    pub wanted: i64,
    pub create: i64,
}

type Offsets = Vec<(Option<i64>, Option<i64>)>;

/// What a trigger saw beside the first kafka one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Other {
    Offsets(Offsets),
    Documents(i64),
}

/// What a trigger saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Partitions(Vec<Partition>),
    Documents(i64),
    /// It could not be read.
    Nothing,
}

impl Seen {
    fn of(offsets: &Offsets) -> Self {
        if offsets.is_empty() {
            return Self::Nothing;
        }
        let partition = |&(committed, end): &(Option<i64>, Option<i64>)| Partition {
            committed,
            end,
            start: None,
        };
        Self::Partitions(offsets.iter().map(partition).collect())
    }

    fn offsets(partitions: &[Partition]) -> Offsets {
        partitions.iter().map(|p| (p.committed, p.end)).collect()
    }
}

impl Look {
    /// What a worker's triggers saw, to be logged; the decision comes with it.
    pub fn new(scaler: &Scaler, seen: &[Seen], jobs: Jobs, decided: Decided) -> Self {
        let first = scaler.first_kafka();
        let others = seen.iter().enumerate().filter(|(n, _)| Some(*n) != first);
        Self {
            worker: scaler.worker.clone(),
            offsets: match first.and_then(|n| seen.get(n)) {
                Some(Seen::Partitions(partitions)) => Seen::offsets(partitions),
                _ => Vec::new(),
            },
            others: others
                .map(|(_, seen)| match seen {
                    Seen::Partitions(partitions) => Some(Other::Offsets(Seen::offsets(partitions))),
                    Seen::Documents(count) => Some(Other::Documents(*count)),
                    Seen::Nothing => None,
                })
                .collect(),
            running: jobs.running,
            pending: jobs.pending,
            metric: decided.metric,
            wanted: decided.wanted,
            create: decided.create,
        }
    }

    /// What each trigger of the worker saw.
    fn seen(&self, scaler: &Scaler) -> Vec<Seen> {
        let first = scaler.first_kafka();
        let mut others = self.others.iter();
        let one = |n| {
            if Some(n) == first {
                return Seen::of(&self.offsets);
            }
            match others.next() {
                Some(Some(Other::Offsets(offsets))) => Seen::of(offsets),
                Some(Some(Other::Documents(count))) => Seen::Documents(*count),
                Some(None) | None => Seen::Nothing,
            }
        };
        (0..scaler.triggers.len()).map(one).collect()
    }
}

/// What a look comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decided {
    pub lag: i64,
    pub metric: i64,
    pub active: bool,
    pub wanted: i64,
    pub create: i64,
}

/// Decides by what each trigger saw. One that could not be read counts as with KEDA: not at all.
pub fn decide(scaler: &Scaler, seen: &[Seen], jobs: Jobs, memories: &mut [Memory]) -> Decided {
    let Some(job) = scaler.job() else { return Decided::default() };
    let mut measured = Vec::new();
    let mut first = None;
    for ((trigger, memory), seen) in scaler.triggers.iter().zip(memories).zip(seen) {
        match (trigger, seen) {
            (Trigger::Kafka { kafka, .. }, Seen::Partitions(partitions)) => {
                let reading = kafka.read(job.keda, partitions, memory);
                first.get_or_insert((reading.lag, reading.metric, reading.bound));
                measured.push(reading.measured(kafka));
            }
            (Trigger::Mongodb { mongodb, .. }, Seen::Documents(count)) => {
                first.get_or_insert((*count, *count, Bound::None));
                measured.push(mongodb.read(*count));
            }
            // KEDA makes a trigger that failed anew, which forgets.
            _ => *memory = Memory::default(),
        }
    }
    let (lag, metric, bound) = first.unwrap_or((0, 0, Bound::None));
    let d = job.decide(&measured, bound, jobs);
    Decided {
        lag,
        metric,
        active: d.active,
        wanted: d.wanted,
        create: d.create,
    }
}

/// Takes every decision of a log again, and says which differ.
///
/// # Errors
/// When a file cannot be read, or holds no look of this worker.
pub fn main(file: &Path, log: &Path, keda: Version) -> anyhow::Result<bool> {
    let scaler = spec::read(file, keda)?;
    let log = Log::read(log, &scaler.worker)?;
    let mut memories = vec![Memory::default(); scaler.triggers.len()];
    let mut differ = 0u64;
    for (line, _, look) in &log.looks {
        let jobs = Jobs {
            running: look.running,
            pending: look.pending,
        };
        let again = decide(&scaler, &look.seen(&scaler), jobs, &mut memories);
        if (again.metric, again.wanted, again.create) != (look.metric, look.wanted, look.create) {
            differ += 1;
            println!(
                "line {line}: logged {:?}, decided {again:?}",
                (look.metric, look.wanted, look.create)
            );
        }
    }
    println!("{} looks of {}, {differ} decided otherwise", log.looks.len(), scaler.worker);
    Ok(differ == 0)
}
