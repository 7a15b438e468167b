//! Metrics and spans over OTLP (http/protobuf), when `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector.
//!
//! Nothing connects before the first export: a start from zero does not wait for it. The export at the end is given
//! half a second; a collector that does not answer delays and fails nothing.

use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::metrics::{PeriodicReader, Temporality};
use opentelemetry_sdk::trace::Sampler;
use serde::Deserialize;
use tokio::runtime::Handle;
use tracing::{debug, warn};

use crate::{Env, Reader};

/// Where a collector is, and what it gets.
#[derive(Debug, Clone)]
pub struct Config {
    endpoint: String,
    timeout: Duration,
    interval: Duration,
    pub(super) sampler: Sampler,
}

#[derive(Deserialize)]
struct Raw {
    otel_exporter_otlp_endpoint: Option<String>,
    otel_exporter_otlp_headers: Option<String>,
    otel_exporter_otlp_timeout: Option<String>,
    otel_metric_export_interval: Option<String>,
    otel_traces_sampler: Option<String>,
    otel_traces_sampler_arg: Option<String>,
}

impl Config {
    /// `Some(None)`: there is no collector.
    pub(super) fn read(env: &Env, r: &mut Reader) -> Option<Option<Self>> {
        let raw: Raw = env.raw();
        let endpoint = r.optional::<Endpoint>("OTEL_EXPORTER_OTLP_ENDPOINT", raw.otel_exporter_otlp_endpoint);
        // The exporter reads them by itself, and leaves out what is malformed.
        if let Some(headers) = r.optional_secret("OTEL_EXPORTER_OTLP_HEADERS", raw.otel_exporter_otlp_headers)
            && !headers.expose().split(',').all(is_header)
        {
            r.problem("OTEL_EXPORTER_OTLP_HEADERS must be name=value,name=value");
        }
        let timeout = r.with_default::<Millis>("OTEL_EXPORTER_OTLP_TIMEOUT", raw.otel_exporter_otlp_timeout, "10000");
        let interval = r.with_default::<Millis>("OTEL_METRIC_EXPORT_INTERVAL", raw.otel_metric_export_interval, "60000");
        let name = r.with_default::<SamplerName>("OTEL_TRACES_SAMPLER", raw.otel_traces_sampler, "parentbased_always_on");
        let ratio = r.with_default::<Ratio>("OTEL_TRACES_SAMPLER_ARG", raw.otel_traces_sampler_arg, "1");
        let (timeout, interval, name, ratio) = (timeout?.0, interval?.0, name?, ratio?);
        Some(endpoint?.map(|Endpoint(endpoint)| Self {
            endpoint,
            timeout,
            interval,
            sampler: name.sampler(ratio.0),
        }))
    }

    /// What exports metrics: once an interval, and when asked to. Deltas, for a process of seconds has no history, and
    /// nobody wants a series for each.
    ///
    /// # Errors
    /// When the endpoint cannot be made into an address.
    pub(super) fn metrics(&self, runtime: &Handle) -> anyhow::Result<PeriodicReader<MetricExporter>> {
        let exporter = MetricExporter::builder()
            .with_http()
            .with_http_client(Collector::new(self, runtime))
            .with_endpoint(format!("{}/v1/metrics", self.endpoint))
            .with_timeout(self.timeout)
            .with_temporality(Temporality::Delta)
            .build()
            .context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
        Ok(PeriodicReader::builder(exporter).with_interval(self.interval).build())
    }

    /// What exports spans.
    ///
    /// # Errors
    /// As for metrics.
    pub(super) fn spans(&self, runtime: &Handle) -> anyhow::Result<SpanExporter> {
        SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new(self, runtime))
            .with_endpoint(format!("{}/v1/traces", self.endpoint))
            .with_timeout(self.timeout)
            .build()
            .context("OTEL_EXPORTER_OTLP_ENDPOINT")
    }
}

/// The way to the collector. The exporters' threads have no async runtime: requests run on the process's.
#[derive(Debug)]
struct Collector {
    runtime: Handle,
    timeout: Duration,
    /// Made for the first request: to read the machine's CA certificates takes longer than a cold start may.
    client: OnceLock<reqwest::Client>,
    told: AtomicBool,
}

impl Collector {
    fn new(config: &Config, runtime: &Handle) -> Self {
        Self {
            runtime: runtime.clone(),
            timeout: config.timeout,
            client: OnceLock::new(),
            told: AtomicBool::new(false),
        }
    }

    fn client(&self) -> Result<reqwest::Client, reqwest::Error> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = reqwest::Client::builder().timeout(self.timeout).build()?;
        Ok(self.client.get_or_init(|| client).clone())
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client()?;
        let sent = self.runtime.spawn(async move { HttpClient::send_bytes(&client, request).await });
        let result = sent.await?;
        let why = match &result {
            Ok(answer) if answer.status().is_success() => {
                self.told.store(false, Ordering::Relaxed);
                return result;
            }
            Ok(answer) => answer.status().to_string(),
            Err(e) => e.to_string(),
        };
        // Once for each time that it goes away, not once for each export.
        if self.told.swap(true, Ordering::Relaxed) {
            debug!(error = why, "the collector takes no telemetry still");
        } else {
            warn!(
                error = why,
                "the collector takes no telemetry: check OTEL_EXPORTER_OTLP_ENDPOINT; going on without"
            );
        }
        result
    }
}

/// An address without a path's last slash.
struct Endpoint(String);

impl FromStr for Endpoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let url: reqwest::Url = text.parse().map_err(|e| format!("{e}"))?;
        if matches!(url.scheme(), "http" | "https") && url.query().is_none() {
            Ok(Self(text.trim_end_matches('/').to_owned()))
        } else {
            Err("it must be http://HOST:PORT or https://HOST".to_owned())
        }
    }
}

/// Milliseconds, one or more.
struct Millis(Duration);

impl FromStr for Millis {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let millis = text.parse().ok().filter(|n| *n > 0);
        millis
            .map(Duration::from_millis)
            .map(Self)
            .ok_or("it must be milliseconds, 1 or more")
    }
}

struct Ratio(f64);

impl FromStr for Ratio {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ratio = text.parse().ok().filter(|r| (0.0..=1.0).contains(r));
        ratio.map(Self).ok_or("it must be a share between 0 and 1")
    }
}

/// The samplers of the specification that need no service of their own.
enum SamplerName {
    On,
    Off,
    Share,
    ParentOrOn,
    ParentOrOff,
    ParentOrShare,
}

impl FromStr for SamplerName {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "always_on" => Ok(Self::On),
            "always_off" => Ok(Self::Off),
            "traceidratio" => Ok(Self::Share),
            "parentbased_always_on" => Ok(Self::ParentOrOn),
            "parentbased_always_off" => Ok(Self::ParentOrOff),
            "parentbased_traceidratio" => Ok(Self::ParentOrShare),
            _ => Err("it must be always_on, always_off or traceidratio, or one of these behind parentbased_"),
        }
    }
}

impl SamplerName {
    fn sampler(&self, share: f64) -> Sampler {
        let behind_parent = |root: Sampler| Sampler::ParentBased(Box::new(root));
        match self {
            Self::On => Sampler::AlwaysOn,
            Self::Off => Sampler::AlwaysOff,
            Self::Share => Sampler::TraceIdRatioBased(share),
            Self::ParentOrOn => behind_parent(Sampler::AlwaysOn),
            Self::ParentOrOff => behind_parent(Sampler::AlwaysOff),
            Self::ParentOrShare => behind_parent(Sampler::TraceIdRatioBased(share)),
        }
    }
}

fn is_header(pair: &str) -> bool {
    let token = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    pair.split_once('=')
        .is_some_and(|(name, value)| token(name.trim()) && value.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Option<Config>, crate::ConfigError> {
        let mut r = Reader::default();
        let config = Config::read(&vars.iter().copied().collect(), &mut r);
        r.finish(config)
    }

    #[test]
    fn without_an_endpoint_nothing_is_exported() {
        assert!(read(&[]).unwrap().is_none());
        assert!(
            read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/")])
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn a_mistyped_setting_is_refused_and_no_header_is_shown() {
        let text = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key: hunter2"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1m"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ])
        .unwrap_err()
        .to_string();
        for name in ["ENDPOINT", "HEADERS", "TIMEOUT", "INTERVAL", "SAMPLER=", "SAMPLER_ARG"] {
            assert!(text.contains(name), "{text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}
