//! librdkafka's callbacks; they run on the polling thread, inside `poll`.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use super::outbox::Outbox;
use super::{FromKafka, REVOKE_COMMIT, REVOKE_WAIT};
use crate::sys::{self, Queue};

pub(crate) struct Context {
    pub outbox: Arc<Outbox>,
    pub topic: String,
    /// Where messages go; there before the group is joined.
    pub messages: OnceLock<Queue>,
    pub closing: AtomicBool,
    pub paused: AtomicBool,
    /// Partitions have come since the thread last looked.
    pub assigned: AtomicBool,
    /// Where the partition ends whose end `poll` is about to report, else [`NO_END`].
    pub end: AtomicI64,
}

pub(super) const NO_END: i64 = -1;

impl Context {
    /// Where the partition ends whose end has just been reported. librdkafka's event has the offset, rdkafka's error
    /// has not; the text that comes with it does. Neither the position, which stays behind transaction markers and
    /// compacted messages, nor the cached watermark, which may be ahead of what was delivered, will do instead.
    pub(super) fn take_end(&self) -> Option<i64> {
        Some(self.end.swap(NO_END, Ordering::Relaxed)).filter(|end| *end != NO_END)
    }

    /// Has the messages of these partitions go where they are taken from. They are not fetched yet, or nothing is changed: their
    /// order is kept.
    pub(super) fn divert(&self, consumer: &BaseConsumer<Self>, tpl: &TopicPartitionList) {
        if let Some(messages) = self.messages.get() {
            partitions(tpl).into_iter().for_each(|p| messages.divert(consumer, &self.topic, p));
        }
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, taken: Vec<i32>) {
        if consumer.assignment_lost() {
            self.outbox.say(FromKafka::Lost(taken));
            return;
        }
        let (reply, answer) = mpsc::sync_channel(1);
        self.outbox.say(FromKafka::Revoked { partitions: taken, reply });
        // A loop that has ended has dropped the other end of the reply, which ends the wait at once.
        let Ok(offsets) = answer.recv_timeout(REVOKE_WAIT + Duration::from_millis(500)) else {
            return;
        };
        if offsets.is_empty() {
            return;
        }
        let committed = list(&self.topic, &offsets)
            .map_err(|e| e.to_string())
            .and_then(|tpl| sys::commit_and_wait(consumer, &tpl, REVOKE_COMMIT).map_err(|e| e.to_string()));
        if let Err(error) = committed {
            warn!(
                error,
                "what was done could not be committed before its partitions were given up: it will be done again"
            );
        }
    }
}

/// librdkafka's own log lines among ours.
pub(crate) fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            warn!(kafka.facility = fac, kafka.message = message, "librdkafka")
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            info!(kafka.facility = fac, kafka.message = message, "librdkafka")
        }
        RDKafkaLogLevel::Debug => debug!(kafka.facility = fac, kafka.message = message, "librdkafka"),
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            self.end.store(end_in(reason).unwrap_or(NO_END), Ordering::Relaxed);
            return;
        }
        debug!(error = %error, reason, "librdkafka reported an error");
        // The code is that of any failed handshake, which a broker that restarts causes too.
        if reason.contains("certificate verify failed") {
            self.outbox.say(FromKafka::Untrusted(reason.to_owned()));
        }
        if let Some(RDKafkaErrorCode::NotImplemented | RDKafkaErrorCode::BadCompression | RDKafkaErrorCode::BadMessage) =
            error.rdkafka_error_code()
        {
            self.outbox.say(FromKafka::Unreadable(reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(tpl) if !self.closing.load(Ordering::Relaxed) => {
                self.revoked(consumer, partitions(tpl));
                // A partition that goes paused comes back paused, and is never fetched again.
                if self.paused.load(Ordering::Relaxed)
                    && let Err(e) = consumer.resume(tpl)
                {
                    warn!(error = %e, "fetching could not be resumed before its partitions were given up");
                }
            }
            Rebalance::Assign(tpl) => self.divert(consumer, tpl),
            Rebalance::Revoke(_) | Rebalance::Error(_) => {}
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(tpl) => {
                self.assigned.store(true, Ordering::Relaxed);
                self.outbox.say(FromKafka::Assigned(partitions(tpl)));
            }
            Rebalance::Error(e) => self.outbox.say(FromKafka::Error(e.clone())),
            Rebalance::Revoke(_) => {}
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        let committed = match result {
            Ok(()) => {
                let element_error = offsets.elements().iter().find_map(|e| e.error().err());
                match element_error.and_then(|e| e.rdkafka_error_code()) {
                    None => Ok(offsets
                        .elements()
                        .iter()
                        .filter_map(|e| Some((e.partition(), e.offset().to_raw()?)))
                        .collect()),
                    Some(code) => Err(code),
                }
            }
            Err(e) => Err(e.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        self.outbox.say(FromKafka::Committed(committed));
    }
}

/// The offset in "Fetch from broker 1 reached end of partition at offset 7 (HighwaterMark 7)".
fn end_in(reason: &str) -> Option<i64> {
    let (_, rest) = reason.split_once("reached end of partition at offset ")?;
    rest.split(' ').next()?.parse().ok()
}

pub(super) fn list(topic: &str, offsets: &[(i32, i64)]) -> KafkaResult<TopicPartitionList> {
    let mut tpl = TopicPartitionList::with_capacity(offsets.len());
    for (partition, offset) in offsets {
        tpl.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    Ok(tpl)
}

fn partitions(tpl: &TopicPartitionList) -> Vec<i32> {
    tpl.elements()
        .iter()
        .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
        .collect()
}
