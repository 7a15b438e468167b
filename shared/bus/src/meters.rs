//! What the loop measures, by the names of the OpenTelemetry messaging conventions where they have one
//! (<https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/>), else under `libertum`.
//!
//! Counting is an addition to a number of the process's [`Tally`], which is read when somebody asks: what a message
//! costs does not depend on who listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, BoundHistogram, Histogram};
use runtime::{Process, Tally};

use crate::source::Weights;

/// What became of a message after an attempt; the label `fate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Done,
    Rejected,
    Retried,
    Unavailable,
    Dead,
}

/// What the loop holds at the moment; written by the loop, read when somebody asks.
#[derive(Default)]
struct Now {
    in_flight: AtomicU64,
    circuit: AtomicU64,
    frontier_lag: AtomicU64,
    /// Milliseconds from the loop's start to the arrival of its oldest unfinished message, plus one; 0: there is none.
    oldest: AtomicU64,
}

/// What stands behind the commits at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Behind {
    /// Messages that have been received and may not be committed yet, finished ones behind an unfinished one too.
    pub messages: u64,
    /// When the oldest of them came.
    pub oldest: Option<Instant>,
}

#[derive(Clone)]
pub(crate) struct Meters {
    tally: Tally,
    now: Arc<Now>,
    began: Instant,
    labels: Arc<[KeyValue]>,
    process: BoundHistogram<f64>,
    cold_start: Histogram<f64>,
}

impl Meters {
    /// The meters of a loop over this topic and group; both have one name.
    pub fn new(process: &Process, topic: &str) -> Self {
        let m = process.metrics.meter();
        process.tally.loops.add(1);
        let labels: Arc<[KeyValue]> = Arc::new([
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "process"),
            KeyValue::new("messaging.destination.name", topic.to_owned()),
            KeyValue::new("messaging.consumer.group.name", topic.to_owned()),
        ]);
        let seconds = m
            .f64_histogram("messaging.process.duration")
            .with_unit("s")
            .with_description("seconds that a handler took, successful or not")
            .build()
            .bind(&labels);
        let meters = Self {
            tally: process.tally.clone(),
            now: Arc::default(),
            began: Instant::now(),
            labels,
            process: seconds,
            cold_start: m
                .f64_histogram("libertum.worker.cold_start")
                .with_unit("s")
                .with_description("seconds from the start of main to the first message in a handler's hands")
                .build(),
        };
        meters.counters(&m);
        meters.gauges(&m);
        meters
    }

    fn counters(&self, m: &opentelemetry::metrics::Meter) {
        let count = |name: &'static str, what: &'static str, labels: Vec<Vec<KeyValue>>, of: fn(&Tally, usize) -> u64| {
            let tally = self.tally.clone();
            m.u64_observable_counter(name)
                .with_description(what)
                .with_callback(move |seen: &dyn AsyncInstrument<u64>| {
                    labels
                        .iter()
                        .enumerate()
                        .for_each(|(i, labels)| seen.observe(of(&tally, i), labels));
                })
                .build()
        };
        let with = |key: &'static str, values: &[&'static str]| -> Vec<Vec<KeyValue>> {
            let one = |value: &&'static str| self.labels.iter().cloned().chain([KeyValue::new(key, *value)]).collect();
            values.iter().map(one).collect()
        };
        let operation = |name: &'static str| {
            let other = |l: &KeyValue| l.key.as_str() != "messaging.operation.name";
            let labels = self.labels.iter().filter(|l| other(l)).cloned();
            vec![labels.chain([KeyValue::new("messaging.operation.name", name)]).collect::<Vec<_>>()]
        };
        count(
            "messaging.client.consumed.messages",
            "messages that the broker delivered",
            operation("poll"),
            |t, _| t.received.get(),
        );
        count(
            "messaging.client.sent.messages",
            "events that handlers led to and the brokers acknowledged, to whatever topic",
            vec![vec![
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.operation.name", "send"),
            ]],
            |t, _| t.published.get(),
        );
        count(
            "libertum.worker.messages",
            "attempts at messages by their fate",
            with("fate", &["done", "rejected", "retried", "unavailable", "dead"]),
            |t, i| [&t.done, &t.rejected, &t.retried, &t.unavailable, &t.dead][i].get(),
        );
        count(
            "libertum.worker.rebalances",
            "assignments and revocations of partitions",
            with("kind", &["assigned", "revoked", "lost"]),
            |t, i| [&t.assigned, &t.revoked, &t.lost][i].get(),
        );
        count(
            "libertum.worker.commits",
            "offset commits by result",
            with("result", &["ok", "refused"]),
            |t, i| [&t.commits, &t.commits_refused][i].get(),
        );
        count(
            "libertum.worker.ledger.failures",
            "questions to the ledger that got no answer",
            vec![self.labels.to_vec()],
            |t, _| t.ledger_failures.get(),
        );
    }

    fn gauges(&self, m: &opentelemetry::metrics::Meter) {
        let gauge = |name: &'static str, what: &'static str, of: fn(&Now) -> u64| {
            let (now, labels) = (self.now.clone(), self.labels.clone());
            m.u64_observable_gauge(name)
                .with_description(what)
                .with_callback(move |seen| seen.observe(of(&now), &labels))
                .build()
        };
        gauge("libertum.worker.in_flight", "messages in a handler's hands", |n| {
            n.in_flight.load(Relaxed)
        });
        gauge(
            "libertum.worker.circuit",
            "1 while something that handlers need is unavailable and only probes are begun, else 0",
            |n| n.circuit.load(Relaxed),
        );
        gauge(
            "libertum.worker.frontier_lag",
            "messages that were received and may not be committed yet",
            |n| n.frontier_lag.load(Relaxed),
        );
        let (now, began, labels) = (self.now.clone(), self.began, self.labels.clone());
        m.f64_observable_gauge("libertum.worker.oldest_unfinished")
            .with_unit("s")
            .with_description("seconds since the oldest unfinished message was received: the head of the line")
            .with_callback(move |seen| {
                let age = match now.oldest.load(Relaxed) {
                    0 => Duration::ZERO,
                    after => began.elapsed().saturating_sub(Duration::from_millis(after - 1)),
                };
                seen.observe(age.as_secs_f64(), &labels);
            })
            .build();
    }

    /// Measures what the loop holds, which the polling thread knows.
    pub fn held(&self, process: &Process, weights: Arc<Weights>) {
        let m = process.metrics.meter();
        let gauge = |name: &'static str, unit: &'static str, what: &'static str, of: fn((usize, usize, bool)) -> usize| {
            let (weights, labels) = (weights.clone(), self.labels.clone());
            m.u64_observable_gauge(name)
                .with_unit(unit)
                .with_description(what)
                .with_callback(move |seen| seen.observe(of(weights.now()) as u64, &labels))
                .build()
        };
        gauge(
            "libertum.worker.held",
            "",
            "messages that were fetched and are not finished",
            |(n, _, _)| n,
        );
        gauge(
            "libertum.worker.held_size",
            "By",
            "bytes of the messages that are held",
            |(_, b, _)| b,
        );
        gauge(
            "libertum.worker.paused",
            "",
            "1 while fetching is paused, because too much is held or the end is near",
            |(_, _, p)| usize::from(p),
        );
    }

    pub fn consumed(&self, messages: u64) {
        self.tally.received.add(messages);
    }

    pub fn processed(&self, took: Duration) {
        self.process.record(took.as_secs_f64());
    }

    pub fn fate(&self, fate: Counted) {
        let count = match fate {
            Counted::Done => &self.tally.done,
            Counted::Rejected => &self.tally.rejected,
            Counted::Retried => &self.tally.retried,
            Counted::Unavailable => &self.tally.unavailable,
            Counted::Dead => &self.tally.dead,
        };
        count.add(1);
    }

    pub fn published(&self, events: usize) {
        self.tally.published.add(events as u64);
    }

    pub fn in_flight(&self, messages: usize) {
        self.now.in_flight.store(messages as u64, Relaxed);
    }

    pub fn behind(&self, behind: Behind) {
        let after = |at: Instant| at.saturating_duration_since(self.began).as_millis() as u64 + 1;
        self.now.frontier_lag.store(behind.messages, Relaxed);
        self.now.oldest.store(behind.oldest.map_or(0, after), Relaxed);
    }

    pub fn assigned(&self) {
        self.tally.assigned.add(1);
    }

    pub fn revoked(&self) {
        self.tally.revoked.add(1);
    }

    pub fn lost(&self) {
        self.tally.lost.add(1);
    }

    pub fn commit(&self, taken: bool) {
        let count = if taken { &self.tally.commits } else { &self.tally.commits_refused };
        count.add(1);
    }

    pub fn circuit(&self, open: bool) {
        self.now.circuit.store(u64::from(open), Relaxed);
    }

    pub fn cold_start(&self, took: Duration) {
        self.cold_start.record(took.as_secs_f64(), &self.labels);
        self.tally.cold_start_us.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}
