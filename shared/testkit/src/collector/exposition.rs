//! What came over OTLP as the pool's collector hands it to Prometheus: deltas added up, under the names that Prometheus knows, by
//! <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, HistogramDataPoint, Metric};

use super::{Attributes, attributes, number};

/// Every series by its name and labels.
#[derive(Default)]
pub(super) struct Exposition(BTreeMap<(String, Attributes), f64>);

impl Exposition {
    /// Takes what a service measured.
    pub fn take(&mut self, service: &str, metric: Metric) {
        let labels = |attributes: Attributes| -> Attributes {
            let named = attributes.into_iter().map(|(key, value)| (sanitized(&key), value));
            named.chain([("job".to_owned(), service.to_owned())]).collect()
        };
        match metric.data {
            Some(Data::Sum(sum)) => {
                let name = name(&metric.name, &metric.unit, sum.is_monotonic);
                for (attributes, value) in sum.data_points.into_iter().map(number) {
                    self.put(name.clone(), labels(attributes), value, sum.aggregation_temporality);
                }
            }
            Some(Data::Gauge(gauge)) => {
                let name = name(&metric.name, &metric.unit, false);
                for (attributes, value) in gauge.data_points.into_iter().map(number) {
                    self.0.insert((name.clone(), labels(attributes)), value);
                }
            }
            Some(Data::Histogram(histogram)) => {
                let name = name(&metric.name, &metric.unit, false);
                for mut point in histogram.data_points {
                    let labels = labels(attributes(std::mem::take(&mut point.attributes)));
                    self.histogram(&name, &labels, &point, histogram.aggregation_temporality);
                }
            }
            Some(Data::ExponentialHistogram(_) | Data::Summary(_)) | None => {}
        }
    }

    fn histogram(&mut self, name: &str, labels: &Attributes, point: &HistogramDataPoint, temporality: i32) {
        let bounds = point.explicit_bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut below = 0;
        for (bound, count) in bounds.zip(&point.bucket_counts) {
            below += count;
            let mut labels = labels.clone();
            labels.insert("le".to_owned(), bound);
            self.put(format!("{name}_bucket"), labels, below as f64, temporality);
        }
        self.put(format!("{name}_count"), labels.clone(), point.count as f64, temporality);
        self.put(format!("{name}_sum"), labels.clone(), point.sum.unwrap_or(f64::NAN), temporality);
    }

    fn put(&mut self, name: String, labels: Attributes, value: f64, temporality: i32) {
        let series = self.0.entry((name, labels)).or_default();
        let before = if temporality == AggregationTemporality::Delta as i32 {
            *series
        } else {
            0.0
        };
        *series = before + value;
    }

    /// Everything so far, in the Prometheus text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for ((name, labels), value) in &self.0 {
            let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
            // A String takes every line.
            text.push_str(&format!("{name}{{{}}} {value}\n", labels.join(",")));
        }
        text
    }
}

/// What Prometheus calls an instrument.
fn name(instrument: &str, unit: &str, counts_up: bool) -> String {
    let unit = match unit {
        "s" => "seconds",
        "By" => "bytes",
        other => other,
    };
    let mut name = sanitized(instrument);
    for suffix in [unit, if counts_up { "total" } else { "" }] {
        if !suffix.is_empty() && !name.ends_with(&format!("_{suffix}")) {
            name = format!("{name}_{}", sanitized(suffix));
        }
    }
    name
}

fn sanitized(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    name.chars().map(kept).collect()
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
