//! The simulation: KEDA looks and decides by the engine, and the yard does the work.

use serde::Serialize;

use super::queue::Queue;
use super::source::Source;
use super::yard::{Workers, Yard};
use crate::engine::{Bound, Health, Hpa, Jobs, Measured, Memory, ObjectState, Partition, Rule, ScaledObject, Version};
use crate::spec::{Kind, Scaler, Trigger};

/// Kubernetes' HPA looks this often.
const HPA_SYNC: f64 = 15.0;

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
    yard: Yard<'a>,
    memories: Vec<Memory>,
    object: Option<(ScaledObject, ObjectState)>,
    totals: Totals,
    // Reused, so that a look allocates nothing.
    seen: Vec<Partition>,
    measured: Vec<Measured>,
}

impl<'a> World<'a> {
    pub fn new(scaler: &'a Scaler, keda: Version, workers: Workers, source: &'a Source, partitions: usize) -> Self {
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
            yard: Yard::new(workers, source, partitions, scaler.job().is_some()),
            memories: vec![Memory::default(); scaler.triggers.len()],
            object: match &scaler.kind {
                Kind::Object(object) => Some((object.clone(), state)),
                Kind::Job(_) => None,
            },
            totals: Totals::default(),
            seen: Vec::with_capacity(partitions),
            measured: Vec::new(),
        }
    }

    /// Runs until a time, or, when `drained` is asked for, until nothing comes, waits or runs any more.
    pub fn run(mut self, until: f64, drained: bool, price: f64, mut look: impl FnMut(&Row)) -> Totals {
        let interval = self.scaler.polling_interval.as_secs_f64();
        let end = self.source.end().filter(|_| drained);
        while self.yard.now <= until {
            let row = self.poll();
            look(&row);
            self.totals.polls += 1;
            let over = end.is_some_and(|end| self.yard.now >= end);
            if over && row.lag <= 0 && self.yard.pods.all.is_empty() {
                break;
            }
            self.advance(self.yard.now + interval);
        }
        self.sum_up(price)
    }

    fn sum_up(mut self, price: f64) -> Totals {
        self.yard.lag_over();
        let worked = self.yard.worked;
        let hours = if self.workers.machines.per_node > 0 {
            worked.node_minutes
        } else {
            worked.pod_minutes
        } / 60.0;
        let latencies = &self.yard.latencies;
        Totals {
            seconds: self.yard.now,
            messages: thousandths(latencies.messages()),
            left: thousandths(self.yard.queues.iter().map(Queue::waiting).sum()),
            drain_seconds: worked.drain_seconds,
            latency_p50_seconds: latencies.quantile(0.5),
            latency_p95_seconds: latencies.quantile(0.95),
            latency_p99_seconds: latencies.quantile(0.99),
            idle_starts: worked.idle_starts,
            pod_minutes: worked.pod_minutes,
            node_minutes: worked.node_minutes,
            cost: hours * price,
            ..self.totals
        }
    }

    /// Goes on to a time; on the way the HPA looks as often as it does.
    fn advance(&mut self, to: f64) {
        if self.object.is_none() {
            return self.yard.advance(to);
        }
        while self.yard.now < to {
            let sync = (self.yard.now / HPA_SYNC).floor() * HPA_SYNC + HPA_SYNC;
            self.yard.advance(to.min(sync));
            if sync <= to {
                self.sync_hpa();
            }
        }
    }

    /// What the triggers say now; of the first kafka trigger also lag, metric and bound.
    fn measure(&mut self) -> (i64, i64, Bound) {
        self.seen.clear();
        let seen = self.yard.queues.iter().map(|q| Partition {
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
                Trigger::Mongodb { mongodb, .. } => self.measured.push(mongodb.read(self.workers.documents)),
            }
        }
        first.unwrap_or((0, 0, Bound::None))
    }

    fn poll(&mut self) -> Row {
        let (lag, metric, bound) = self.measure();
        let jobs = Jobs {
            running: count(self.yard.pods.all.len()),
            pending: count(self.yard.pods.pending(self.yard.now)),
        };
        let nodes = self.yard.pods.nodes();
        let row = Row {
            t: self.yard.now,
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
            self.yard.pods.create(self.yard.now);
        }
        self.totals.jobs += u64::try_from(row.created).unwrap_or(0);
        self.totals.peak_lag = self.totals.peak_lag.max(lag);
        self.totals.peak_running = self.totals.peak_running.max(jobs.running + row.created);
        row
    }

    /// KEDA's own part: from nothing to something and back.
    fn poll_object(&mut self, row: Row) -> Row {
        let Some((object, state)) = &mut self.object else { return row };
        let before = state.replicas;
        let health = Health {
            active: self.measured.iter().any(|m| m.active),
            error: false,
        };
        let after = object.step(self.yard.now, health, state);
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
        let Some((object, state)) = &mut self.object else { return };
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
        let next = Hpa::sync(&mut object.hpa, self.yard.now, wish, current, limits);
        state.replicas = next;
        for _ in current..next {
            self.yard.pods.create(self.yard.now);
            self.totals.jobs += 1;
        }
        self.totals.peak_running = self.totals.peak_running.max(next);
        self.keep(next);
    }

    /// Takes replicas away, the newest first; they finish what they have in hand.
    fn keep(&mut self, replicas: i64) {
        let keep = usize::try_from(replicas).unwrap_or(0);
        if keep < self.yard.pods.all.len() {
            self.yard.pods.all.truncate(keep);
            self.yard.commit();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::{Calculation, Kafka, Limits, ScaledJob, Strategy};
    use crate::simulate::{Generated, Machines, Shape};

    #[test]
    fn of_a_scaled_job_the_looks_alone_remember_what_was_committed() {
        let keda = Version::DEFAULT;
        let kafka = Kafka {
            exclude_persistent_lag: true,
            ..Kafka::default()
        };
        let (min, max) = (Some(1), Some(4));
        let job = ScaledJob {
            keda,
            limits: Limits { min, max },
            calculation: Calculation::Max,
            strategy: Strategy::Default,
        };
        let scaler = Scaler {
            worker: "w".to_owned(),
            polling_interval: Duration::from_secs(20),
            kind: Kind::Job(job),
            triggers: vec![Trigger::Kafka {
                topic: "t".to_owned(),
                group: "g".to_owned(),
                brokers_from: None,
                kafka,
            }],
            history: (1, 1),
            ignored: Vec::new(),
        };
        let machines = Machines {
            pod_start: 1.0,
            join: 0.0,
            node_start: 0.0,
            per_node: 0,
            warm: 0,
            most: 0,
            node_idle: 0.0,
        };
        let workers = Workers {
            machines,
            per_message: 12.0,
            idle_exit: 600.0,
            max_run: 1e9,
            commit_every: 1.0,
            documents: 0,
        };
        let source = Source::Generated(Generated {
            shape: Shape::Burst,
            rate: 0.0,
            messages: 5.0,
            at: 0.5,
            over: 0.0,
        });
        let mut seen = Vec::new();
        World::new(&scaler, keda, workers, &source, 1).run(60.0, false, 0.0, |row| seen.push((row.lag, row.metric)));
        // Something is committed between any two looks. Where the HPA looked too, each 15 seconds, nothing would be between
        // it and the next look, and the lag would count as standing.
        assert_eq!(seen, [(0, 0), (4, 4), (2, 2), (1, 1)]);
    }
}
