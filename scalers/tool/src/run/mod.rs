//! KEDA's loop on one machine: looks at the lag, starts jobs as processes, and lets them end by themselves.

mod events;
mod jobs;
mod pool;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bus::KafkaConfig;
use runtime::{Env, Reader};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use events::Event;
use events::Events;
use jobs::{Ended, Jobs, how};
use pool::{PodLimits, Pool};

use crate::cli::misconfigured;
use crate::engine::{Jobs as JobCount, Partition, Version};
use crate::kafka::Group;
use crate::simulate::{Decided, Look};
use crate::spec::{Scaler, Trigger, read_dir};

/// The first wait after a failed job; each further one is twice as long, as a Job's `backoffLimit` would have it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// What the scaler keeps of its own time to stop after its jobs'.
const OWN_GRACE: Duration = Duration::from_secs(2);

/// Kubernetes' own grace, where a pod names none.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

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
    /// Where the pods are whose deadline and grace hold for jobs here too [default: ../k8s/base/workers of --scalers]
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

/// What a look at a worker's lag gave.
struct Seen {
    worker: usize,
    partitions: anyhow::Result<Vec<Partition>>,
}

/// Runs until told to stop; then tells the jobs, waits for them, and ends with 0.
///
/// # Errors
/// When the files, the programs or the configuration are wrong, or what happens cannot be written.
pub async fn run(args: RunArgs, env: &Env, stop: CancellationToken) -> anyhow::Result<()> {
    let mut events = Events::to(args.events.clone())?;
    let scalers = choose(&args, &events).map_err(misconfigured)?;
    let (kafka, grace) = settings(env)?;
    notes(&args, &scalers, &events);
    let (tell_ended, mut ended) = mpsc::unbounded_channel();
    let job_grace = grace.saturating_sub(OWN_GRACE).max(Duration::from_secs(1));
    let mut jobs = Jobs::new(args.bin_dir.clone(), args.log_dir.clone(), job_grace, tell_ended)?;
    let (tell_look, mut looks) = mpsc::channel(scalers.len().max(1));
    let mut pools = Vec::with_capacity(scalers.len());
    let pods = args.pods.clone().unwrap_or_else(|| args.scalers.join("../k8s/base/workers"));
    for (worker, scaler) in scalers.into_iter().enumerate() {
        let limits = PodLimits::read(&pods, &scaler.worker).map_err(misconfigured)?;
        let pool = Pool::new(scaler, &args.scalers, limits).map_err(misconfigured)?;
        let scaler = &pool.scaler;
        let (topic, consumers) = scaler.topic().context("no kafka trigger")?;
        let group = Group::new(&brokers(&kafka, scaler, env).map_err(misconfigured)?, topic, consumers)?;
        let every = args.poll.unwrap_or(scaler.polling_interval);
        tokio::spawn(watch(worker, group, every, tell_look.clone(), stop.clone()));
        pools.push(pool);
    }
    drop(tell_look);
    let scaling = scale(&mut pools, &mut jobs, &mut events, &mut looks, &mut ended, &stop).await;
    let stopped = finish(&mut jobs, &mut events, &mut ended, job_grace).await;
    scaling.and(stopped)
}

/// The workers to run: those that were named, else those whose program is there.
fn choose(args: &RunArgs, events: &Events) -> anyhow::Result<Vec<Scaler>> {
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

/// The brokers that a file names, by a variable.
fn brokers(kafka: &KafkaConfig, scaler: &Scaler, env: &Env) -> anyhow::Result<KafkaConfig> {
    let name = scaler.triggers.iter().find_map(|t| match t {
        Trigger::Kafka { brokers_from, .. } => brokers_from.as_deref(),
        Trigger::Mongodb(_) => None,
    });
    let Some(name) = name.filter(|name| *name != "KAFKA_BROKERS") else {
        return Ok(kafka.clone());
    };
    let set: BTreeMap<String, String> = env.raw();
    let lower = name.to_ascii_lowercase();
    let found = set.iter().find(|(key, _)| key.to_ascii_lowercase() == lower);
    let (_, brokers) = found.with_context(|| format!("{name} is not set, and {}.yaml takes the brokers from it", scaler.worker))?;
    Ok(KafkaConfig {
        brokers: brokers.clone(),
        ..kafka.clone()
    })
}

/// What is not as it will be in a cluster, said once.
fn notes(args: &RunArgs, scalers: &[Scaler], events: &Events) {
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

/// Looks at a group's lag again and again; a look that takes longer than the interval delays the next one.
async fn watch(worker: usize, group: Group, every: Duration, tell: Sender<Seen>, stop: CancellationToken) {
    let group = Arc::new(group);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let looking = Arc::clone(&group);
        let partitions = match tokio::task::spawn_blocking(move || looking.partitions()).await {
            Ok(partitions) => partitions,
            Err(e) => Err(e.into()),
        };
        if tell.send(Seen { worker, partitions }).await.is_err() {
            return;
        }
    }
}

async fn scale(
    pools: &mut [Pool],
    jobs: &mut Jobs,
    events: &mut Events,
    looks: &mut Receiver<Seen>,
    ended: &mut UnboundedReceiver<Ended>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            Some(job) = ended.recv() => reap(pools, jobs, events, &job)?,
            look = looks.recv() => {
                let Some(look) = look else { return Ok(()) };
                if let Some(pool) = pools.get_mut(look.worker) {
                    create(pool, jobs, events, look.partitions)?;
                }
            }
        }
    }
}

/// Decides on a look, and starts the jobs that are wanted.
fn create(pool: &mut Pool, jobs: &mut Jobs, events: &mut Events, look: anyhow::Result<Vec<Partition>>) -> anyhow::Result<()> {
    let worker = pool.scaler.worker.clone();
    if let Some(deadline) = pool.limits.deadline {
        let grace = pool.limits.grace.unwrap_or(DEFAULT_GRACE);
        for job in jobs.enforce(&worker, deadline, grace) {
            let (worker, seconds) = (worker.clone(), deadline.as_secs());
            events.tell(&Event::Deadline { worker, job, seconds })?;
        }
    }
    let partitions = match look {
        Ok(partitions) => partitions,
        Err(e) => {
            // As in a cluster: what is not known creates nothing, and running jobs go on.
            if !std::mem::replace(&mut pool.blind, true) {
                let error = format!("{e:#}");
                events.tell(&Event::LookFailed { worker, error })?;
            }
            return Ok(());
        }
    };
    if std::mem::take(&mut pool.blind) {
        events.tell(&Event::LookSucceeded { worker: worker.clone() })?;
    }
    if let Some(event) = pool.reload() {
        events.tell(&event)?;
    }
    let running = jobs.running(&worker);
    let count = JobCount {
        running: i64::try_from(running).unwrap_or(i64::MAX),
        pending: i64::try_from(jobs.pending(&worker)).unwrap_or(i64::MAX),
    };
    let decision = pool.decide(&partitions, count);
    events.tell(&Event::Look(look_of(&worker, &partitions, count, decision)))?;
    let poll = Event::Poll {
        worker: worker.clone(),
        lag: decision.lag,
        active: decision.active,
        wanted: decision.wanted,
        running,
    };
    if pool.last_poll.as_ref() != Some(&poll) {
        events.tell(&poll)?;
        pool.last_poll = Some(poll);
    }
    if pool.not_before.is_some_and(|at| Instant::now() < at) {
        return Ok(());
    }
    for _ in 0..decision.create {
        match jobs.start(&worker) {
            Ok(job) => events.tell(&Event::Started {
                worker: worker.clone(),
                job: job.name.clone(),
                pid: job.pid,
                lag: decision.lag,
                log: job.log.clone(),
            })?,
            Err(e) => {
                let error = format!("{e:#}");
                events.tell(&Event::StartFailed { worker, error })?;
                return failed(pool, events);
            }
        }
    }
    Ok(())
}

/// A look as programs read it, and `scalers simulate --decisions` takes it again.
fn look_of(worker: &str, partitions: &[Partition], jobs: JobCount, decision: Decided) -> Look {
    Look {
        worker: worker.to_owned(),
        offsets: partitions.iter().map(|p| (p.committed, p.end)).collect(),
        running: jobs.running,
        pending: jobs.pending,
        metric: decision.metric,
        wanted: decision.wanted,
        create: decision.create,
    }
}

/// Records a job's end.
fn reap(pools: &mut [Pool], jobs: &mut Jobs, events: &mut Events, ended: &Ended) -> anyhow::Result<()> {
    let Some(worker) = tell_end(jobs, events, ended)? else {
        return Ok(());
    };
    let Some(pool) = pools.iter_mut().find(|p| p.scaler.worker == worker) else {
        return Ok(());
    };
    let (succeeded, failed_ones) = pool.scaler.history;
    jobs.forget(&worker, succeeded.saturating_add(failed_ones))?;
    if how(&ended.status).0 == Some(0) {
        pool.failures = 0;
        pool.not_before = None;
        return Ok(());
    }
    failed(pool, events)
}

fn tell_end(jobs: &mut Jobs, events: &mut Events, ended: &Ended) -> anyhow::Result<Option<String>> {
    let Some(job) = jobs.end(&ended.name) else { return Ok(None) };
    let (exit_code, signal) = how(&ended.status);
    events.tell(&Event::Ended {
        worker: job.worker.clone(),
        job: job.name,
        pid: job.pid,
        exit_code,
        signal,
        elapsed_ms: u64::try_from(job.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        log: job.log,
    })?;
    Ok(Some(job.worker))
}

/// Lets a worker wait after a failure, so that a broken program does not spin.
fn failed(pool: &mut Pool, events: &mut Events) -> anyhow::Result<()> {
    let wait = FIRST_WAIT
        .saturating_mul(2u32.saturating_pow(pool.failures.min(16)))
        .min(LONGEST_WAIT);
    pool.failures = pool.failures.saturating_add(1);
    pool.not_before = Some(Instant::now() + wait);
    events.tell(&Event::Waiting {
        worker: pool.scaler.worker.clone(),
        failures: pool.failures,
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
    })
}

/// Tells the jobs to stop, waits for them as long as they may take, and ends what is left.
async fn finish(jobs: &mut Jobs, events: &mut Events, ended: &mut UnboundedReceiver<Ended>, grace: Duration) -> anyhow::Result<()> {
    let running = jobs.total();
    events.tell(&Event::Stopping { running })?;
    for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, OWN_GRACE)] {
        jobs.signal(signal);
        let deadline = tokio::time::Instant::now() + patience;
        while jobs.total() > 0 {
            match tokio::time::timeout_at(deadline, ended.recv()).await {
                Ok(Some(job)) => drop(tell_end(jobs, events, &job)?),
                Ok(None) | Err(_) => break,
            }
        }
    }
    ensure!(jobs.total() == 0, "{} jobs did not end", jobs.total());
    Ok(())
}
