//! Decisions that were taken, taken again: every look that `scalers run --events` has logged.

use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::engine::{Bound, Jobs, Memory, Partition, Version};
use crate::spec::{self, Scaler, Trigger};

/// A look as it is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    pub worker: String,
    /// Committed (`null`: nothing) and end, partition by partition.
    pub offsets: Vec<(Option<i64>, Option<i64>)>,
    pub running: i64,
    pub pending: i64,
    pub metric: i64,
    pub wanted: i64,
    pub create: i64,
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

/// Decides by what a look saw. Triggers that are not looked at here count as KEDA counts those that fail: not at all.
pub fn decide(scaler: &Scaler, offsets: &[Partition], jobs: Jobs, memories: &mut [Memory]) -> Decided {
    let Some(job) = scaler.job() else { return Decided::default() };
    let mut measured = Vec::new();
    let mut first = None;
    for (trigger, memory) in scaler.triggers.iter().zip(memories) {
        if let Trigger::Kafka { kafka, .. } = trigger {
            let reading = kafka.read(job.keda, offsets, memory);
            first.get_or_insert((reading.lag, reading.metric, reading.bound));
            measured.push(reading.measured(kafka));
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
    let reader = BufReader::new(std::fs::File::open(log).with_context(|| format!("{} cannot be read", log.display()))?);
    let mut memories = vec![Memory::default(); scaler.triggers.len()];
    let (mut looks, mut differ) = (0u64, 0u64);
    for (n, line) in reader.lines().enumerate() {
        let line = line?;
        let at = || format!("{} line {}", log.display(), n + 1);
        let event: serde_json::Value = serde_json::from_str(&line).with_context(at)?;
        if event.get("event").and_then(|e| e.as_str()) != Some("look") {
            continue;
        }
        let look: Look = serde_json::from_value(event).with_context(at)?;
        if look.worker != scaler.worker {
            continue;
        }
        looks += 1;
        let partition = |&(committed, end): &(Option<i64>, Option<i64>)| Partition {
            committed,
            end,
            start: None,
        };
        let offsets: Vec<Partition> = look.offsets.iter().map(partition).collect();
        let jobs = Jobs {
            running: look.running,
            pending: look.pending,
        };
        let again = decide(&scaler, &offsets, jobs, &mut memories);
        if (again.metric, again.wanted, again.create) != (look.metric, look.wanted, look.create) {
            differ += 1;
            println!(
                "line {}: logged {:?}, decided {again:?}",
                n + 1,
                (look.metric, look.wanted, look.create)
            );
        }
    }
    ensure!(looks > 0, "{} has no look of {}", log.display(), scaler.worker);
    println!("{looks} looks of {}, {differ} decided otherwise", scaler.worker);
    Ok(differ == 0)
}
