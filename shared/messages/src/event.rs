//! Events as CloudEvents 1.0 in the Kafka protocol binding's binary content mode: attributes are `ce_` headers,
//! the value is the payload as JSON (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>).

use std::fmt;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimeParser;
use serde::{Serialize, de::DeserializeOwned};
use smol_str::{SmolStr, ToSmolStr as _};
use uuid::Uuid;

use crate::{AssetKey, BackupRequested, Tenant, TraceParent, caused_id, new_id};

/// The names of the headers that an event travels with.
pub mod header {
    pub const SPEC_VERSION: &str = "ce_specversion";
    pub const ID: &str = "ce_id";
    pub const SOURCE: &str = "ce_source";
    pub const TYPE: &str = "ce_type";
    pub const SUBJECT: &str = "ce_subject";
    pub const TIME: &str = "ce_time";
    pub const TENANT: &str = "ce_tenant";
    pub const PARTITION_KEY: &str = "ce_partitionkey";
    pub const CONTENT_TYPE: &str = "content-type";
    pub const TRACE_PARENT: &str = "traceparent";
}

/// The CloudEvents attributes of an event, with our extensions `tenant` and `partitionkey`.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    pub id: Uuid,
    /// Who produced it: `/libertum/<worker>`.
    pub source: SmolStr,
    pub event_type: SmolStr,
    pub subject: SmolStr,
    pub time: Timestamp,
    pub tenant: Tenant,
    /// The Kafka key, by which events are kept in order: `tenant/asset id`, or the cluster's name for backups.
    pub partition_key: SmolStr,
    /// What led to the event; where there is tracing, the span of whoever handles or sends it.
    pub trace: TraceParent,
}

/// An event as a worker handles it.
#[derive(Debug, Clone)]
pub struct Event<P> {
    pub envelope: Envelope,
    pub payload: P,
}

/// One type of event: its payload knows its CloudEvents type and where it goes.
pub trait Message: Serialize {
    const TYPE: &'static str;
    const TOPIC: &'static str;
}

/// What a topic carries: an enum over the types of its events.
pub trait Payload: Sized + Send + Sync + 'static {
    /// Reads the value of an event of the given CloudEvents type.
    fn decode(event_type: &str, value: &[u8]) -> Result<Self, DecodeError>;
}

/// Why a payload cannot be read. Such a message goes to the dead letters at once: no retry will mend it.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("unknown event type {0:?}: a newer producer, or a message on the wrong topic")]
    UnknownType(String),
    #[error("the value is not a {event_type}: {reason}")]
    Malformed { event_type: &'static str, reason: String },
}

/// Reads the JSON value of one event type. Unknown fields are ignored: within a version fields are only added.
pub fn decode_json<M: Message + DeserializeOwned>(value: &[u8]) -> Result<M, DecodeError> {
    serde_json::from_slice(value).map_err(|e| DecodeError::Malformed {
        event_type: M::TYPE,
        reason: e.to_string(),
    })
}

/// Why the headers of a message are not a CloudEvents envelope.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("header {0} is missing")]
    Missing(&'static str),
    #[error("header {name} is malformed: {reason}")]
    Malformed { name: &'static str, reason: String },
}

/// The headers that are read, in the order in which they are written.
const READ: [&str; 9] = [
    header::SPEC_VERSION,
    header::ID,
    header::SOURCE,
    header::TYPE,
    header::SUBJECT,
    header::TIME,
    header::TENANT,
    header::PARTITION_KEY,
    header::TRACE_PARENT,
];

impl Envelope {
    /// Reads the envelope from a message's headers, names and values; of a name that comes twice the first counts.
    ///
    /// # Errors
    /// When an attribute is missing or malformed; it is named.
    pub fn from_headers<'h>(headers: impl IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)>) -> Result<Self, EnvelopeError> {
        let mut found: [Option<Option<&'h [u8]>>; READ.len()] = [None; READ.len()];
        let mut likely = 0;
        for (name, value) in headers {
            // Nearly always they come as they were written.
            let is = |place: &usize| READ.get(*place).is_some_and(|read| read.as_bytes() == name);
            if let Some(place) = Some(likely).filter(is).or_else(|| (0..READ.len()).find(is)) {
                found[place].get_or_insert(value);
                likely = place + 1;
            }
        }
        let [version, id, source, event_type, subject, time, tenant, partition_key, trace] = found;
        let version = bytes(header::SPEC_VERSION, version)?;
        if version != b"1.0" {
            return Err(EnvelopeError::Malformed {
                name: header::SPEC_VERSION,
                reason: format!("{} is not 1.0", String::from_utf8_lossy(version)),
            });
        }
        Ok(Self {
            id: Uuid::try_parse_ascii(bytes(header::ID, id)?).map_err(|e| malformed(header::ID, &e))?,
            source: text(header::SOURCE, source)?.into(),
            event_type: text(header::TYPE, event_type)?.into(),
            subject: text(header::SUBJECT, subject)?.into(),
            time: TIME
                .parse_timestamp(bytes(header::TIME, time)?)
                .map_err(|e| malformed(header::TIME, &e))?,
            tenant: text(header::TENANT, tenant)?.parse().map_err(|e| malformed(header::TENANT, &e))?,
            partition_key: text(header::PARTITION_KEY, partition_key)?.into(),
            // The standard: a missing or malformed traceparent starts a new trace.
            trace: trace
                .flatten()
                .and_then(|text| text.try_into().ok())
                .unwrap_or_else(TraceParent::root),
        })
    }
}

/// As [`Timestamp`]'s own parser is.
static TIME: DateTimeParser = DateTimeParser::new();

/// A header's value, which may not be null.
fn bytes<'h>(name: &'static str, found: Option<Option<&'h [u8]>>) -> Result<&'h [u8], EnvelopeError> {
    found.flatten().ok_or(EnvelopeError::Missing(name))
}

fn text<'h>(name: &'static str, found: Option<Option<&'h [u8]>>) -> Result<&'h str, EnvelopeError> {
    std::str::from_utf8(bytes(name, found)?).map_err(|e| malformed(name, &e))
}

fn malformed(name: &'static str, why: &dyn fmt::Display) -> EnvelopeError {
    EnvelopeError::Malformed {
        name,
        reason: why.to_string(),
    }
}

/// An event on its way out: everything that Kafka needs to carry it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    pub topic: &'static str,
    pub envelope: Envelope,
    /// The payload as JSON; never empty, for Kafka reads an empty value as a deletion.
    pub value: Vec<u8>,
}

impl Outgoing {
    /// An event about an asset that no other event caused: the door's and the CronJobs' way in.
    pub fn first<M: Message>(
        id: Uuid,
        source: &str,
        subject: String,
        asset: &AssetKey,
        time: Timestamp,
        trace: TraceParent,
        message: &M,
    ) -> Self {
        let envelope = Envelope {
            id,
            source: source.into(),
            event_type: SmolStr::new_static(M::TYPE),
            subject: subject.into(),
            time,
            tenant: asset.tenant.clone(),
            partition_key: asset.to_smolstr(),
            trace,
        };
        Self {
            topic: M::TOPIC,
            envelope,
            value: json(message),
        }
    }

    /// A request for a backup, which belongs to no customer: its tenant is `platform`, its key the cluster's name,
    /// and its id follows from the slot.
    pub fn backup(source: &str, time: Timestamp, trace: TraceParent, request: &BackupRequested) -> Self {
        let envelope = Envelope {
            id: request.event_id(),
            source: source.into(),
            event_type: SmolStr::new_static(BackupRequested::TYPE),
            subject: request.subject().into(),
            time,
            tenant: Tenant::platform(),
            partition_key: request.cluster.to_smolstr(),
            trace,
        };
        Self {
            topic: BackupRequested::TOPIC,
            envelope,
            value: json(request),
        }
    }

    /// An event about a topic's dead letters, which belong to no one customer.
    pub fn redrive<M: Message>(topic: &str, time: Timestamp, message: &M) -> Self {
        let envelope = Envelope {
            id: new_id(),
            source: SmolStr::new_static("/libertum/redrive"),
            event_type: SmolStr::new_static(M::TYPE),
            subject: format!("redrives/{topic}").into(),
            time,
            tenant: Tenant::platform(),
            partition_key: topic.into(),
            trace: TraceParent::root(),
        };
        Self {
            topic: M::TOPIC,
            envelope,
            value: json(message),
        }
    }

    /// An event that `cause` led to. It keeps the cause's key, tenant and trace, and its id follows from the cause's.
    pub fn caused_by<M: Message>(cause: &Envelope, source: &str, subject: String, time: Timestamp, message: &M) -> Self {
        let envelope = Envelope {
            id: caused_id(cause.id, M::TYPE, &subject),
            source: source.into(),
            event_type: SmolStr::new_static(M::TYPE),
            subject: subject.into(),
            time,
            tenant: cause.tenant.clone(),
            partition_key: cause.partition_key.clone(),
            trace: cause.trace,
        };
        Self {
            topic: M::TOPIC,
            envelope,
            value: json(message),
        }
    }

    /// The Kafka key.
    pub fn key(&self) -> &str {
        &self.envelope.partition_key
    }

    /// The headers in the order in which they are written.
    pub fn headers(&self) -> [(&'static str, String); 10] {
        self.headers_from(self.envelope.trace)
    }

    /// The headers of an event that is sent by this span.
    pub fn headers_from(&self, span: TraceParent) -> [(&'static str, String); 10] {
        let e = &self.envelope;
        [
            (header::SPEC_VERSION, "1.0".to_owned()),
            (header::ID, e.id.to_string()),
            (header::SOURCE, e.source.to_string()),
            (header::TYPE, e.event_type.to_string()),
            (header::SUBJECT, e.subject.to_string()),
            (header::TIME, e.time.to_string()),
            (header::TENANT, e.tenant.to_string()),
            (header::PARTITION_KEY, e.partition_key.to_string()),
            (header::CONTENT_TYPE, "application/json".to_owned()),
            (header::TRACE_PARENT, span.to_string()),
        ]
    }
}

/// Payloads are plain structs of strings, numbers and lists, which serde_json always writes.
#[allow(clippy::expect_used)]
fn json<M: Message>(message: &M) -> Vec<u8> {
    serde_json::to_vec(message).expect("a payload has no map with non-text keys and no failing serializer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DossierClosed, IngestionPayload};

    fn asset() -> AssetKey {
        AssetKey::new("demo".parse().unwrap(), "a-1".parse().unwrap())
    }

    fn closed() -> Outgoing {
        let message = DossierClosed {
            asset_id: asset().asset_id,
            requested_by: "ana".to_owned(),
            valuation_date: None,
        };
        Outgoing::first(
            new_id(),
            "/libertum/intake",
            "assets/a-1".to_owned(),
            &asset(),
            Timestamp::UNIX_EPOCH,
            TraceParent::root(),
            &message,
        )
    }

    fn read(headers: &[(&'static str, String)]) -> Result<Envelope, EnvelopeError> {
        Envelope::from_headers(headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))))
    }

    #[test]
    fn an_event_survives_the_wire() {
        let sent = closed();
        let envelope = read(&sent.headers()).unwrap();
        assert_eq!(envelope, sent.envelope);
        assert_eq!(sent.key(), "demo/a-1");
        assert!(matches!(
            IngestionPayload::decode(&envelope.event_type, &sent.value),
            Ok(IngestionPayload::DossierClosed(_))
        ));
    }

    #[test]
    fn a_missing_or_malformed_header_is_named() {
        let all = closed().headers();
        for (name, _) in &all {
            let others: Vec<_> = all.iter().filter(|(n, _)| n != name).cloned().collect();
            let got = read(&others);
            match *name {
                header::CONTENT_TYPE | header::TRACE_PARENT => assert!(got.is_ok(), "{name} is not required"),
                name => assert_eq!(got.unwrap_err(), EnvelopeError::Missing(name)),
            }
        }
        let mut bad = all.to_vec();
        bad.insert(0, (header::ID, "7".to_owned()));
        assert!(read(&bad).unwrap_err().to_string().contains("ce_id"), "the first of a name counts");
    }

    #[test]
    fn an_unknown_type_and_a_broken_value_are_told_apart() {
        assert!(matches!(
            IngestionPayload::decode("com.example.other.v1", b"{}"),
            Err(DecodeError::UnknownType(_))
        ));
        assert!(matches!(
            IngestionPayload::decode(DossierClosed::TYPE, b"{}"),
            Err(DecodeError::Malformed { .. })
        ));
    }
}
