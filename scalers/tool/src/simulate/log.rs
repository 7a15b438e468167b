//! The log that `scalers run --events` writes, read back.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;

use super::Look;

/// A log may have this many lines; the scaler puts its file aside long before.
const MOST: usize = 5_000_000;

/// What a log says of one worker, in time's order.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// Line, seconds since the epoch, what was seen and decided.
    pub looks: Vec<(usize, f64, Look)>,
    /// When jobs were started.
    pub started: Vec<f64>,
}

impl Log {
    /// Reads what a log says of a worker.
    ///
    /// # Errors
    /// When the file cannot be read, a line is no event, or no look is of this worker.
    pub fn read(path: &Path, worker: &str) -> anyhow::Result<Self> {
        let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut log = Self::default();
        let mut others = BTreeSet::new();
        for (n, line) in BufReader::new(file).lines().enumerate() {
            let line = line?;
            let at = || format!("{} line {}", path.display(), n + 1);
            ensure!(n < MOST, "{} has more than {MOST} lines", path.display());
            let event: serde_json::Value = serde_json::from_str(&line).with_context(at)?;
            let text = |key: &str| event.get(key).and_then(|v| v.as_str());
            let kind = text("event").with_context(at)?;
            if !matches!(kind, "look" | "started") {
                continue;
            }
            let of = text("worker").with_context(at)?;
            if of != worker {
                others.insert(of.to_owned());
                continue;
            }
            let time: Timestamp = text("at").with_context(at)?.parse().with_context(at)?;
            let time = time.as_microsecond() as f64 / 1e6;
            if kind == "started" {
                // A later process of a job is no new one.
                if event.get("attempt").and_then(|n| n.as_i64()).unwrap_or(1) == 1 {
                    log.started.push(time);
                }
            } else {
                log.looks.push((n + 1, time, serde_json::from_value(event).with_context(at)?));
            }
        }
        let others = match Vec::from_iter(others).join(", ") {
            none if none.is_empty() => none,
            some => format!(", only of {some}"),
        };
        ensure!(!log.looks.is_empty(), "{} has no look of {worker}{others}", path.display());
        Ok(log)
    }
}
