//! The routes joined, and what is around all of them: a place, an id, a problem document for every error, a log line.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use messages::TraceParent;
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use runtime::telemetry::{Span, Traces};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{Instrument as _, error, info, info_span};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::body;
use crate::door::Door;
use crate::error::{Kind, Problem};
use crate::headers;
use crate::metrics::DoorMetrics;
use crate::routes::openapi::Api;
use crate::routes::reads::Reads;
use crate::routes::{documents, mints, reads, references, valuations};
use crate::views;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What the outermost layer needs.
struct Around {
    places: Semaphore,
    metrics: DoorMetrics,
    traces: Traces,
}

/// All routes, described and joined. `max_requests` are handled at one time; more are refused.
pub fn router(door: Arc<Door>, reads: Arc<Reads>, metrics: DoorMetrics, traces: Traces, max_requests: usize) -> Router {
    let (routes, api) = described(door, reads);
    // The description is the same for the whole life of the process.
    let description = axum::body::Bytes::from(views::to_json(&api));
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let around = Around {
        places: Semaphore::new(max_requests),
        metrics,
        traces,
    };
    routes
        .route("/openapi.json", get(move || async move { (json, description) }))
        .fallback(|| async { Problem::new(Kind::NotFound, "There is no such route; /openapi.json lists them all.") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                Kind::MethodNotAllowed,
                "The header Allow says which methods there are; /openapi.json describes them.",
            )
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::new(around), around_all))
}

/// The routes with their description.
fn described(door: Arc<Door>, reads: Arc<Reads>) -> (Router, utoipa::openapi::OpenApi) {
    let writing = OpenApiRouter::new()
        .routes(routes!(documents::submit))
        .routes(routes!(references::refer))
        .routes(routes!(valuations::order))
        .routes(routes!(mints::order))
        .with_state(door);
    let reading = OpenApiRouter::new()
        .routes(routes!(reads::document))
        .routes(routes!(reads::asset))
        .with_state(reads);
    OpenApiRouter::with_openapi(Api::openapi())
        .merge(writing)
        .merge(reading)
        .split_for_parts()
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words");
    error!(panic = text, "a handler panicked");
    Problem::new(Kind::Internal, "Repeat the request; when it fails again, tell us its request_id.").into_response()
}

async fn around_all(State(around): State<Arc<Around>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = messages::new_id().to_string();
    let path = request.uri().path().to_owned();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none".to_owned(), |m| m.as_str().to_owned());
    let (mut traced, trace) = trace_of(&around.traces, &request, &route);
    let span = info_span!("request", request.id = id, http.route = route, http.method = %request.method(), trace_id = trace.trace_id());
    let request = with_body(request, trace, &around.metrics);
    let response = match around.places.try_acquire() {
        Ok(_place) => next.run(request).instrument(span.clone()).await,
        Err(_) => Problem::new(
            Kind::Overloaded,
            "Too many requests are being handled. Repeat the request a little later.",
        )
        .into_response(),
    };
    let response = finished(response, &path, &id);
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    around.metrics.answered(&route, status, took);
    traced.note(|| KeyValue::new("http.response.status_code", i64::from(status)));
    if status >= 500 {
        traced.failed("5xx");
    }
    span.in_scope(|| info!(http.status = status, elapsed_ms = took.as_millis() as u64, "answered"));
    response
}

/// The span of a request and its place: below the client's, else the root of a trace of its own.
fn trace_of(traces: &Traces, request: &Request, route: &str) -> (Span, TraceParent) {
    let given = headers::trace(request.headers());
    let span = traces.span(SpanKind::Server, given.map(TraceParent::place), || {
        let method = request.method().as_str();
        let attributes = vec![
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("http.route", route.to_owned()),
        ];
        (format!("{method} {route}"), attributes)
    });
    let own = span.place().and_then(TraceParent::at);
    (span, own.or(given).unwrap_or_else(TraceParent::root))
}

/// Keeps one trace for the whole request, and counts and, when nobody reads it, reads off the body.
fn with_body(request: Request, trace: TraceParent, metrics: &DoorMetrics) -> Request {
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(headers::Trace(trace));
    let metrics = metrics.clone();
    let body = body::lingering(body, &parts.headers, move |bytes| metrics.received(bytes));
    Request::from_parts(parts, body)
}

/// Makes every answer of 400 and above a problem document, also those of the framework.
fn finished(mut response: Response, path: &str, id: &str) -> Response {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let problem = response.extensions_mut().remove::<Problem>();
        let problem = problem.unwrap_or_else(|| {
            Problem::new(
                Kind::of_status(status),
                "The request could not be read; /openapi.json describes what is taken.",
            )
        });
        let mut document = problem.document(path, id);
        document.status = status.as_u16();
        let (mut parts, _) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        response = Response::from_parts(parts, axum::body::Body::from(views::to_json(&document)));
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
