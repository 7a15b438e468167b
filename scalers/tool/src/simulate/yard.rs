//! Where the work is done: messages arrive, pods start, work, commit, and end. Who creates pods is not decided here.
//!
//! Time goes from event to event (an arrival, a pod that is ready, one that has been idle long enough), and at most a second
//! at once while there is work. Memory does not grow with time.

use serde::Serialize;

use super::pods::{Machines, Pods};
use super::queue::{Latencies, Queue};
use super::source::Source;

/// While there is work, nothing is looked at less often than this.
const STRIDE: f64 = 1.0;

/// How workers behave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Workers {
    pub machines: Machines,
    /// Seconds a message takes one job, all that it works on at one time together.
    pub per_message: f64,
    /// A job with nothing to do ends after so long.
    pub idle_exit: f64,
    /// A job begins nothing new after so long.
    pub max_run: f64,
    /// A job commits its offsets this often, from its first message on.
    pub commit_every: f64,
    /// Documents that a mongodb trigger counts.
    pub documents: i64,
}

/// What the work came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Worked {
    pub drain_seconds: f64,
    pub idle_starts: u64,
    pub pod_minutes: f64,
    pub node_minutes: f64,
}

/// The work at a time.
pub struct Yard<'a> {
    workers: Workers,
    source: &'a Source,
    /// Whether pods end by themselves, as a ScaledJob's do; replicas are ended by who started them.
    jobs: bool,
    pub now: f64,
    pub pods: Pods,
    pub queues: Vec<Queue>,
    pub latencies: Latencies,
    pub worked: Worked,
    lag_since: Option<f64>,
    // Reused, so that a step allocates nothing.
    ready: Vec<usize>,
}

impl<'a> Yard<'a> {
    pub fn new(workers: Workers, source: &'a Source, partitions: usize, jobs: bool) -> Self {
        let mut queues = vec![Queue::default(); partitions.max(1)];
        if let Source::Trace(trace) = source {
            for (queue, waiting) in queues.iter_mut().zip(&trace.waiting) {
                queue.arrive(0.0, *waiting);
            }
        }
        Self {
            workers,
            source,
            jobs,
            now: 0.0,
            pods: Pods::new(workers.machines),
            latencies: Latencies::default(),
            worked: Worked::default(),
            lag_since: queues.iter().any(|q| q.waiting() > 0.0).then_some(0.0),
            ready: Vec::new(),
            queues,
        }
    }

    /// Messages that are not committed.
    pub fn lag(&self) -> i64 {
        self.queues.iter().map(|q| q.end - q.committed()).sum()
    }

    /// Goes on to a time, event by event.
    pub fn advance(&mut self, to: f64) {
        while self.now < to {
            let mut next = to.min(self.pods.next_change(self.now));
            if let Some(jump) = self.source.next_jump(self.now) {
                next = next.min(jump);
            }
            if self.jobs {
                for pod in &self.pods.all {
                    let idle = pod.idle_since.map_or(f64::INFINITY, |at| at + self.workers.idle_exit);
                    next = next.min(idle.max(self.now + 1e-6));
                }
            }
            if !self.pods.all.is_empty() {
                next = next.min(self.now + STRIDE);
            }
            self.work(self.now, next);
            self.arrivals(self.now, next);
            self.now = next;
            self.endings();
            self.pods.settle(self.now);
        }
    }

    /// What pods do between two events.
    fn work(&mut self, from: f64, to: f64) {
        let seconds = to - from;
        self.worked.pod_minutes += self.pods.all.len() as f64 * seconds / 60.0;
        self.worked.node_minutes += self.pods.nodes() as f64 * seconds / 60.0;
        self.ready.clear();
        let all = self.pods.all.iter().enumerate();
        self.ready.extend(all.filter(|(_, p)| p.ready <= from).map(|(n, _)| n));
        let count = self.ready.len();
        for turn in 0..count {
            self.work_one(turn, count, (from, to));
        }
        self.lag_over();
    }

    /// One pod's work: a share of the partitions each; what one of them does not need, the others get.
    fn work_one(&mut self, turn: usize, count: usize, (from, to): (f64, f64)) {
        let pod = self.ready.get(turn).and_then(|n| self.pods.all.get_mut(*n));
        let (Some(pod), partitions) = (pod, self.queues.len()) else {
            return;
        };
        let mine = || (turn..partitions).step_by(count);
        let seconds = to - from;
        let full = seconds / self.workers.per_message;
        let mut capacity = full;
        let every = self.workers.commit_every;
        let tick = pod.ready + ((to - pod.ready) / every).floor() * every;
        let commit = (tick > from).then_some(tick);
        let mut waiting = mine().filter(|n| self.queues.get(*n).is_some_and(Queue::waits)).count();
        while waiting > 0 && capacity > 1e-9 {
            let share = capacity / waiting as f64;
            for n in mine() {
                let Some(queue) = self.queues.get_mut(n).filter(|q| q.waits()) else {
                    continue;
                };
                let amount = queue.waiting().min(share);
                queue.work(amount, (from, to), commit, &mut self.latencies);
                capacity -= amount;
            }
            waiting = mine().filter(|n| self.queues.get(*n).is_some_and(Queue::waits)).count();
        }
        if commit.is_some() {
            for n in mine() {
                if let Some(queue) = self.queues.get_mut(n).filter(|q| q.touched < to) {
                    queue.commit();
                }
            }
        }
        let used = full - capacity;
        if used > 1e-9 {
            pod.worked = true;
            pod.idle_since = None;
        }
        if waiting == 0 && pod.idle_since.is_none() {
            pod.idle_since = Some(from + seconds * used / full.max(f64::MIN_POSITIVE));
        }
    }

    fn arrivals(&mut self, from: f64, to: f64) {
        let (partitions, queues, since) = (self.queues.len(), &mut self.queues, &mut self.lag_since);
        self.source.between(from, to, partitions, |partition, messages| {
            if let Some(queue) = queues.get_mut(partition % partitions) {
                queue.arrive(to, messages);
                since.get_or_insert(to);
            }
        });
    }

    /// Notes the time with lag when it is over.
    pub fn lag_over(&mut self) {
        let Some(since) = self.lag_since else { return };
        if self.queues.iter().all(|q| q.committed() >= q.end) {
            self.worked.drain_seconds = self.worked.drain_seconds.max(self.now - since);
            self.lag_since = None;
        }
    }

    /// Jobs that have been idle, or have run, long enough end, and commit.
    fn endings(&mut self) {
        if !self.jobs {
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
        self.worked.idle_starts += idle;
        if self.pods.all.len() < before {
            self.commit();
        }
    }

    /// Commits everything that was worked off, as jobs do at their end.
    pub fn commit(&mut self) {
        self.queues.iter_mut().for_each(Queue::commit);
        self.lag_over();
    }
}
