//! Traces: CSV of offsets by partition, as `scalers record` writes it, what `scalers run --events` logged, or Prometheus'
//! answer to a range query.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use serde::Deserialize;

use super::log::Log;

/// A trace may have this many samples.
const MOST: usize = 5_000_000;

/// What arrived when.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    /// (seconds from the start, partition, messages), in time's order.
    arrivals: Vec<(f64, usize, u64)>,
    pub partitions: usize,
    /// What waited at the start, by partition.
    pub waiting: Vec<u64>,
}

/// Offsets of a partition at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    at: f64,
    partition: usize,
    committed: Option<i64>,
    latest: i64,
}

impl Trace {
    /// Reads a file; JSON lines are a scaler's log, of which this worker's looks count, other JSON is Prometheus', anything
    /// else CSV.
    ///
    /// # Errors
    /// What is wrong, with its line.
    pub fn read(path: &Path, worker: &str) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let trace = if text.lines().next().is_some_and(|line| line.starts_with("{\"at\":")) {
            Log::read(path, worker).and_then(|log| Self::of_log(&log))
        } else if text.trim_start().starts_with('{') {
            prometheus(&text).and_then(Self::of)
        } else {
            csv(&text).and_then(Self::of)
        };
        trace.with_context(|| path.display().to_string())
    }

    /// What arrived by the looks of a log.
    ///
    /// # Errors
    /// When it has no offsets.
    pub fn of_log(log: &Log) -> anyhow::Result<Self> {
        let mut samples = Vec::new();
        for (_, at, look) in &log.looks {
            for (partition, (committed, latest)) in look.offsets.iter().enumerate() {
                let Some(latest) = *latest else { continue };
                ensure!(samples.len() < MOST, "more than {MOST} samples");
                samples.push(Sample {
                    at: *at,
                    partition,
                    committed: *committed,
                    latest,
                });
            }
        }
        Self::of(samples)
    }

    fn of(mut samples: Vec<Sample>) -> anyhow::Result<Self> {
        ensure!(!samples.is_empty(), "there are no samples");
        samples.sort_by(|a, b| a.at.total_cmp(&b.at).then(a.partition.cmp(&b.partition)));
        let start = samples.first().map_or(0.0, |s| s.at);
        let partitions = samples.iter().map(|s| s.partition + 1).max().unwrap_or(0);
        ensure!(partitions <= 10_000, "{partitions} partitions are too many");
        let mut trace = Self {
            arrivals: Vec::new(),
            partitions,
            waiting: vec![0; partitions],
        };
        let mut known: Vec<Option<(f64, i64)>> = vec![None; partitions];
        for s in samples {
            let Some(last) = known.get_mut(s.partition) else { continue };
            match last.replace((s.at, s.latest)) {
                None => {
                    let waiting = s.latest - s.committed.unwrap_or(s.latest);
                    if let Some(w) = trace.waiting.get_mut(s.partition) {
                        *w = u64::try_from(waiting).unwrap_or(0);
                    }
                }
                // A topic that was created anew starts over.
                // What came between two samples came half way between them, as far as anybody knows.
                Some((then, before)) if s.latest > before => {
                    let at = (then + s.at) / 2.0 - start;
                    trace.arrivals.push((at, s.partition, s.latest.abs_diff(before)));
                }
                Some(_) => {}
            }
        }
        trace.arrivals.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Ok(trace)
    }

    pub fn between(&self, from: f64, to: f64, mut arrive: impl FnMut(usize, u64)) {
        let begin = self.arrivals.partition_point(|(at, _, _)| *at <= from);
        for (_, partition, messages) in self.arrivals.iter().skip(begin).take_while(|(at, _, _)| *at <= to) {
            arrive(*partition, *messages);
        }
    }

    pub fn next_after(&self, t: f64) -> Option<f64> {
        self.arrivals
            .get(self.arrivals.partition_point(|(at, _, _)| *at <= t))
            .map(|(at, _, _)| *at)
    }

    pub fn end(&self) -> Option<f64> {
        Some(self.arrivals.last().map_or(0.0, |(at, _, _)| *at))
    }
}

/// `time,partition,committed,latest`; time in seconds or as RFC 3339, committed empty or -1 when there is none.
fn csv(text: &str) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || (n == 0 && line.starts_with("time")) {
            continue;
        }
        ensure!(samples.len() < MOST, "more than {MOST} samples");
        let sample = row(line).with_context(|| format!("line {}: {line:?} is not time,partition,committed,latest", n + 1))?;
        samples.push(sample);
    }
    Ok(samples)
}

fn row(line: &str) -> anyhow::Result<Sample> {
    let mut fields = line.split(',').map(str::trim);
    let mut next = || fields.next().context("a column is missing");
    let (time, partition, committed, latest) = (next()?, next()?, next()?, next()?);
    ensure!(fields.next().is_none(), "there are more than 4 columns");
    let at = match time.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => seconds,
        _ => time.parse::<Timestamp>()?.as_millisecond() as f64 / 1000.0,
    };
    let committed = if committed.is_empty() { -1 } else { committed.parse()? };
    Ok(Sample {
        at,
        partition: partition.parse()?,
        committed: (committed >= 0).then_some(committed),
        latest: latest.parse()?,
    })
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

/// Series of end offsets by partition (`kafka_topic_partition_current_offset`), with committed ones beside them
/// (`kafka_consumergroup_current_offset`) when there are; or of lag, of which only what is added is seen.
fn prometheus(text: &str) -> anyhow::Result<Vec<Sample>> {
    let answer: Answer = serde_json::from_str(text).context("it is not Prometheus' answer to a range query")?;
    ensure!(
        answer.data.kind == "matrix",
        "resultType is {}, it must be matrix: ask for a range",
        answer.data.kind
    );
    let mut committed: BTreeMap<(usize, u64), i64> = BTreeMap::new();
    let mut samples = Vec::new();
    for pass in ["committed", "latest"] {
        for series in &answer.data.result {
            let name = series.metric.get("__name__").map_or("", String::as_str);
            let of_group = name.contains("consumergroup") && !name.contains("lag");
            if of_group != (pass == "committed") {
                continue;
            }
            let partition: usize = series
                .metric
                .get("partition")
                .map_or("0", String::as_str)
                .parse()
                .context("partition is no number")?;
            for (at, value) in &series.values {
                let value: f64 = value.parse().with_context(|| format!("{value:?} is no number"))?;
                let (value, key) = (value as i64, (partition, (at * 1000.0) as u64));
                if of_group {
                    committed.insert(key, value);
                    continue;
                }
                if samples.len() >= MOST {
                    bail!("more than {MOST} samples");
                }
                let committed = if name.contains("lag") {
                    Some(0)
                } else {
                    committed.get(&key).copied()
                };
                samples.push(Sample {
                    at: *at,
                    partition,
                    committed,
                    latest: value,
                });
            }
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_gives_what_waited_and_what_came() {
        let text =
            "time,partition,committed,latest\n2026-06-20T10:00:00Z,0,10,15\n2026-06-20T10:00:00Z,1,,7\n2026-06-20T10:00:05Z,0,12,25\n";
        let trace = Trace::of(csv(text).unwrap()).unwrap();
        assert_eq!((trace.partitions, &trace.waiting, trace.end()), (2, &vec![5, 0], Some(2.5)));
        let mut got = Vec::new();
        trace.between(0.0, 10.0, |p, n| got.push((p, n)));
        assert_eq!(got, [(0, 10)]);
    }

    #[test]
    fn a_broken_line_is_named() {
        for wrong in ["1,0,0", "x,0,0,1", "1,0,0,1,9", "1,-1,0,1"] {
            let error = format!("{:#}", csv(&format!("time,partition,committed,latest\n{wrong}\n")).unwrap_err());
            assert!(error.contains("line 2"), "{wrong}: {error}");
        }
    }

    #[test]
    fn prometheus_answers_are_read() {
        let text = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"__name__":"kafka_topic_partition_current_offset","partition":"1"},"values":[[100,"40"],[130,"90"]]},
            {"metric":{"__name__":"kafka_consumergroup_current_offset","partition":"1"},"values":[[100,"30"],[130,"30"]]}]}}"#;
        let trace = Trace::of(prometheus(text).unwrap()).unwrap();
        assert_eq!((&trace.waiting, &trace.arrivals), (&vec![0, 10], &vec![(15.0, 1, 50)]));
        assert!(prometheus(r#"{"data":{"resultType":"vector","result":[]}}"#).is_err());
    }
}
