//! KEDA's loop on one machine: looks at the lag, starts jobs as processes, and lets them end by themselves.

mod events;
mod jobs;
mod limits;
mod logs;
mod pool;
mod scale;
mod table;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};
use bus::KafkaConfig;
use runtime::{Env, Reader};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use events::Event;
use events::Events;
use jobs::Jobs;
use pool::Pool;
use scale::{OWN_GRACE, Scaling, finish, scale};
use watch::{eyes, watch};

use crate::cli::misconfigured;
use crate::engine::Version;
use crate::spec::{Scaler, read_dir};

/// How to run.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Where the scaler files are
    #[arg(long, value_name = "DIR", default_value = "scalers")]
    pub scalers: PathBuf,
    /// Where the workers' programs are
    #[arg(long, value_name = "DIR", default_value = "target/debug")]
    pub bin_dir: PathBuf,
    /// Look this often, e.g. 1s or 500ms, instead of each file's pollingInterval
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub poll: Option<Duration>,
    /// Run this worker only; can be repeated. Default: every worker whose program is there
    #[arg(long, value_name = "NAME")]
    pub worker: Vec<String>,
    /// Also write what happens as JSON lines to this file; - is standard output
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// How long a job whose process failed waits for its next try; twice as long each time, up to 36 times. Kubernetes' is 10s
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub backoff: Duration,
    /// Where the pods are whose deadline, grace, backoffLimit and podFailurePolicy hold for jobs here too [default: ../k8s/base/workers of --scalers]
    #[arg(long, value_name = "DIR")]
    pub pods: Option<PathBuf>,
    /// Where the jobs' logs go
    #[arg(long, value_name = "DIR", default_value = ".stack/jobs")]
    pub log_dir: PathBuf,
}

#[derive(Deserialize)]
struct RawGrace {
    grace_seconds: Option<String>,
}

/// A time such as `1s`, `500ms` or `2m`, from 10 ms to a day.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    parsed
        .filter(|d| (Duration::from_millis(10)..=Duration::from_secs(86_400)).contains(d))
        .ok_or_else(|| "it must be a time from 10ms to 24h, such as 1s".to_owned())
}

/// Runs until told to stop; then tells the jobs, waits for them, and ends with 0.
///
/// # Errors
/// When the files, the programs or the configuration are wrong, or what happens cannot be written.
pub async fn run(args: RunArgs, env: &Env, stop: CancellationToken) -> anyhow::Result<()> {
    let mut events = Events::to(args.events.clone())?;
    let scalers = choose(&args, &mut events).map_err(misconfigured)?;
    let (kafka, grace) = settings(env)?;
    notes(&args, &scalers, &mut events);
    let (tell_ended, mut ended) = mpsc::unbounded_channel();
    let job_grace = grace.saturating_sub(OWN_GRACE).max(Duration::from_secs(1));
    let mut jobs = Jobs::new(args.bin_dir.clone(), args.log_dir.clone(), job_grace, tell_ended)?;
    let (tell_look, mut looks) = mpsc::channel(scalers.len().max(1));
    let mut pools = Vec::with_capacity(scalers.len());
    let pods = args.pods.clone().unwrap_or_else(|| args.scalers.join("../k8s/base/workers"));
    for (worker, scaler) in scalers.into_iter().enumerate() {
        let pool = Pool::new(scaler, &args.scalers, &pods, args.poll).map_err(misconfigured)?;
        let eyes = eyes(&kafka, &pool.scaler, env).await.map_err(misconfigured)?;
        tokio::spawn(watch(worker, eyes, pool.every(), tell_look.clone(), stop.clone()));
        pools.push(pool);
    }
    drop(tell_look);
    let mut scaling = Scaling {
        pools: &mut pools,
        jobs: &mut jobs,
        events: &mut events,
        ended: &mut ended,
        backoff: args.backoff,
    };
    let scaled = scale(&mut scaling, &mut looks, &stop).await;
    let stopped = finish(&mut scaling, job_grace).await;
    scaled.and(stopped)
}

/// The workers to run: those that were named, else those whose program is there.
fn choose(args: &RunArgs, events: &mut Events) -> anyhow::Result<Vec<Scaler>> {
    let program = |scaler: &Scaler| args.bin_dir.join(&scaler.worker);
    let mut scalers = read_dir(&args.scalers, Version::DEFAULT)?;
    if args.worker.is_empty() {
        let (there, skipped): (Vec<_>, Vec<_>) = scalers.into_iter().partition(|s| program(s).is_file());
        for scaler in &skipped {
            events.say(&format!("{}: skipped, {} does not exist", scaler.worker, program(scaler).display()));
        }
        ensure!(
            !there.is_empty(),
            "{} has no worker's program: build them, or name the place with --bin-dir",
            args.bin_dir.display()
        );
        return Ok(there);
    }
    for name in &args.worker {
        let Some(scaler) = scalers.iter().find(|s| s.worker == *name) else {
            bail!("{} has no file for worker {name}", args.scalers.display());
        };
        let program = program(scaler);
        ensure!(program.is_file(), "{} does not exist: cargo build -p {name}", program.display());
    }
    scalers.retain(|s| args.worker.contains(&s.worker));
    Ok(scalers)
}

fn settings(env: &Env) -> anyhow::Result<(KafkaConfig, Duration)> {
    let mut r = Reader::default();
    let kafka = KafkaConfig::read(env, &mut r);
    let grace = r.with_default::<u64>("GRACE_SECONDS", env.raw::<RawGrace>().grace_seconds, "25");
    Ok(r.finish(kafka.zip(grace.map(Duration::from_secs)))?)
}

/// What is not as it will be in a cluster, said once.
fn notes(args: &RunArgs, scalers: &[Scaler], events: &mut Events) {
    let names: Vec<&str> = scalers.iter().map(|s| s.worker.as_str()).collect();
    events.say(&format!(
        "scaling {} from zero, programs in {}",
        names.join(", "),
        args.bin_dir.display()
    ));
    if let Some(poll) = args.poll {
        let files: Vec<String> = scalers
            .iter()
            .map(|s| format!("{} {} s", s.worker, s.polling_interval.as_secs()))
            .collect();
        events.say(&format!("--poll {poll:?} overrides pollingInterval ({})", files.join(", ")));
    }
    let mut ignored: Vec<&str> = scalers.iter().flat_map(|s| s.ignored.iter().copied()).collect();
    ignored.sort_unstable();
    ignored.dedup();
    if !ignored.is_empty() {
        events.say(&format!(
            "{} of the files are for clusters and not used here: KAFKA_… in the environment says how to connect",
            ignored.join(", ")
        ));
    }
}
