//! The simulation: messages arrive, KEDA looks and decides by the engine, pods start, work, and end.
//!
//! Time goes from event to event (a look, an arrival, a pod that is ready, one that has been idle long enough), and at most
//! a second at once while there is work. Memory does not grow with time.

use serde::Serialize;

use super::pods::{Machines, Pods};
use super::queue::{Latencies, Queue};
use super::source::Source;
use crate::engine::{Bound, Health, Hpa, Jobs, Measured, Memory, ObjectState, Partition, Rule, ScaledObject, Version};
use crate::spec::{Kind, Scaler, Trigger};

/// While there is work, nothing is looked at less often than this.
const STRIDE: f64 = 1.0;
/// Kubernetes' HPA looks this often.
const HPA_SYNC: f64 = 15.0;

/// How workers behave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Workers {
    pub machines: Machines,
    /// Seconds a message takes one job, all that it works on at one time together.
    pub per_message: f64,
    /// A job with nothing to do ends after so long.
    pub idle_exit: f64,
    /// A job begins nothing new after so long.
    pub max_run: f64,
    /// Offsets are committed this often.
    pub commit_every: f64,
    /// Documents that a mongodb trigger counts.
    pub documents: i64,
}

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    /// Seconds from the start.
    pub t: f64,
    pub lag: i64,
    pub metric: i64,
    pub active: bool,
    pub wanted: i64,
    pub created: i64,
    /// Before this look's.
    pub running: i64,
    pub pending: i64,
    pub nodes: usize,
    pub rule: Rule,
}

/// What it all came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Totals {
    pub polls: u64,
    pub seconds: f64,
    pub messages: f64,
    /// What waits still at the end.
    pub left: f64,
    /// The longest time that there was lag without a break.
    pub drain_seconds: f64,
    pub latency_p50_seconds: Option<f64>,
    pub latency_p95_seconds: Option<f64>,
    pub latency_p99_seconds: Option<f64>,
    /// Jobs that were created; for a ScaledObject, replicas that were started.
    pub jobs: u64,
    /// Of them, those that found nothing to do.
    pub idle_starts: u64,
    pub peak_lag: i64,
    pub peak_running: i64,
    pub pod_minutes: f64,
    pub node_minutes: f64,
    /// At the price of an hour that was given, of nodes when they matter, else of pods.
    pub cost: f64,
}

/// A world at a time.
pub struct World<'a> {
    scaler: &'a Scaler,
    keda: Version,
    workers: Workers,
    source: &'a Source,
    now: f64,
    pods: Pods,
    queues: Vec<Queue>,
    memories: Vec<Memory>,
    latencies: Latencies,
    lag_since: Option<f64>,
    object: Option<(ScaledObject, ObjectState, f64)>,
    totals: Totals,
    // Reused, so that a look allocates nothing.
    seen: Vec<Partition>,
    measured: Vec<Measured>,
    ready: Vec<usize>,
}

impl<'a> World<'a> {
    pub fn new(scaler: &'a Scaler, keda: Version, workers: Workers, source: &'a Source, partitions: usize) -> Self {
        let mut queues = vec![Queue::default(); partitions.max(1)];
        if let Source::Trace(trace) = source {
            for (queue, waiting) in queues.iter_mut().zip(&trace.waiting) {
                queue.arrive(0.0, *waiting);
            }
        }
        let state = ObjectState {
            replicas: 0,
            last_active: None,
            created: 0.0,
        };
        Self {
            scaler,
            keda,
            workers,
            source,
            now: 0.0,
            pods: Pods::new(workers.machines),
            memories: vec![Memory::default(); scaler.triggers.len()],
            latencies: Latencies::default(),
            lag_since: queues.iter().any(|q| q.waiting() > 0.0).then_some(0.0),
            object: match &scaler.kind {
                Kind::Object(object) => Some((object.clone(), state, 0.0)),
                Kind::Job(_) => None,
            },
            totals: Totals::default(),
            seen: Vec::with_capacity(queues.len()),
            measured: Vec::new(),
            ready: Vec::new(),
            queues,
        }
    }

    /// Runs until a time, or, when `drained` is asked for, until nothing comes, waits or runs any more.
    pub fn run(mut self, until: f64, drained: bool, price: f64, mut look: impl FnMut(&Row)) -> Totals {
        let interval = self.scaler.polling_interval.as_secs_f64();
        let end = self.source.end().filter(|_| drained);
        while self.now <= until {
            let row = self.poll();
            look(&row);
            self.totals.polls += 1;
            let over = end.is_some_and(|end| self.now >= end);
            if over && row.lag <= 0 && self.pods.all.is_empty() {
                break;
            }
            self.advance(self.now + interval);
        }
        self.sum_up(price)
    }

    fn sum_up(mut self, price: f64) -> Totals {
        self.lag_over();
        let hours = if self.workers.machines.per_node > 0 {
            self.totals.node_minutes
        } else {
            self.totals.pod_minutes
        } / 60.0;
        Totals {
            seconds: self.now,
            messages: thousandths(self.latencies.messages()),
            left: thousandths(self.queues.iter().map(Queue::waiting).sum()),
            latency_p50_seconds: self.latencies.quantile(0.5),
            latency_p95_seconds: self.latencies.quantile(0.95),
            latency_p99_seconds: self.latencies.quantile(0.99),
            cost: hours * price,
            ..self.totals
        }
    }

    /// Goes on to a time, event by event.
    fn advance(&mut self, to: f64) {
        while self.now < to {
            let mut next = to.min(self.pods.next_change(self.now));
            if let Some(jump) = self.source.next_jump(self.now) {
                next = next.min(jump);
            }
            if self.object.is_some() {
                next = next.min((self.now / HPA_SYNC).floor() * HPA_SYNC + HPA_SYNC);
            } else {
                for pod in &self.pods.all {
                    let idle = pod.idle_since.map_or(f64::INFINITY, |at| at + self.workers.idle_exit);
                    next = next.min(idle.max(self.now + 1e-6));
                }
            }
            if !self.pods.all.is_empty() {
                next = next.min(self.now + STRIDE);
            }
            self.segment(self.now, next);
            self.now = next;
            self.endings();
            self.pods.settle(self.now);
            if self.object.is_some() && (self.now % HPA_SYNC).abs() < 1e-6 {
                self.sync_hpa();
            }
        }
    }

    /// What happens between two events: pods work, then messages arrive.
    fn segment(&mut self, from: f64, to: f64) {
        let seconds = to - from;
        self.totals.pod_minutes += self.pods.all.len() as f64 * seconds / 60.0;
        self.totals.node_minutes += self.pods.nodes() as f64 * seconds / 60.0;
        self.ready.clear();
        let all = self.pods.all.iter().enumerate();
        self.ready.extend(all.filter(|(_, p)| p.ready <= from).map(|(n, _)| n));
        let tick = (to / self.workers.commit_every).floor() * self.workers.commit_every;
        let commit = (tick > from).then_some(tick);
        let count = self.ready.len();
        for (turn, pod) in self.ready.iter().enumerate() {
            let Some(pod) = self.pods.all.get_mut(*pod) else { continue };
            let mut capacity = seconds / self.workers.per_message;
            let full = capacity;
            // A share of the partitions each; what one does not need, the others get.
            loop {
                let mine = || (turn..self.queues.len()).step_by(count);
                let waiting = mine().filter(|n| self.queues.get(*n).is_some_and(|q| q.waiting() > 1e-9)).count();
                if waiting == 0 || capacity <= 1e-9 {
                    break;
                }
                let share = capacity / waiting as f64;
                for n in mine() {
                    let Some(queue) = self.queues.get_mut(n) else { continue };
                    let amount = queue.waiting().min(share);
                    if amount > 1e-9 {
                        queue.work(amount, (from, to), commit, &mut self.latencies);
                        capacity -= amount;
                    }
                }
            }
            let used = full - capacity;
            let waits = (turn..self.queues.len())
                .step_by(count)
                .any(|n| self.queues.get(n).is_some_and(|q| q.waiting() > 1e-9));
            if used > 1e-9 {
                pod.worked = true;
                pod.idle_since = None;
            }
            if !waits && pod.idle_since.is_none() {
                pod.idle_since = Some(from + seconds * used / full.max(f64::MIN_POSITIVE));
            }
        }
        if commit.is_some() {
            self.queues.iter_mut().filter(|q| q.touched < to).for_each(Queue::commit);
        }
        self.lag_over();
        let (partitions, queues) = (self.queues.len(), &mut self.queues);
        let since = &mut self.lag_since;
        self.source.between(from, to, partitions, |partition, messages| {
            let n = partition % queues.len();
            if let Some(queue) = queues.get_mut(n) {
                queue.arrive(to, messages);
                since.get_or_insert(to);
            }
        });
    }

    /// Notes the time with lag when it is over.
    fn lag_over(&mut self) {
        let Some(since) = self.lag_since else { return };
        if self.queues.iter().all(|q| q.committed() >= q.end) {
            self.totals.drain_seconds = self.totals.drain_seconds.max(self.now - since);
            self.lag_since = None;
        }
    }

    /// Jobs that have been idle, or have run, long enough end, and commit.
    fn endings(&mut self) {
        if self.object.is_some() {
            return;
        }
        let (now, workers) = (self.now, self.workers);
        let before = self.pods.all.len();
        let mut idle = 0;
        self.pods.all.retain(|pod| {
            let done = pod.idle_since.is_some_and(|at| at + workers.idle_exit <= now + 1e-9);
            let over = pod.ready + workers.max_run <= now;
            idle += u64::from((done || over) && !pod.worked);
            !(done || over)
        });
        self.totals.idle_starts += idle;
        if self.pods.all.len() < before {
            self.queues.iter_mut().for_each(Queue::commit);
            self.lag_over();
        }
    }

    /// What the triggers say now; of the first kafka trigger also lag, metric and bound.
    fn measure(&mut self) -> (i64, i64, Bound) {
        self.seen.clear();
        let seen = self.queues.iter().map(|q| Partition {
            committed: Some(q.committed()),
            end: Some(q.end),
            start: Some(0),
        });
        self.seen.extend(seen);
        self.measured.clear();
        let mut first = None;
        for (trigger, memory) in self.scaler.triggers.iter().zip(&mut self.memories) {
            match trigger {
                Trigger::Kafka { kafka, .. } => {
                    let reading = kafka.read(self.keda, &self.seen, memory);
                    first.get_or_insert((reading.lag, reading.metric, reading.bound));
                    self.measured.push(reading.measured(kafka));
                }
                Trigger::Mongodb(mongodb) => self.measured.push(mongodb.read(self.workers.documents)),
            }
        }
        first.unwrap_or((0, 0, Bound::None))
    }

    fn poll(&mut self) -> Row {
        let (lag, metric, bound) = self.measure();
        let jobs = Jobs {
            running: count(self.pods.all.len()),
            pending: count(self.pods.pending(self.now)),
        };
        let nodes = self.pods.nodes();
        let row = Row {
            t: self.now,
            lag,
            metric,
            active: false,
            wanted: 0,
            created: 0,
            running: jobs.running,
            pending: jobs.pending,
            nodes,
            rule: Rule::Inactive,
        };
        let row = match &self.scaler.kind {
            Kind::Job(job) => {
                let d = job.decide(&self.measured, bound, jobs);
                Row {
                    active: d.active,
                    wanted: d.wanted,
                    created: d.create,
                    rule: d.rule,
                    ..row
                }
            }
            Kind::Object(_) => self.poll_object(row),
        };
        for _ in 0..row.created {
            self.pods.create(self.now);
        }
        self.totals.jobs += u64::try_from(row.created).unwrap_or(0);
        self.totals.peak_lag = self.totals.peak_lag.max(lag);
        self.totals.peak_running = self.totals.peak_running.max(jobs.running + row.created);
        row
    }

    /// KEDA's own part: from nothing to something and back.
    fn poll_object(&mut self, row: Row) -> Row {
        let Some((object, state, _)) = &mut self.object else { return row };
        let before = state.replicas;
        let health = Health {
            active: self.measured.iter().any(|m| m.active),
            error: false,
        };
        let after = object.step(self.now, health, state);
        let rule = if after > before {
            Rule::Minimum
        } else if health.active {
            Rule::Covered
        } else {
            Rule::Inactive
        };
        self.keep(after);
        Row {
            active: health.active,
            wanted: after,
            created: (after - before).max(0),
            rule,
            ..row
        }
    }

    /// The HPA's part: between one and the maximum.
    fn sync_hpa(&mut self) {
        self.measure();
        let Some((object, state, _)) = &mut self.object else { return };
        if state.replicas == 0 {
            return;
        }
        let limits = object.hpa_limits();
        let current = state.replicas;
        let wish = self
            .measured
            .iter()
            .map(|m| object.hpa.wish(self.keda, m.queue, m.target, current))
            .max()
            .unwrap_or(current);
        let next = Hpa::sync(&mut object.hpa, self.now, wish, current, limits);
        state.replicas = next;
        for _ in current..next {
            self.pods.create(self.now);
            self.totals.jobs += 1;
        }
        self.totals.peak_running = self.totals.peak_running.max(next);
        self.keep(next);
    }

    /// Takes replicas away, the newest first; they finish what they have in hand.
    fn keep(&mut self, replicas: i64) {
        let keep = usize::try_from(replicas).unwrap_or(0);
        if keep < self.pods.all.len() {
            self.pods.all.truncate(keep);
            self.queues.iter_mut().for_each(Queue::commit);
        }
    }
}

/// Work goes on in parts of messages, and adding them up leaves dust.
fn thousandths(messages: f64) -> f64 {
    (messages * 1000.0).round() / 1000.0
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
