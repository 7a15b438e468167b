//! What `scalers simulate` and `scalers plan` are told: files, what arrives, who works on it, and what it costs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::learn::{Learned, learn};
use super::log::Log;
use super::{Generated, Machines, Shape, Source, Trace, Workers};
use crate::engine::Version;
use crate::run::duration;
use crate::spec::Scaler;

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

impl LoadArgs {
    /// What arrives; of a run's log, what arrives for this worker.
    ///
    /// # Errors
    /// When an option is out of range, or the trace cannot be read.
    pub fn source(&self, worker: &str) -> anyhow::Result<Source> {
        ensure!(self.rate >= 0.0 && self.rate.is_finite(), "--rate must be 0 or more");
        ensure!(
            (0.0..=1.0).contains(&self.workers.poison_share),
            "--poison-share must be between 0 and 1"
        );
        Ok(match &self.trace {
            Some(path) => Source::Trace(Trace::read(path, worker)?),
            None => Source::Generated(Generated {
                shape: self.shape,
                rate: self.rate,
                messages: self.messages as f64,
                at: self.at.as_secs_f64(),
                over: self.over.map_or(0.0, |d| d.as_secs_f64()),
            }),
        })
    }

    pub fn partitions(&self, file: &Path, scaler: &Scaler, source: &Source) -> usize {
        match (self.partitions, source) {
            (Some(n), _) => usize::from(n),
            (None, Source::Trace(trace)) => trace.partitions,
            (None, Source::Generated(_)) => partitions_of(file, scaler).unwrap_or(12),
        }
    }
}

/// Partitions by the topics.yaml beside a file.
fn partitions_of(file: &Path, scaler: &Scaler) -> Option<usize> {
    let topics = crate::topics::read(&file.parent()?.join("topics.yaml")).ok()?;
    let (topic, _) = scaler.topic()?;
    topics.iter().find(|t| t.name == topic).map(|t| usize::from(t.partitions))
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
    /// As the options say, or as a log shows of this worker; then it is said what was learned.
    ///
    /// # Errors
    /// When the log cannot be read, or shows nothing of it.
    pub fn workers(&self, shape: Shape, worker: &str) -> anyhow::Result<Workers> {
        let told = self.told(shape);
        let Some(path) = &self.workers_from else { return Ok(told) };
        let learned = Log::read(path, worker).and_then(|log| learn(&log, told));
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
