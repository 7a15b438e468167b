//! One way to put an event on Kafka: idempotent, acknowledged by all in-sync replicas, bounded in time.

use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, Instant};

use messages::{Outgoing, TraceParent};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use runtime::telemetry::{Span, Traces};
use tracing::{debug, error};

use crate::KafkaConfig;

/// How long a message may be on its way, retries included, before it counts as not sent.
const DELIVERY: Duration = Duration::from_secs(15);
/// No event of ours may have more.
const MAX_BYTES: usize = 1_000_000;
/// A dead letter is the message and its story, and has to fit where the message did: brokers take 1,048,588 by default.
const MAX_RECORD_BYTES: usize = 1_048_000;
/// How long the brokers may take to answer the first question.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How long to wait for room in librdkafka's queue.
const QUEUE: Duration = Duration::from_secs(5);

/// Where a message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    pub partition: i32,
    pub offset: i64,
}

/// An event was not acknowledged. It may still have been written: send it again under the same id.
#[derive(Debug, thiserror::Error)]
#[error("the event was not acknowledged by Kafka (topic {topic}): {source}{}", self.advice())]
pub struct SendError {
    pub topic: String,
    /// The bytes of key, value and headers.
    pub bytes: usize,
    #[source]
    pub source: KafkaError,
}

/// What librdkafka says of a producer, in our logs: a refused password shows nowhere else.
struct Said;

impl ClientContext for Said {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        crate::source::log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::SSL) => {
                error!(error = %error, reason, "the broker refuses us, or we it: check KAFKA_SASL_USERNAME, its password and KAFKA_SSL_CA_LOCATION");
            }
            _ => debug!(error = %error, reason, "librdkafka reported an error"),
        }
    }
}

/// librdkafka's producer, which nobody waits for when it is not needed any more.
struct Handle {
    /// There until the handle is dropped.
    inner: Option<FutureProducer<Said>>,
    woken: Once,
    config: ClientConfig,
    /// Sends nothing together with anything else; made when it is first needed.
    alone: OnceLock<FutureProducer<Said>>,
}

impl Handle {
    #[allow(clippy::expect_used)]
    fn inner(&self) -> &FutureProducer<Said> {
        self.inner.as_ref().expect("it is taken away only when the handle is dropped")
    }

    /// Before its first message librdkafka asks for a producer id, by a timer of half a second: every job would wait for
    /// that with its first event. An answer about a topic makes it ask at once.
    fn wake(&self, topic: &str) {
        self.woken.call_once(|| {
            let (inner, topic) = (self.inner().clone(), topic.to_owned());
            aside(move || drop(inner.client().fetch_metadata(Some(&topic), FIRST_ANSWER)));
        });
    }

    fn alone(&self) -> Result<&FutureProducer<Said>, KafkaError> {
        if let Some(made) = self.alone.get() {
            return Ok(made);
        }
        let made = self.config.clone().set("batch.num.messages", "1").create_with_context(Said)?;
        Ok(self.alone.get_or_init(|| made))
    }
}

impl Drop for Handle {
    /// Its thread looks around ten times a second only, and would be waited for.
    fn drop(&mut self) {
        let both = (self.inner.take(), self.alone.take());
        aside(move || drop(both));
    }
}

/// Does what blocks in a thread of its own. Where none can be had the work is dropped, with all that it holds, here.
fn aside(work: impl FnOnce() + Send + 'static) {
    if let Err(e) = std::thread::Builder::new().name("kafka-aside".to_owned()).spawn(work) {
        debug!(error = %e, "no thread could be had");
    }
}

/// A producer. Cloning it shares the connection.
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
    prefix: Arc<str>,
    traces: Traces,
}

impl Producer {
    /// Makes a producer; the connection is made when the first event is sent.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(config: &KafkaConfig, client_id: &str) -> Result<Self, KafkaError> {
        let mut c = config.client(client_id);
        c.set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", DELIVERY.as_millis().to_string())
            .set("request.timeout.ms", "5000")
            .set("linger.ms", "5")
            .set("compression.type", "lz4")
            .set("message.max.bytes", MAX_RECORD_BYTES.to_string())
            .set("queue.buffering.max.kbytes", "65536");
        Ok(Self {
            handle: Arc::new(Handle {
                inner: Some(c.create_with_context(Said)?),
                woken: Once::new(),
                config: c,
                alone: OnceLock::new(),
            }),
            prefix: config.topic_prefix.as_str().into(),
            traces: Traces::default(),
        })
    }

    /// The same, with a span for every event that it sends.
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Sends an event and waits until every in-sync replica has it.
    ///
    /// # Errors
    /// [`SendError`] when that is not known within 20 s, or 20 s after what it travelled with was refused as too large.
    pub async fn send(&self, event: &Outgoing) -> Result<(), SendError> {
        let topic = format!("{}{}", self.prefix, event.topic);
        let mut span = self.span(&topic, event);
        let trace = span.place().and_then(TraceParent::at).unwrap_or(event.envelope.trace);
        let headers = event.headers_from(trace);
        let bytes = event.key().len() + event.value.len() + headers.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        if bytes > MAX_BYTES {
            let source = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
            span.failed("too large");
            return Err(SendError { topic, bytes, source });
        }
        let headers = headers.iter().fold(OwnedHeaders::new_with_capacity(10), |h, (key, value)| {
            h.insert(Header { key, value: Some(value) })
        });
        let record = FutureRecord::to(&topic)
            .key(event.key().as_bytes())
            .payload(event.value.as_slice())
            .headers(headers);
        let sent = self.send_record(record).await;
        if sent.is_err() {
            span.failed("not acknowledged");
        }
        sent.map(|_| ())
    }

    fn span(&self, topic: &str, event: &Outgoing) -> Span {
        let parent = Some(event.envelope.trace.place());
        self.traces.span(SpanKind::Producer, parent, || {
            let attributes = vec![
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.operation.name", "send"),
                KeyValue::new("messaging.destination.name", topic.to_owned()),
                KeyValue::new("messaging.message.id", event.envelope.id.to_string()),
                KeyValue::new("cloudevents.event_type", event.envelope.event_type.to_string()),
            ];
            (format!("send {topic}"), attributes)
        })
    }

    /// Sends a record as it is, to the topic by its whole name: dead letters and what is put back from them.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send_record(&self, record: FutureRecord<'_, [u8], [u8]>) -> Result<Placed, SendError> {
        let (topic, partition) = (record.topic.to_owned(), record.partition);
        let failed = |(source, unsent)| SendError {
            topic: topic.clone(),
            bytes: size(&unsent),
            source,
        };
        self.handle.wake(&topic);
        let sent = match self.handle.inner().send(record, QUEUE).await {
            Err((source, unsent)) if is_too_large(&source) && size(&unsent) <= MAX_RECORD_BYTES => {
                // Brokers measure what travels together: it may have been a neighbour that was too large.
                let record = FutureRecord {
                    topic: &topic,
                    partition,
                    payload: unsent.payload(),
                    key: unsent.key(),
                    timestamp: None,
                    headers: unsent.headers().cloned(),
                };
                match self.handle.alone() {
                    Ok(alone) => alone.send(record, QUEUE).await,
                    Err(source) => return Err(failed((source, unsent))),
                }
            }
            sent => sent,
        };
        sent.map_err(failed).map(|delivery| Placed {
            partition: delivery.partition,
            offset: delivery.offset,
        })
    }

    /// Waits until everything sent so far is acknowledged or has failed. Blocks: not for an async task.
    ///
    /// # Errors
    /// When that takes longer than `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        let begun = Instant::now();
        self.handle.inner().flush(timeout)?;
        match self.handle.alone.get() {
            Some(alone) => alone.flush(timeout.saturating_sub(begun.elapsed())),
            None => Ok(()),
        }
    }
}

fn is_too_large(e: &KafkaError) -> bool {
    matches!(
        e.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge)
    )
}

/// The bytes of key, value and headers.
fn size(message: &OwnedMessage) -> usize {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let headers: usize = headers.map(|h| h.key.len() + h.value.map_or(0, <[u8]>::len)).sum();
    headers + message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len)
}

impl SendError {
    /// Whether the broker refuses us, or the topic does not exist: waiting will not help.
    pub fn is_permanent(&self) -> bool {
        matches!(
            self.source.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::ClusterAuthorizationFailed
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownTopicOrPartition
            )
        ) || self.is_too_large()
    }

    /// Whether the topic, or the producer, takes nothing of this size.
    pub fn is_too_large(&self) -> bool {
        is_too_large(&self.source)
    }

    fn advice(&self) -> String {
        if !self.is_too_large() {
            return String::new();
        }
        format!(
            "; it has {} bytes, and the limit is {MAX_BYTES} or the topic's max.message.bytes when that is less",
            self.bytes
        )
    }
}
