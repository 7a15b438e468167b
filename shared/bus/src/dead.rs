//! Dead letters: the message as it was, with headers that say what happened.

use jiff::Timestamp;
use messages::topics;
use rdkafka::message::{Header, OwnedHeaders, Timestamp as KafkaTimestamp};
use rdkafka::producer::FutureRecord;

use crate::source::Record;
use crate::{Burial, KafkaConfig, Producer, SendError};

/// The headers that are added; the message's own stay before them, byte for byte.
pub mod header {
    pub const TOPIC: &str = "dl-topic";
    pub const PARTITION: &str = "dl-partition";
    pub const OFFSET: &str = "dl-offset";
    /// When the message was written, milliseconds since 1970.
    pub const TIMESTAMP: &str = "dl-timestamp";
    pub const ATTEMPTS: &str = "dl-attempts";
    /// At most 1 KiB.
    pub const ERROR: &str = "dl-error";
    /// `decode`, `handle`, `panic`, `timeout`, `emit` or `poison`.
    pub const CLASS: &str = "dl-class";
    /// `name@version`.
    pub const WORKER: &str = "dl-worker";
    /// RFC 3339.
    pub const FIRST_FAILURE: &str = "dl-first-failure";
    pub const LAST_FAILURE: &str = "dl-last-failure";
    pub const ALL: [&str; 10] = [
        TOPIC,
        PARTITION,
        OFFSET,
        TIMESTAMP,
        ATTEMPTS,
        ERROR,
        CLASS,
        WORKER,
        FIRST_FAILURE,
        LAST_FAILURE,
    ];
}

/// An error text longer than this is cut: headers are for reading.
const ERROR_BYTES: usize = 1024;

/// A message that is given up, and why.
pub(crate) struct Letter<'a> {
    /// Where it came from, without the prefix.
    pub topic: &'static str,
    pub record: &'a Record,
    pub burial: &'a Burial,
    /// `name@version`.
    pub worker: &'a str,
    pub first_failure: Timestamp,
    pub last_failure: Timestamp,
}

/// Writes a message to its dead-letter topic and waits for the acknowledgement.
pub(crate) async fn write(producer: &Producer, kafka: &KafkaConfig, letter: &Letter<'_>) -> Result<(), SendError> {
    let Letter { topic, record, burial, .. } = letter;
    let written = match record.timestamp() {
        KafkaTimestamp::CreateTime(ms) | KafkaTimestamp::LogAppendTime(ms) => ms.to_string(),
        KafkaTimestamp::NotAvailable => String::new(),
    };
    let added = [
        (header::TOPIC, kafka.name(topic)),
        (header::PARTITION, record.partition().to_string()),
        (header::OFFSET, record.offset().to_string()),
        (header::TIMESTAMP, written),
        (header::ATTEMPTS, burial.attempts.to_string()),
        (header::ERROR, cut(&burial.error)),
        (header::CLASS, burial.class.as_str().to_owned()),
        (header::WORKER, letter.worker.to_owned()),
        (header::FIRST_FAILURE, letter.first_failure.to_string()),
        (header::LAST_FAILURE, letter.last_failure.to_string()),
    ];
    let own = record.headers().into_iter().flatten();
    // A name that is not text is kept by nobody: rdkafka takes only those that are.
    let own = own.filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)));
    let mut headers = own.fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value }));
    for (key, value) in &added {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let topic = kafka.name(&topics::dead(topic));
    let mut dead: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&topic).headers(headers);
    if let Some(key) = record.key() {
        dead = dead.key(key);
    }
    if let Some(value) = record.value() {
        dead = dead.payload(value);
    }
    producer.send_record(dead).await.map(|_| ())
}

/// The text, at most [`ERROR_BYTES`] long, cut between characters.
fn cut(text: &str) -> String {
    text.char_indices()
        .take_while(|(at, c)| at + c.len_utf8() <= ERROR_BYTES)
        .map(|(_, c)| c)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = cut(&"ñ".repeat(2000));
        assert_eq!(long.len(), ERROR_BYTES);
        assert!(long.chars().all(|c| c == 'ñ'));
        assert_eq!(cut(&format!("{}ñ", "a".repeat(ERROR_BYTES - 1))).len(), ERROR_BYTES - 1);
    }
}
