//! What the loop measures, by the names of the OpenTelemetry messaging conventions where they have one
//! (<https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/>), else under `libertum`.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram};
use runtime::telemetry::Metrics;

/// What became of a message after an attempt; the label `fate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Done,
    Rejected,
    Retried,
    Unavailable,
    Dead,
}

impl Counted {
    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Rejected => "rejected",
            Self::Retried => "retried",
            Self::Unavailable => "unavailable",
            Self::Dead => "dead",
        }
    }
}

#[derive(Clone)]
pub(crate) struct Meters {
    topic: KeyValue,
    consumed: Counter<u64>,
    process: Histogram<f64>,
    fates: Counter<u64>,
    in_flight: Gauge<u64>,
    rebalances: Counter<u64>,
    commits: Counter<u64>,
    cold_start: Histogram<f64>,
    ledger_down: Counter<u64>,
}

impl Meters {
    pub fn new(metrics: &Metrics, topic: &str) -> Self {
        let m = metrics.meter();
        Self {
            topic: KeyValue::new("messaging.destination.name", topic.to_owned()),
            consumed: m
                .u64_counter("messaging.client.consumed.messages")
                .with_description("messages that the broker delivered")
                .build(),
            process: m
                .f64_histogram("messaging.process.duration")
                .with_unit("s")
                .with_description("seconds that a handler took, successful or not")
                .build(),
            fates: m
                .u64_counter("libertum.worker.messages")
                .with_description("attempts at messages by their fate")
                .build(),
            in_flight: m
                .u64_gauge("libertum.worker.in_flight")
                .with_description("messages in a handler's hands")
                .build(),
            rebalances: m
                .u64_counter("libertum.worker.rebalances")
                .with_description("assignments and revocations of partitions")
                .build(),
            commits: m
                .u64_counter("libertum.worker.commits")
                .with_description("offset commits by result")
                .build(),
            cold_start: m
                .f64_histogram("libertum.worker.cold_start")
                .with_unit("s")
                .with_description("seconds from the start of main to the first message in a handler's hands")
                .build(),
            ledger_down: m
                .u64_counter("libertum.worker.ledger.failures")
                .with_description("questions to the ledger that got no answer")
                .build(),
        }
    }

    fn labels<const N: usize>(&self, more: [KeyValue; N]) -> Vec<KeyValue> {
        std::iter::once(self.topic.clone()).chain(more).collect()
    }

    pub fn consumed(&self, messages: u64) {
        self.consumed.add(messages, &self.labels([]));
    }

    pub fn processed(&self, took: Duration) {
        self.process.record(took.as_secs_f64(), &self.labels([]));
    }

    pub fn fate(&self, fate: Counted) {
        self.fates.add(1, &self.labels([KeyValue::new("fate", fate.as_str())]));
    }

    pub fn in_flight(&self, messages: usize) {
        self.in_flight.record(messages as u64, &self.labels([]));
    }

    pub fn rebalance(&self, kind: &'static str) {
        self.rebalances.add(1, &self.labels([KeyValue::new("kind", kind)]));
    }

    pub fn commit(&self, result: &'static str) {
        self.commits.add(1, &self.labels([KeyValue::new("result", result)]));
    }

    pub fn ledger_down(&self) {
        self.ledger_down.add(1, &self.labels([]));
    }

    pub fn cold_start(&self, took: Duration) {
        self.cold_start.record(took.as_secs_f64(), &self.labels([]));
    }
}
