//! Logs to standard output (JSON unless `LOG_FORMAT=text`), metrics for whoever asks, and both metrics and spans over
//! OTLP when there is a collector.

mod about;
mod otlp;
mod traces;

use std::str::FromStr;
use std::time::Duration;

pub use about::{Describe, Fields, Subject};
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{Instrument, InstrumentKind, PeriodicReader, SdkMeterProvider, Stream};
use serde::Deserialize;
use tokio::runtime::Handle;
pub use traces::{Place, Span, Traces};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use crate::{Env, Reader};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

impl FromStr for LogFormat {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err("it must be json or text"),
        }
    }
}

#[derive(Deserialize)]
struct Raw {
    rust_log: Option<String>,
    log_format: Option<String>,
    metrics_addr: Option<String>,
}

/// What to log and how, and where to listen for `/metrics` and `/healthz`.
pub struct Config {
    filter: EnvFilter,
    format: LogFormat,
    /// `None`: no listener.
    pub metrics_addr: Option<std::net::SocketAddr>,
    /// `None`: no collector.
    otlp: Option<otlp::Config>,
}

impl Config {
    pub fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: Raw = env.raw();
        let filter = r.with_default("RUST_LOG", raw.rust_log, "info");
        let format = r.with_default("LOG_FORMAT", raw.log_format, "json");
        let metrics_addr = r.optional("METRICS_ADDR", raw.metrics_addr);
        let otlp = otlp::Config::read(env, r);
        Some(Self {
            filter: filter?,
            format: format?,
            metrics_addr: metrics_addr?,
            otlp: otlp?,
        })
    }
}

/// Sends log lines to standard output from here on. A second call, as tests make it, changes nothing.
pub fn start_logs(config: &Config) {
    let registry = tracing_subscriber::registry().with(config.filter.clone());
    let started = match config.format {
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(true)
                    .with_span_list(false)
                    .map_event_format(about::Json),
            )
            .try_init(),
        LogFormat::Text => registry
            .with(tracing_subscriber::fmt::layer().with_target(false).map_event_format(about::Text))
            .try_init(),
    };
    drop(started);
}

/// The metrics of a process: instruments are made with [`Metrics::meter`], and read as Prometheus text.
#[derive(Clone)]
pub struct Metrics {
    provider: SdkMeterProvider,
    registry: prometheus::Registry,
}

/// Seconds, from half a millisecond to ten minutes: a no-op handler and a wait for finality both fit.
const SECONDS: [f64; 16] = [
    0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0,
];

impl Metrics {
    /// Metrics of the named service, for whoever reads [`Metrics::render`].
    ///
    /// # Errors
    /// When the exporter cannot be registered, which only a broken build could cause.
    pub fn new(service: &'static str, version: &'static str) -> anyhow::Result<Self> {
        Self::exporting(resource(service, version), None)
    }

    fn exporting(resource: Resource, collector: Option<PeriodicReader<MetricExporter>>) -> anyhow::Result<Self> {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build()?;
        let seconds = |i: &Instrument| {
            let buckets = opentelemetry_sdk::metrics::Aggregation::ExplicitBucketHistogram {
                boundaries: SECONDS.to_vec(),
                record_min_max: false,
            };
            // A gauge in seconds stays one: the age of the head of the line, when signatures were made.
            (i.unit() == "s" && i.kind() == InstrumentKind::Histogram)
                .then(|| Stream::builder().with_aggregation(buckets).build().ok())
                .flatten()
        };
        let mut builder = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_resource(resource)
            .with_view(seconds);
        if let Some(reader) = collector {
            builder = builder.with_reader(reader);
        }
        Ok(Self {
            provider: builder.build(),
            registry,
        })
    }

    /// Where instruments are made.
    pub fn meter(&self) -> Meter {
        self.provider.meter("libertum")
    }

    /// Everything measured so far, in the Prometheus text format.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn render(&self) -> anyhow::Result<String> {
        Ok(prometheus::TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    /// Exports what was measured since the last time. Blocks until the exporter's own timeout.
    fn flush(&self) {
        if let Err(error) = self.provider.force_flush() {
            tracing::debug!(%error, "metrics were not delivered");
        }
    }
}

/// Who measures. Without an instance: every pod's deltas go into the same series.
fn resource(service: &'static str, version: &'static str) -> Resource {
    Resource::builder()
        .with_service_name(service)
        .with_attribute(opentelemetry::KeyValue::new("service.version", version))
        .build()
}

/// The metrics and the spans of a process; its requests to a collector run on `runtime`.
///
/// # Errors
/// When an exporter cannot be made of the settings.
pub(crate) fn start(config: &Config, service: crate::Service, runtime: &Handle) -> anyhow::Result<(Metrics, Traces)> {
    let resource = resource(service.name, service.version);
    match &config.otlp {
        None => Ok((Metrics::new(service.name, service.version)?, Traces::default())),
        Some(otlp) => Ok((
            Metrics::exporting(resource.clone(), Some(otlp.metrics(runtime)?))?,
            Traces::new(otlp, resource, runtime)?,
        )),
    }
}

/// How long the end of a process waits for its last export.
const LAST_EXPORT: Duration = Duration::from_millis(500);

/// Exports everything that was not exported yet, in bounded time. Without a collector there is nothing to do.
pub(crate) async fn flush(config: &Config, metrics: &Metrics, traces: &Traces) {
    if config.otlp.is_none() {
        return;
    }
    let (metrics, traces) = (metrics.clone(), traces.clone());
    let both = async {
        let metrics = tokio::task::spawn_blocking(move || metrics.flush());
        let spans = tokio::task::spawn_blocking(move || traces.flush());
        drop((metrics.await, spans.await));
    };
    if tokio::time::timeout(LAST_EXPORT, both).await.is_err() {
        tracing::warn!("the collector did not take the last telemetry in time, ending without");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_gauge_in_seconds_is_told_as_it_is_and_a_duration_in_buckets() {
        let metrics = Metrics::new("test", "1").unwrap();
        let meter = metrics.meter();
        let _age = meter
            .f64_observable_gauge("age")
            .with_unit("s")
            .with_callback(|seen| seen.observe(7.5, &[]))
            .build();
        meter.f64_histogram("took").with_unit("s").build().record(0.2, &[]);
        let text = metrics.render().unwrap();
        let line = |start: &str| text.lines().find(|l| l.starts_with(start)).map(str::to_owned);
        assert!(line("age_seconds").is_some_and(|l| l.ends_with(" 7.5")), "{text}");
        assert!(line("took_seconds_bucket").is_some(), "{text}");
    }
}
