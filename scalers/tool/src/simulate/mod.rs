//! `scalers simulate`: what a scaler file would do with a lag, before it is applied.

mod html;
mod learn;
mod log;
mod options;
pub mod plan;
mod pods;
mod queue;
mod replay;
mod source;
mod trace;
mod world;
mod yard;

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;

pub use options::{LoadArgs, SimulateArgs};
pub use pods::Machines;
pub use replay::{Decided, Look, Other, Seen, decide};
pub use source::{Generated, Shape, Source};
pub use trace::Trace;
pub use world::{Row, Totals, World};
pub use yard::Workers;

use crate::spec::{self, Scaler, Trigger};

/// Looks that a page or a table shows; between them, the one with the most lag stands for its neighbours.
const SHOWN: usize = 600;

/// What one file did.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub file: PathBuf,
    pub keda: String,
    pub workers: Workers,
    /// The settings that decide, by name.
    pub knobs: Vec<(&'static str, String)>,
    pub totals: Totals,
    pub rows: Vec<Row>,
}

/// Simulates each file.
///
/// # Errors
/// When a file cannot be read or understood.
pub fn simulate(args: &SimulateArgs) -> anyhow::Result<Vec<Outcome>> {
    let load = &args.load;
    let read = args.files.iter().map(|file| spec::read(file, load.keda_version));
    let scalers: Vec<Scaler> = read.collect::<anyhow::Result<_>>()?;
    // A log may be of several workers: the first file says which one.
    let first = scalers.first().context("which file?")?;
    let source = load.source(&first.worker)?;
    let workers = load.workers.workers(load.shape, &first.worker)?;
    let one = |(file, mut scaler): (&PathBuf, Scaler)| {
        scaler.polling_interval = args.poll.unwrap_or(scaler.polling_interval);
        let partitions = load.partitions(file, &scaler, &source);
        let mut shown = Shown::default();
        let world = World::new(&scaler, load.keda_version, workers, &source, partitions);
        let totals = world.run(load.span.as_secs_f64(), true, load.price, |row| shown.see(*row));
        Outcome {
            file: file.clone(),
            keda: load.keda_version.to_string(),
            workers,
            knobs: knobs(&scaler),
            totals,
            rows: shown.rows,
        }
    };
    Ok(args.files.iter().zip(scalers).map(one).collect())
}

/// The settings that people change; those of the first kafka trigger.
fn knobs(scaler: &Scaler) -> Vec<(&'static str, String)> {
    let mut all = vec![("pollingInterval", scaler.polling_interval.as_secs_f64().to_string())];
    let kafka = scaler.triggers.iter().find_map(|t| match t {
        Trigger::Kafka { kafka, .. } => Some(kafka),
        Trigger::Mongodb { .. } => None,
    });
    all.extend(kafka.map(|k| ("lagThreshold", k.lag_threshold.to_string())));
    all.push(("maxReplicaCount", scaler.max().to_string()));
    if let Some(job) = scaler.job() {
        all.push(("minReplicaCount", job.limits.min_jobs().to_string()));
        all.push(("strategy", job.strategy.name().to_owned()));
    }
    all
}

/// Rows to show: at most twice [`SHOWN`], joined two by two whenever there are more, so that memory stays flat.
#[derive(Default)]
struct Shown {
    rows: Vec<Row>,
    /// Looks that a row stands for.
    each: usize,
    inside: usize,
}

impl Shown {
    fn see(&mut self, row: Row) {
        let each = self.each.max(1);
        match self.rows.last_mut() {
            Some(last) if self.inside > 0 && self.inside < each => *last = joined(last, &row),
            _ => {
                self.rows.push(row);
                self.inside = 0;
            }
        }
        self.inside += 1;
        if self.inside >= each {
            self.inside = 0;
        }
        if self.rows.len() >= 2 * SHOWN {
            self.rows = self
                .rows
                .chunks(2)
                .filter_map(|pair| Some(joined(pair.first()?, pair.last()?)))
                .collect();
            self.each = each * 2;
        }
    }
}

/// One row for two: what peaked, and what was created in both.
fn joined(a: &Row, b: &Row) -> Row {
    if std::ptr::eq(a, b) {
        return *a;
    }
    let peak = if b.lag > a.lag { b } else { a };
    Row {
        t: a.t,
        created: a.created + b.created,
        running: a.running.max(b.running),
        pending: a.pending.max(b.pending),
        nodes: a.nodes.max(b.nodes),
        ..*peak
    }
}

/// Says it: a table, JSON, a page.
///
/// # Errors
/// When a file cannot be read, understood or written.
pub fn main(args: &SimulateArgs) -> anyhow::Result<bool> {
    if let Some(log) = &args.decisions {
        let file = args.files.first().context("which file decided?")?;
        return replay::main(file, log, args.load.keda_version);
    }
    let outcomes = simulate(args)?;
    if let Some(page) = &args.html {
        std::fs::write(page, html::page(&outcomes, args)?).with_context(|| format!("{} cannot be written", page.display()))?;
        eprintln!("{} is written", page.display());
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    } else {
        for outcome in &outcomes {
            println!("{} by KEDA {}", outcome.file.display(), outcome.keda);
            table(&outcome.rows);
        }
        totals(&outcomes);
    }
    Ok(true)
}

/// The rows in which something happens.
fn table(rows: &[Row]) {
    println!(
        "{:>10} {:>9} {:>9} {:>7} {:>7} {:>8} {:>8} {:>6}  decided by",
        "time", "lag", "metric", "wanted", "created", "running", "pending", "nodes"
    );
    let mut last: Option<(i64, i64, &str)> = None;
    for row in rows {
        let now = (row.wanted, row.running, row.rule.words());
        if row.created == 0 && last == Some(now) {
            continue;
        }
        last = Some(now);
        println!(
            "{:>9.1}s {:>9} {:>9} {:>7} {:>7} {:>8} {:>8} {:>6}  {}",
            row.t,
            row.lag,
            row.metric,
            row.wanted,
            row.created,
            row.running,
            row.pending,
            row.nodes,
            row.rule.words()
        );
    }
}

/// The totals by name, a column an outcome.
pub(crate) fn lines(outcomes: &[Outcome]) -> Vec<(&'static str, Vec<String>)> {
    let of = |f: &dyn Fn(&Totals) -> String| outcomes.iter().map(|o| f(&o.totals)).collect::<Vec<_>>();
    let latency = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), time);
    vec![
        ("time to drain", of(&|t| time(t.drain_seconds))),
        ("latency, half within", of(&|t| latency(t.latency_p50_seconds))),
        ("latency, 95 % within", of(&|t| latency(t.latency_p95_seconds))),
        ("latency, 99 % within", of(&|t| latency(t.latency_p99_seconds))),
        ("messages done", of(&|t| format!("{:.0}", t.messages))),
        ("messages left", of(&|t| format!("{:.0}", t.left))),
        ("jobs created", of(&|t| t.jobs.to_string())),
        ("of them with nothing to do", of(&|t| t.idle_starts.to_string())),
        ("most at one time", of(&|t| t.peak_running.to_string())),
        ("most lag", of(&|t| t.peak_lag.to_string())),
        ("job minutes", of(&|t| format!("{:.1}", t.pod_minutes))),
        ("node minutes", of(&|t| format!("{:.1}", t.node_minutes))),
        ("cost", of(&|t| format!("{:.4}", t.cost))),
        ("polls", of(&|t| t.polls.to_string())),
    ]
}

fn totals(outcomes: &[Outcome]) {
    println!();
    for (name, values) in lines(outcomes) {
        println!("{name:<28} {}", values.iter().map(|v| format!("{v:>14}")).collect::<String>());
    }
}

/// A time for people.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        0.0 => "0".to_owned(),
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
