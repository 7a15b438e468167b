//! `scalers simulate`: what a scaler file would do with a lag, before it is applied.

mod html;
mod learn;
mod log;
pub mod plan;
mod pods;
mod queue;
mod replay;
mod source;
mod trace;
mod world;
mod yard;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use learn::{Learned, learn};
use log::Log;
pub use pods::Machines;
pub use replay::{Decided, Look, Other, Seen, decide};
pub use source::{Generated, Shape, Source};
pub use trace::Trace;
pub use world::{Row, Totals, World};
pub use yard::Workers;

use crate::engine::Version;
use crate::run::duration;
use crate::spec::{self, Scaler, Trigger};

/// Looks that a page or a table shows; between them, the one with the most lag stands for its neighbours.
const SHOWN: usize = 600;

/// What to simulate.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    /// The scaler file; with a second one, before and after side by side
    #[arg(value_name = "FILE", required = true, num_args = 1..=2)]
    pub files: Vec<PathBuf>,
    /// Take decisions again that scalers run has logged with --events, and end with 1 when one differs
    #[arg(long, value_name = "FILE")]
    pub decisions: Option<PathBuf>,
    /// Look this often instead of the file's pollingInterval
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub poll: Option<Duration>,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Rows and totals as JSON
    #[arg(long)]
    pub json: bool,
    /// A page with plots, in one file without scripts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// What arrives, who works on it, and what it costs.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArgs {
    /// What arrives
    #[arg(long, value_enum, default_value = "burst")]
    pub shape: Shape,
    /// Offsets by partition as CSV (scalers record writes it), a log of scalers run --events, or Prometheus' answer to a
    /// range query, instead of a shape
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Messages of a burst
    #[arg(long, value_name = "N", default_value_t = 5000)]
    pub messages: u64,
    /// Messages a second of the other shapes
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub rate: f64,
    /// When a burst comes, or the first message from zero
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub at: Duration,
    /// How long a burst takes to come
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub over: Option<Duration>,
    /// How much time to simulate; a burst or a trace ends by itself when all is done
    #[arg(long = "for", value_name = "TIME", value_parser = long_duration, default_value = "24h")]
    pub span: Duration,
    /// Partitions of the topic [default: of topics.yaml beside the file, else 12]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub partitions: Option<u16>,
    #[command(flatten)]
    pub workers: WorkerArgs,
    /// Of an hour of a node, or of a job when nodes do not matter
    #[arg(long, value_name = "PRICE", default_value_t = 0.0)]
    pub price: f64,
    /// By the rules of this KEDA
    #[arg(long, value_name = "VERSION", default_value_t = Version::DEFAULT)]
    pub keda_version: Version,
}

/// How workers and machines behave.
#[derive(Debug, Clone, clap::Args)]
pub struct WorkerArgs {
    /// Take --per-message, --pod-start, --join and --idle-exit from what a log of scalers run --events shows
    #[arg(long, value_name = "FILE", conflicts_with_all = ["per_message", "pod_start", "join", "idle_exit"])]
    pub workers_from: Option<PathBuf>,
    /// Time that a message takes one job, all that it works on side by side together
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "3s")]
    pub per_message: Duration,
    /// From a job's creation to its first message, when it is the only one
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "5s")]
    pub pod_start: Duration,
    /// What a job waits for beyond that when others are there, until they have given it its partitions
    #[arg(long, value_name = "TIME", value_parser = any_time, default_value = "0s")]
    pub join: Duration,
    /// Until a new node is there
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2m")]
    pub node_start: Duration,
    /// Jobs that fit a node; 0: nodes do not matter
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub jobs_per_node: usize,
    /// Nodes that are always there
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub warm_nodes: usize,
    /// The most nodes
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub max_nodes: usize,
    /// A node that nobody needs goes after this
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10m")]
    pub node_idle: Duration,
    /// A job with nothing to do ends after this (IDLE_EXIT_MS)
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "5s")]
    pub idle_exit: Duration,
    /// A job begins nothing new after this (MAX_RUN_SECONDS)
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "24h")]
    pub max_run: Duration,
    /// Share of the messages that are tried again and again, of shape poison
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    pub poison_share: f64,
    /// Time that each of them takes until it is given up
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub poison_time: Duration,
    /// Documents that a mongodb trigger counts
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub documents: i64,
}

impl WorkerArgs {
    /// As the options say, or as a log shows; then it is said what was learned.
    fn workers(&self, shape: Shape) -> anyhow::Result<Workers> {
        let told = self.told(shape);
        let Some(path) = &self.workers_from else { return Ok(told) };
        let learned = Log::read(path, None).and_then(|log| learn(&log, told));
        let Learned { workers, off } = learned.with_context(|| path.display().to_string())?;
        let option = |seconds: f64| format!("{:.0}us", seconds * 1e6);
        eprintln!(
            "as in {}: --per-message {} --pod-start {} --join {} --idle-exit {}; with these its lag comes out within {:.0} % of the peak",
            path.display(),
            option(workers.per_message),
            option(workers.machines.pod_start),
            option(workers.machines.join),
            option(workers.idle_exit),
            off * 100.0
        );
        Ok(workers)
    }

    fn told(&self, shape: Shape) -> Workers {
        let plain = self.per_message.as_secs_f64();
        let poison = if shape == Shape::Poison { self.poison_share } else { 0.0 };
        Workers {
            machines: Machines {
                pod_start: self.pod_start.as_secs_f64(),
                join: self.join.as_secs_f64(),
                node_start: self.node_start.as_secs_f64(),
                per_node: self.jobs_per_node,
                warm: self.warm_nodes,
                most: self.max_nodes.max(self.warm_nodes),
                node_idle: self.node_idle.as_secs_f64(),
            },
            per_message: (plain * (1.0 - poison) + self.poison_time.as_secs_f64() * poison).max(1e-6),
            idle_exit: self.idle_exit.as_secs_f64(),
            max_run: self.max_run.as_secs_f64(),
            commit_every: 1.0,
            documents: self.documents,
        }
    }
}

/// A time of any length up to a day.
fn any_time(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    parsed
        .filter(|d| *d <= Duration::from_secs(86_400))
        .ok_or_else(|| "it must be a time up to 24h, such as 1s or 250us".to_owned())
}

fn some_time(text: &str) -> Result<Duration, String> {
    any_time(text).and_then(|d| {
        if d.is_zero() {
            Err("it must be more than nothing".to_owned())
        } else {
            Ok(d)
        }
    })
}

fn long_duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    parsed
        .filter(|d| *d <= Duration::from_secs(20 * 366 * 86_400) && !d.is_zero())
        .ok_or_else(|| "it must be a time such as 30m or 24h, up to 20 years".to_owned())
}

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

impl LoadArgs {
    fn source(&self) -> anyhow::Result<Source> {
        ensure!(self.rate >= 0.0 && self.rate.is_finite(), "--rate must be 0 or more");
        ensure!(
            (0.0..=1.0).contains(&self.workers.poison_share),
            "--poison-share must be between 0 and 1"
        );
        Ok(match &self.trace {
            Some(path) => Source::Trace(Trace::read(path)?),
            None => Source::Generated(Generated {
                shape: self.shape,
                rate: self.rate,
                messages: self.messages as f64,
                at: self.at.as_secs_f64(),
                over: self.over.map_or(0.0, |d| d.as_secs_f64()),
            }),
        })
    }

    fn partitions(&self, file: &Path, scaler: &Scaler, source: &Source) -> usize {
        match (self.partitions, source) {
            (Some(n), _) => usize::from(n),
            (None, Source::Trace(trace)) => trace.partitions,
            (None, Source::Generated(_)) => partitions_of(file, scaler).unwrap_or(12),
        }
    }
}

/// Simulates each file.
///
/// # Errors
/// When a file cannot be read or understood.
pub fn simulate(args: &SimulateArgs) -> anyhow::Result<Vec<Outcome>> {
    let load = &args.load;
    let source = load.source()?;
    let workers = load.workers.workers(load.shape)?;
    let one = |file: &PathBuf| {
        let mut scaler = spec::read(file, load.keda_version)?;
        scaler.polling_interval = args.poll.unwrap_or(scaler.polling_interval);
        let partitions = load.partitions(file, &scaler, &source);
        let mut shown = Shown::default();
        let world = World::new(&scaler, load.keda_version, workers, &source, partitions);
        let totals = world.run(load.span.as_secs_f64(), true, load.price, |row| shown.see(*row));
        Ok(Outcome {
            file: file.clone(),
            keda: load.keda_version.to_string(),
            workers,
            knobs: knobs(&scaler),
            totals,
            rows: shown.rows,
        })
    };
    args.files.iter().map(one).collect()
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

/// Partitions by the topics.yaml beside a file.
fn partitions_of(file: &Path, scaler: &Scaler) -> Option<usize> {
    let topics = crate::topics::read(&file.parent()?.join("topics.yaml")).ok()?;
    let (topic, _) = scaler.topic()?;
    topics.iter().find(|t| t.name == topic).map(|t| usize::from(t.partitions))
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
