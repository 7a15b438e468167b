//! What is measured at the door. No tenant, key or id is a label.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

#[derive(Clone)]
pub struct DoorMetrics {
    requests: Counter<u64>,
    seconds: Histogram<f64>,
    received: Counter<u64>,
}

impl DoorMetrics {
    pub fn new(meter: &Meter) -> Self {
        Self {
            requests: meter
                .u64_counter("libertum_intake_requests")
                .with_description("Requests by route and status")
                .build(),
            seconds: meter
                .f64_histogram("libertum_intake_request_duration")
                .with_unit("s")
                .with_description("From the request's head to its answer")
                .build(),
            received: meter
                .u64_counter("libertum_intake_received")
                .with_unit("By")
                .with_description("Bytes of bodies")
                .build(),
        }
    }

    pub fn answered(&self, route: &str, code: u16, took: Duration) {
        let route = KeyValue::new("route", route.to_owned());
        self.requests.add(1, &[route.clone(), KeyValue::new("code", i64::from(code))]);
        self.seconds.record(took.as_secs_f64(), &[route]);
    }

    pub fn received(&self, bytes: usize) {
        self.received.add(bytes as u64, &[]);
    }
}
