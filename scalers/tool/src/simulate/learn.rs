//! How workers behave, learned from what `scalers run --events` saw of them.
//!
//! The log's arrivals and the starts of its jobs are played through the yard again and again, with other times a message, a
//! start and so on each time, until lag and running jobs come as close to what the looks saw as they get. No decision is
//! taken here: a log can be of any scaler file.

use anyhow::ensure;

use super::log::Log;
use super::source::Source;
use super::trace::Trace;
use super::yard::{Workers, Yard};

/// So many looks are compared, from the first with lag on: an hour of one a second and more.
const LOOKS: usize = 5_000;
/// Steps of the search, each as long as it helps.
const STEPS: [f64; 7] = [2.0, 1.5, 1.25, 1.1, 1.05, 1.02, 1.01];
/// From small steps it begins with large ones again, which leads out of a ridge.
const CYCLES: usize = 3;
/// Rounds of one step at most.
const ROUNDS: usize = 40;
/// Seconds of a join that the search begins with.
const JOINS: [f64; 3] = [0.1, 0.7, 3.0];
/// What is learned lies between these, in seconds.
const RANGE: (f64, f64) = (1e-5, 3600.0);
/// Jobs have their partitions so long after the last of them was started, in seconds.
const SETTLED: f64 = 3.0;
/// A stretch of steady work is worth measuring from so many seconds on; workers commit once a second.
const STRETCH: f64 = 4.0;
/// So far off may be what was measured of it.
const MEASURED: f64 = 1.03;

/// What was learned, and how well it explains the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learned {
    pub workers: Workers,
    /// How far the lag is off on the way, as a share of its peak (root of the mean square).
    pub off: f64,
}

/// A look as it is compared.
struct Seen {
    at: f64,
    lag: f64,
    running: f64,
    /// What has been committed, and on how many partitions something waits.
    done: f64,
    lagging: f64,
}

/// What happened, in seconds from the first look.
struct Past {
    source: Source,
    partitions: usize,
    seen: Vec<Seen>,
    started: Vec<f64>,
    peak: f64,
    most: f64,
    /// Between these is the time a message takes.
    each: (f64, f64),
}

/// Per message, start, join, idle exit.
type Times = [f64; 4];

/// Learns from a log; what a log cannot show is taken from `known`.
///
/// # Errors
/// When the log shows no job at work.
pub fn learn(log: &Log, known: Workers) -> anyhow::Result<Learned> {
    let past = Past::of(log)?;
    let start = past.first_progress().unwrap_or(known.machines.pod_start);
    // One quick job may look like several slow ones, so the search begins at several places.
    let starts = JOINS
        .iter()
        .flat_map(|join| [1.0, 0.75, 0.5].map(|share| (*join, share * past.busy_per_message())));
    let found = starts.flat_map(|(join, each)| [0.3, 1.0].map(|idle| past.search(known, [each, start, join, idle * known.idle_exit])));
    let best = found.min_by(|a, b| a.1.total_cmp(&b.1));
    let (mut best, cost) = best.unwrap_or(([known.per_message, start, 0.0, known.idle_exit], f64::INFINITY));
    // One job at a time joins nobody: what makes no difference is nothing.
    let alone = [best[0], best[1], 0.0, best[3]];
    if past.cost(workers(known, alone)) <= cost * 1.001 {
        best = alone;
    }
    let workers = workers(known, best);
    let (lag, _) = past.errors(workers);
    Ok(Learned { workers, off: lag.sqrt() })
}

fn workers(known: Workers, [per_message, pod_start, join, idle_exit]: Times) -> Workers {
    let mut workers = Workers {
        per_message,
        idle_exit,
        ..known
    };
    workers.machines.pod_start = pod_start;
    workers.machines.join = join;
    workers
}

/// One time longer or shorter, or two of them: a slower start may look like slower work.
fn neighbours(of: Times, step: f64) -> Vec<Times> {
    let moves = |n: usize| [(n, step), (n, 1.0 / step)];
    let single: Vec<(usize, f64)> = (0..of.len()).flat_map(moves).collect();
    let mut all = Vec::new();
    for (n, (a, up)) in single.iter().enumerate() {
        let mut one = of;
        scale(&mut one, *a, *up);
        all.push(one);
        for (b, other) in single.iter().skip(n + 1).filter(|(b, _)| b != a) {
            let mut two = one;
            scale(&mut two, *b, *other);
            all.push(two);
        }
    }
    all
}

fn scale(times: &mut Times, n: usize, by: f64) {
    if let Some(time) = times.get_mut(n) {
        *time = (*time * by).clamp(RANGE.0, RANGE.1);
    }
}

/// What waits on a partition: nothing that is known of where nothing was ever committed.
fn waiting(offsets: &(Option<i64>, Option<i64>)) -> i64 {
    match offsets {
        (Some(committed), Some(end)) => end - committed,
        _ => 0,
    }
}

/// Seconds from the first look to the last.
fn length(seen: &[Seen]) -> f64 {
    seen.last().map_or(0.0, |s| s.at) - seen.first().map_or(0.0, |s| s.at)
}

/// Messages a second, by the line through what was committed.
fn slope(seen: &[Seen]) -> f64 {
    let n = seen.len() as f64;
    let (at, done) = (
        seen.iter().map(|s| s.at).sum::<f64>() / n,
        seen.iter().map(|s| s.done).sum::<f64>() / n,
    );
    let spread: f64 = seen.iter().map(|s| (s.at - at).powi(2)).sum();
    let both: f64 = seen.iter().map(|s| (s.at - at) * (s.done - done)).sum();
    if spread > 0.0 { both / spread } else { 0.0 }
}

impl Past {
    /// Seconds of a job that each message took, starts and idling included.
    fn busy_per_message(&self) -> f64 {
        let busy: f64 = self.seen.windows(2).map(|w| w[1].running * (w[1].at - w[0].at)).sum();
        busy / self.peak
    }

    /// From the first job's start to the first look that sees something done.
    fn first_progress(&self) -> Option<f64> {
        let started = self.started.first()?;
        let done = self.seen.windows(2).find(|w| w[1].at > *started && w[1].lag < w[0].lag)?;
        Some(done[1].at - started)
    }

    fn within(&self, times: Times) -> Times {
        let [each, start, join, idle] = times.map(|time| time.clamp(RANGE.0, RANGE.1));
        [each.clamp(self.each.0, self.each.1), start, join, idle]
    }

    /// The time a message takes a job, measured where as many jobs as partitions with lag, or fewer, worked for a while
    /// without one that came or went: from the line through what they had committed. The fit alone may take slow work for a
    /// late start.
    fn steady(&self) -> Option<f64> {
        let joining = |at: f64| self.started.iter().any(|start| (0.0..SETTLED).contains(&(at - start)));
        let busy = |s: &Seen| s.running > 0.0 && s.lagging >= s.running && !joining(s.at);
        let stretches = self.seen.chunk_by(|a, b| a.running == b.running && busy(a) == busy(b));
        let long = |s: &&[Seen]| s.first().is_some_and(busy) && length(s) >= STRETCH;
        let stretch = stretches.filter(long).max_by(|a, b| length(a).total_cmp(&length(b)))?;
        let jobs = stretch.first()?.running;
        let slope = slope(stretch);
        (slope > 0.0).then(|| jobs / slope)
    }

    fn search(&self, known: Workers, from: Times) -> (Times, f64) {
        let mut best = self.within(from);
        let mut cost = self.cost(workers(known, best));
        for step in STEPS.into_iter().cycle().take(STEPS.len() * CYCLES) {
            for _ in 0..ROUNDS {
                let before = cost;
                for tried in neighbours(best, step).into_iter().map(|t| self.within(t)) {
                    let now = self.cost(workers(known, tried));
                    if now < cost {
                        (best, cost) = (tried, now);
                    }
                }
                if cost >= before * (1.0 - 1e-4) {
                    break;
                }
            }
        }
        (best, cost)
    }

    fn of(log: &Log) -> anyhow::Result<Self> {
        let trace = Trace::of_log(log)?;
        let start = log.looks.iter().find(|(_, _, look)| !look.offsets.is_empty());
        let start = start.map_or(0.0, |(_, at, _)| *at);
        // Looks that failed saw nothing.
        let all = log.looks.iter().filter(|(_, _, look)| !look.offsets.is_empty());
        let all = all.map(|(_, at, look)| Seen {
            at: at - start,
            lag: look.offsets.iter().map(waiting).sum::<i64>() as f64,
            running: look.running as f64,
            done: look.offsets.iter().filter_map(|(c, _)| *c).sum::<i64>() as f64,
            lagging: look.offsets.iter().filter(|offsets| waiting(offsets) > 0).count() as f64,
        });
        let idle = |s: &Seen| s.lag <= 0.0 && s.running <= 0.0;
        let seen: Vec<Seen> = all.skip_while(idle).take(LOOKS).collect();
        let until = seen.last().map_or(0.0, |s| s.at);
        let started: Vec<f64> = log.started.iter().map(|at| at - start).filter(|at| *at <= until).collect();
        let peak = seen.iter().map(|s| s.lag).fold(0.0, f64::max);
        let most = seen.iter().map(|s| s.running).fold(0.0, f64::max);
        ensure!(
            peak > 0.0 && most > 0.0 && seen.len() >= 10,
            "it shows no job at work: let scalers run --events see a burst that takes its jobs ten looks or more"
        );
        let mut past = Self {
            partitions: trace.partitions,
            source: Source::Trace(trace),
            seen,
            started,
            peak,
            most,
            each: RANGE,
        };
        if let Some(each) = past.steady() {
            past.each = (each / MEASURED, each * MEASURED);
        }
        Ok(past)
    }

    fn cost(&self, workers: Workers) -> f64 {
        let (lag, running) = self.errors(workers);
        lag + running
    }

    /// Mean squares of what lag and running jobs are off, as shares of their peaks.
    fn errors(&self, mut workers: Workers) -> (f64, f64) {
        workers.machines.per_node = 0;
        let mut yard = Yard::new(workers, &self.source, self.partitions, true);
        let mut started = self.started.iter().peekable();
        let (mut lag, mut running) = (0.0, 0.0);
        for seen in &self.seen {
            while let Some(at) = started.next_if(|at| **at <= seen.at) {
                yard.advance(*at);
                yard.pods.create(*at);
            }
            yard.advance(seen.at);
            // Roots, so that the end of a burst and a small one count beside the large ones.
            lag += ((yard.lag().max(0) as f64).sqrt() - seen.lag.sqrt()).powi(2) / self.peak;
            running += ((yard.pods.all.len() as f64 - seen.running) / self.most).powi(2);
        }
        let looks = self.seen.len() as f64;
        (lag / looks, running / looks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::{Look, Machines};

    const TRUE: Workers = Workers {
        machines: Machines {
            pod_start: 0.6,
            join: 1.4,
            node_start: 0.0,
            per_node: 0,
            warm: 0,
            most: 0,
            node_idle: 0.0,
        },
        per_message: 0.04,
        idle_exit: 1.5,
        max_run: 1e9,
        commit_every: 1.0,
        documents: 0,
    };

    /// What a run of such workers would log: 800 messages on four partitions, three jobs at once and one later.
    fn logged(workers: Workers) -> Log {
        let nothing = Source::Trace(Trace::default());
        let mut yard = Yard::new(workers, &nothing, 4, true);
        let mut log = Log::default();
        for n in 0..120 {
            let at = f64::from(n) * 0.2;
            yard.advance(at);
            if n == 3 {
                yard.queues.iter_mut().for_each(|q| q.arrive(at, 200));
            }
            let offsets = yard.queues.iter().map(|q| (Some(q.committed()), Some(q.end))).collect();
            let running = i64::try_from(yard.pods.all.len()).unwrap();
            let look = Look {
                worker: "w".to_owned(),
                offsets,
                others: Vec::new(),
                running,
                pending: 0,
                metric: 0,
                wanted: 0,
                create: 0,
            };
            log.looks.push((n as usize, 1000.0 + at, look));
            let created = match n {
                3 => 3,
                8 => 1,
                _ => 0,
            };
            for _ in 0..created {
                yard.pods.create(at);
                log.started.push(1000.0 + at);
            }
        }
        log
    }

    #[test]
    fn what_a_log_shows_is_found_from_a_wrong_guess() {
        let mut guess = TRUE;
        (guess.machines.pod_start, guess.idle_exit, guess.per_message) = (5.0, 5.0, 3.0);
        let learned = learn(&logged(TRUE), guess).unwrap();
        let close = |found: f64, is: f64, within: f64| assert!((found / is - 1.0).abs() <= within, "{found} for {is}: {learned:?}");
        close(learned.workers.per_message, 0.04, 0.03);
        close(learned.workers.machines.pod_start + learned.workers.machines.join, 2.0, 0.2);
        close(learned.workers.idle_exit, 1.5, 0.2);
        assert!(learned.off < 0.03, "{learned:?}");
    }

    #[test]
    fn a_partition_where_nothing_was_ever_committed_is_not_one_that_lags() {
        let mut log = logged(TRUE);
        let lagging = |log: &Log| Past::of(log).unwrap().seen.iter().map(|s| s.lagging).fold(0.0, f64::max);
        let before = lagging(&log);
        for (_, _, look) in &mut log.looks {
            look.offsets.extend([(None, Some(0)), (None, None)]);
        }
        assert_eq!((before, lagging(&log)), (4.0, 4.0));
    }

    #[test]
    fn a_log_without_work_teaches_nothing() {
        let mut log = logged(TRUE);
        log.looks.truncate(2);
        log.started.clear();
        let error = learn(&log, TRUE).unwrap_err().to_string();
        assert!(error.contains("no job at work"), "{error}");
    }
}
