//! The loop: looks become jobs, ends of processes become tries or ends of jobs, and in the end all is told to stop.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::process::Signal;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio_util::sync::CancellationToken;

use super::events::{Event, Events};
use super::jobs::{Ended, Job, Jobs, how};
use super::limits::Fate;
use super::pool::Pool;
use super::watch::Looked;
use crate::engine::Jobs as JobCount;
use crate::simulate::{Look, Seen};

/// The first wait after a failed job; each further one is twice as long. KEDA would create one at every poll.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Kubernetes begins a job's back-off with 10 seconds, doubles it each time, and stops at six minutes: so many times the first.
const LONGEST_BACKOFF: u32 = 36;
/// Files are looked at for edits, and jobs for their deadline, this often, however seldom the lag is.
const EDITS: Duration = Duration::from_millis(500);
/// What the scaler keeps of its own time to stop after its jobs'.
pub const OWN_GRACE: Duration = Duration::from_secs(2);
/// Why a job failed that did not end in time.
const DEADLINE: &str = "it ran longer than activeDeadlineSeconds";

/// What the loop works with.
pub struct Scaling<'a> {
    pub pools: &'a mut [Pool],
    pub jobs: &'a mut Jobs,
    pub events: &'a mut Events,
    pub ended: &'a mut UnboundedReceiver<Ended>,
    /// The first wait of a job whose process failed.
    pub backoff: Duration,
}

/// Scales until told to stop.
pub async fn scale(s: &mut Scaling<'_>, looks: &mut Receiver<Looked>, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut edits = tokio::time::interval(EDITS);
    edits.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let next_try = s
            .jobs
            .next_try()
            .map(|(at, name)| (tokio::time::Instant::from_std(at), name.to_owned()));
        let due = async {
            match next_try {
                Some((at, name)) => {
                    tokio::time::sleep_until(at).await;
                    name
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            Some(job) = s.ended.recv() => reap(s, &job)?,
            name = due => try_again(s, &name)?,
            _ = edits.tick() => {
                for pool in s.pools.iter_mut() {
                    if let Some(event) = pool.reload() {
                        s.events.tell(&event)?;
                    }
                    enforce(pool, s.jobs, s.events)?;
                }
            }
            look = looks.recv() => {
                let Some(look) = look else { return Ok(()) };
                if let Some(pool) = s.pools.get_mut(look.worker) {
                    create(pool, s.jobs, s.events, look.triggers)?;
                }
            }
        }
        s.events.show(|| s.pools.iter().map(|pool| pool.row(s.jobs)).collect());
    }
}

/// Holds a worker's jobs to their deadline.
fn enforce(pool: &mut Pool, jobs: &mut Jobs, events: &mut Events) -> anyhow::Result<()> {
    let worker = pool.scaler.worker.clone();
    for (name, deadline) in jobs.enforce(&worker) {
        let (worker, job, seconds) = (worker.clone(), name.clone(), deadline.as_secs());
        events.tell(&Event::Deadline { worker, job, seconds })?;
        if jobs.get(&name).is_some_and(|job| job.process().is_none()) {
            over(pool, jobs, events, (&name, None), Some(DEADLINE.to_owned()))?;
        }
    }
    Ok(())
}

/// Decides on a look, and starts the jobs that are wanted.
fn create(pool: &mut Pool, jobs: &mut Jobs, events: &mut Events, triggers: Vec<anyhow::Result<Seen>>) -> anyhow::Result<()> {
    let worker = pool.scaler.worker.clone();
    // As in a cluster: a trigger that is not known counts for nothing; without any, the minimum alone is kept, and running
    // jobs go on.
    let errors: Vec<String> = triggers.iter().filter_map(|t| t.as_ref().err()).map(|e| format!("{e:#}")).collect();
    let failing = !errors.is_empty();
    if failing && !pool.blind {
        let (worker, error) = (worker.clone(), errors.join("; "));
        events.tell(&Event::LookFailed { worker, error })?;
    }
    if !failing && pool.blind {
        events.tell(&Event::LookSucceeded { worker: worker.clone() })?;
    }
    pool.blind = failing;
    let blind = errors.len() == triggers.len();
    let seen: Vec<Seen> = triggers.into_iter().map(|t| t.unwrap_or(Seen::Nothing)).collect();
    let running = jobs.running(&worker);
    let count = JobCount {
        running: i64::try_from(running).unwrap_or(i64::MAX),
        pending: i64::try_from(jobs.pending(&worker)).unwrap_or(i64::MAX),
    };
    let decision = pool.decide(&seen, count);
    events.tell(&Event::Look(Look::new(&pool.scaler, &seen, count, decision)))?;
    let poll = Event::Poll {
        worker: worker.clone(),
        lag: decision.lag,
        active: decision.active,
        wanted: decision.wanted,
        running,
    };
    if !blind && pool.last_poll.as_ref() != Some(&poll) {
        events.tell(&poll)?;
        pool.last_poll = Some(poll);
    }
    if pool.not_before.is_some_and(|at| Instant::now() < at) {
        return Ok(());
    }
    for _ in 0..decision.create {
        match jobs.start(&worker, &pool.limits) {
            Ok(job) => events.tell(&started(job, decision.lag))?,
            Err(e) => {
                let error = format!("{e:#}");
                events.tell(&Event::StartFailed { worker, error })?;
                return failed(pool, events);
            }
        }
    }
    Ok(())
}

/// Records a process's end, and what it means for its job.
fn reap(s: &mut Scaling<'_>, ended: &Ended) -> anyhow::Result<()> {
    let Some(job) = s.jobs.get(&ended.name) else { return Ok(()) };
    let (exit_code, signal) = how(&ended.status);
    let worker = job.worker.clone();
    let fate = if job.overdue.is_some() {
        Fate::Failed(DEADLINE.to_owned())
    } else {
        job.limits.fate(exit_code, signal, job.failures)
    };
    let limit = job.limits.backoff_limit;
    let Some(pool) = s.pools.iter_mut().find(|p| p.scaler.worker == worker) else {
        return Ok(());
    };
    let name = (ended.name.as_str(), Some(ended));
    match fate {
        Fate::Succeeded => over(pool, s.jobs, s.events, name, None),
        Fate::Failed(reason) => over(pool, s.jobs, s.events, name, Some(reason)),
        Fate::Again { failures } => {
            tell_end(job, s.events, ended)?;
            let doubled = s.backoff.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(16)));
            let wait = doubled.min(s.backoff.saturating_mul(LONGEST_BACKOFF));
            s.jobs.retry(&ended.name, failures, wait);
            s.events.tell(&Event::Retrying {
                worker,
                job: ended.name.clone(),
                failures,
                limit,
                wait_ms: milliseconds(wait),
            })
        }
    }
}

/// A job is over, by the end of its process if it had one: it succeeded, or failed for a reason.
fn over(
    pool: &mut Pool,
    jobs: &mut Jobs,
    events: &mut Events,
    (name, ended): (&str, Option<&Ended>),
    reason: Option<String>,
) -> anyhow::Result<()> {
    let Some((job, named)) = jobs.end(name, reason.is_some()) else {
        return Ok(());
    };
    if let Some(ended) = ended {
        tell_end(&job, events, ended)?;
    }
    tell_log(&job.worker, events, named)?;
    tell_log(&job.worker, events, jobs.forget(&job.worker, pool.scaler.history))?;
    let Some(reason) = reason else {
        pool.ended.0 += 1;
        pool.failures = 0;
        pool.not_before = None;
        return Ok(());
    };
    pool.ended.1 += 1;
    events.tell(&Event::Failed {
        worker: job.worker,
        job: job.name,
        reason,
        log: job.log,
    })?;
    failed(pool, events)
}

/// Starts the next process of a job; when it cannot be, the job waits as long again.
fn try_again(s: &mut Scaling<'_>, name: &str) -> anyhow::Result<()> {
    let event = match s.jobs.restart(name) {
        Ok(job) => {
            let pool = s.pools.iter().find(|p| p.scaler.worker == job.worker);
            started(job, pool.map_or(0, Pool::lag))
        }
        Err(e) => {
            let Some((worker, failures)) = s.jobs.get(name).map(|job| (job.worker.clone(), job.failures)) else {
                return Ok(());
            };
            s.jobs.retry(name, failures, s.backoff);
            Event::StartFailed {
                worker,
                error: format!("{e:#}"),
            }
        }
    };
    s.events.tell(&event)
}

fn started(job: &Job, lag: i64) -> Event {
    Event::Started {
        worker: job.worker.clone(),
        job: job.name.clone(),
        attempt: job.attempts,
        pid: job.process().map_or(0, |p| p.pid),
        lag,
        log: job.log.clone(),
    }
}

fn tell_end(job: &Job, events: &mut Events, ended: &Ended) -> anyhow::Result<()> {
    let Some(process) = job.process() else { return Ok(()) };
    let (exit_code, signal) = how(&ended.status);
    events.tell(&Event::Ended {
        worker: job.worker.clone(),
        job: job.name.clone(),
        pid: process.pid,
        exit_code,
        signal,
        elapsed_ms: milliseconds(process.started.elapsed()),
        log: job.log.clone(),
    })
}

/// What is wrong with a log is told, and holds up nothing.
fn tell_log(worker: &str, events: &mut Events, done: anyhow::Result<()>) -> anyhow::Result<()> {
    let Err(e) = done else { return Ok(()) };
    events.tell(&Event::LogFailed {
        worker: worker.to_owned(),
        error: format!("{e:#}"),
    })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
        wait_ms: milliseconds(wait),
    })
}

/// Tells the jobs to stop, waits for them as long as they may take, and ends what is left, also when nothing can be told
/// any more.
pub async fn finish(s: &mut Scaling<'_>, grace: Duration) -> anyhow::Result<()> {
    s.events.close();
    s.jobs.give_up_waiting();
    let running = s.jobs.total();
    let mut told = s.events.tell(&Event::Stopping { running });
    for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, OWN_GRACE)] {
        s.jobs.signal(signal);
        let deadline = tokio::time::Instant::now() + patience;
        while s.jobs.total() > 0 {
            let Ok(Some(ended)) = tokio::time::timeout_at(deadline, s.ended.recv()).await else {
                break;
            };
            if let Some((job, named)) = s.jobs.end(&ended.name, how(&ended.status).0 != Some(0)) {
                told = told
                    .and(tell_end(&job, s.events, &ended))
                    .and(tell_log(&job.worker, s.events, named));
            }
        }
    }
    ensure!(s.jobs.total() == 0, "{} jobs did not end", s.jobs.total());
    told
}
