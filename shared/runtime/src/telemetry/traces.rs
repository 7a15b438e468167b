//! Spans: what a process did for whom, in one trace from the HTTP request on. Without a collector they cost nothing.

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use super::otlp;

/// A place in a trace, as `traceparent` carries it: trace id, span id, flags.
pub type Place = (u128, u64, u8);

/// Where spans are made; off unless there is a collector.
#[derive(Clone, Default)]
pub struct Traces(Option<(SdkTracer, SdkTracerProvider)>);

impl Traces {
    pub(super) fn new(config: &otlp::Config, resource: Resource, runtime: &Handle) -> anyhow::Result<Self> {
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(config.spans(runtime)?)
            .with_sampler(config.sampler.clone())
            .with_resource(resource)
            .build();
        Ok(Self(Some((provider.tracer("libertum"), provider))))
    }

    /// Begins a span below `parent`, or at the root of a trace of its own. Its name and attributes are only made when
    /// somebody will see them.
    pub fn span(&self, kind: SpanKind, parent: Option<Place>, describe: impl FnOnce() -> (String, Vec<KeyValue>)) -> Span {
        let Some((tracer, _)) = &self.0 else { return Span(None) };
        let (name, attributes) = describe();
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes);
        let around = parent.map_or_else(Context::new, |(trace, span, flags)| {
            Context::new().with_remote_span_context(SpanContext::new(
                TraceId::from(trace),
                SpanId::from(span),
                TraceFlags::new(flags),
                true,
                TraceState::NONE,
            ))
        });
        Span(Some(Box::new(tracer.build_with_context(builder, &around))))
    }

    /// Exports what is ended and not exported yet. Blocks until the exporter's own timeout.
    pub(super) fn flush(&self) {
        if let Some((_, provider)) = &self.0
            && let Err(error) = provider.force_flush()
        {
            tracing::debug!(%error, "spans were not delivered");
        }
    }
}

/// A span; it ends with the value.
pub struct Span(Option<Box<opentelemetry_sdk::trace::Span>>);

impl Span {
    /// Its place, for what it leads to; `None` when there is no tracing.
    pub fn place(&self) -> Option<Place> {
        let context = self.0.as_ref()?.span_context();
        Some((
            u128::from_be_bytes(context.trace_id().to_bytes()),
            u64::from_be_bytes(context.span_id().to_bytes()),
            context.trace_flags().to_u8(),
        ))
    }

    /// Says that what it stands for did not work; `kind` is one of few words.
    pub fn failed(&mut self, kind: &'static str) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new("error.type", kind));
            span.set_status(Status::error(kind));
        }
    }

    /// Adds what became known on the way.
    pub fn note(&mut self, attribute: impl FnOnce() -> KeyValue) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(attribute());
        }
    }
}
