//! A collector as OpenTelemetry's: takes metrics and spans over OTLP (http/protobuf) and keeps them for a test; Prometheus may read
//! what the metrics have come to.

mod exposition;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use exposition::Exposition;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, HistogramDataPoint, NumberDataPoint, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

type Attributes = BTreeMap<String, String>;

/// A span as it came.
#[derive(Debug, Clone)]
pub struct SeenSpan {
    pub service: String,
    pub name: String,
    /// As OTLP counts them: 2 server, 4 producer, 5 consumer.
    pub kind: i32,
    /// Ids in lower-case hexadecimal digits; a root has an empty parent.
    pub trace_id: String,
    pub span_id: String,
    pub parent: String,
    pub attributes: Attributes,
}

/// A number that was measured: a sum, a gauge, or how often a histogram was recorded.
#[derive(Debug, Clone)]
pub struct SeenPoint {
    pub service: String,
    /// Everything that is said of who measured.
    pub resource: Attributes,
    pub name: String,
    /// Whether it is what came since the last time; a gauge is neither that nor a total.
    pub delta: Option<bool>,
    pub attributes: Attributes,
    pub value: f64,
}

#[derive(Default)]
struct Kept {
    spans: Vec<SeenSpan>,
    points: Vec<SeenPoint>,
    exposition: Exposition,
}

/// A running collector; it ends with the test's runtime.
pub struct Collector {
    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`; `/metrics` under it is for Prometheus.
    pub url: String,
    kept: Arc<Mutex<Kept>>,
}

impl Collector {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When there is none.
    #[allow(clippy::expect_used)]
    pub async fn start() -> Self {
        let kept = Arc::<Mutex<Kept>>::default();
        let app = Router::new()
            .route("/v1/traces", post(take_spans))
            .route("/v1/metrics", post(take_metrics))
            .route("/metrics", get(expose))
            .with_state(kept.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound listener has an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, kept }
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<SeenSpan> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).spans.clone()
    }

    /// Every point so far.
    pub fn points(&self) -> Vec<SeenPoint> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).points.clone()
    }

    /// What a service's counter came to, over all its processes and points whose attributes have these values.
    pub fn total(&self, service: &str, name: &str, with: &[(&str, &str)]) -> f64 {
        let fits = |p: &SeenPoint| with.iter().all(|(key, value)| p.attributes.get(*key).is_some_and(|v| v == value));
        let points = self
            .points()
            .into_iter()
            .filter(|p| p.service == service && p.name == name && fits(p));
        points.map(|p| p.value).sum()
    }
}

async fn take_spans(State(kept): State<Arc<Mutex<Kept>>>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST;
    };
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    for from in request.resource_spans {
        let service = service(&resource(from.resource));
        for span in from.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            kept.spans.push(SeenSpan {
                service: service.clone(),
                name: span.name,
                kind: span.kind,
                trace_id: hex(&span.trace_id),
                span_id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                attributes: attributes(span.attributes),
            });
        }
    }
    StatusCode::OK
}

async fn take_metrics(State(kept): State<Arc<Mutex<Kept>>>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportMetricsServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST;
    };
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    for from in request.resource_metrics {
        let resource = resource(from.resource);
        for metric in from.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            kept.exposition.take(&service(&resource), metric.clone());
            let (delta, points) = points(metric.data);
            kept.points.extend(points.into_iter().map(|(attributes, value)| SeenPoint {
                service: service(&resource),
                resource: resource.clone(),
                name: metric.name.clone(),
                delta,
                attributes,
                value,
            }));
        }
    }
    StatusCode::OK
}

async fn expose(State(kept): State<Arc<Mutex<Kept>>>) -> String {
    kept.lock().unwrap_or_else(PoisonError::into_inner).exposition.render()
}

/// Whether the points are deltas, and the points.
fn points(data: Option<Data>) -> (Option<bool>, Vec<(Attributes, f64)>) {
    let is_delta = |temporality: i32| Some(temporality == AggregationTemporality::Delta as i32);
    match data {
        Some(Data::Sum(sum)) => (
            is_delta(sum.aggregation_temporality),
            sum.data_points.into_iter().map(number).collect(),
        ),
        Some(Data::Gauge(gauge)) => (None, gauge.data_points.into_iter().map(number).collect()),
        Some(Data::Histogram(histogram)) => (
            is_delta(histogram.aggregation_temporality),
            histogram.data_points.into_iter().map(times).collect(),
        ),
        Some(Data::ExponentialHistogram(_) | Data::Summary(_)) | None => (None, Vec::new()),
    }
}

fn number(point: NumberDataPoint) -> (Attributes, f64) {
    let value = match point.value {
        Some(number_data_point::Value::AsInt(value)) => value as f64,
        Some(number_data_point::Value::AsDouble(value)) => value,
        None => f64::NAN,
    };
    (attributes(point.attributes), value)
}

fn times(point: HistogramDataPoint) -> (Attributes, f64) {
    (attributes(point.attributes), point.count as f64)
}

fn resource(resource: Option<Resource>) -> Attributes {
    attributes(resource.map(|r| r.attributes).unwrap_or_default())
}

fn service(resource: &Attributes) -> String {
    resource.get("service.name").cloned().unwrap_or_default()
}

fn attributes(pairs: Vec<KeyValue>) -> Attributes {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(value) => value.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |pair: KeyValue| Some((pair.key, text(pair.value?.value?)));
    pairs.into_iter().filter_map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
