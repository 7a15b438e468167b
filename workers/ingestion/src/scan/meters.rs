//! What is measured of the scans.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

/// The label `verdict`.
#[derive(Debug, Clone, Copy)]
pub enum Seen {
    Clean,
    Found,
    NotScanned,
}

pub struct Meters {
    scans: Counter<u64>,
    duration: Histogram<f64>,
    /// Seconds since 1970; 0: not known.
    signatures: Arc<AtomicI64>,
}

impl Meters {
    pub fn new(meter: &Meter) -> Self {
        let signatures = Arc::new(AtomicI64::new(0));
        let made = signatures.clone();
        meter
            .i64_observable_gauge("libertum.ingestion.signatures.made")
            .with_unit("s")
            .with_description("when the scanner's signatures were made, in seconds since 1970")
            .with_callback(move |seen| match made.load(Relaxed) {
                0 => {}
                at => seen.observe(at, &[]),
            })
            .build();
        Self {
            scans: meter
                .u64_counter("libertum.ingestion.scans")
                .with_description("scans of documents by verdict")
                .build(),
            duration: meter
                .f64_histogram("libertum.ingestion.scan.duration")
                .with_unit("s")
                .with_description("seconds from the first byte to the verdict")
                .build(),
            signatures,
        }
    }

    pub fn scanned(&self, seen: Seen, took: Duration) {
        let verdict = match seen {
            Seen::Clean => "clean",
            Seen::Found => "found",
            Seen::NotScanned => "not_scanned",
        };
        self.scans.add(1, &[KeyValue::new("verdict", verdict)]);
        self.duration.record(took.as_secs_f64(), &[]);
    }

    /// No verdict was to be had.
    pub fn unavailable(&self) {
        self.scans.add(1, &[KeyValue::new("verdict", "unavailable")]);
    }

    pub fn signatures(&self, made: Option<Timestamp>) {
        self.signatures.store(made.map_or(0, Timestamp::as_second), Relaxed);
    }
}
