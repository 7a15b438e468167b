//! What Kafka says, and what the loop makes of it.

use std::hash::BuildHasher as _;
use std::time::Instant;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use runtime::Exit;
use tracing::{debug, error, warn};

use super::{Commit, Loop, REPEAT, Revoking};
use crate::Worker;
use crate::attempt::Held;
use crate::core::Taken;
use crate::source::{FromKafka, REVOKE_WAIT, Record};

impl<W: Worker> Loop<W> {
    pub(super) fn take_event(&mut self, event: FromKafka) -> Option<Exit> {
        match event {
            FromKafka::Records(records) => {
                debug!(messages = records.len(), "messages received");
                self.meters.consumed(records.len() as u64);
                self.brokers_answer();
                records.into_iter().for_each(|record| self.take_record(record));
            }
            FromKafka::EndOfPartition { partition, end } => {
                self.brokers_answer();
                self.core.end_of_partition(partition, end);
            }
            FromKafka::Assigned(partitions) => {
                debug!(?partitions, "partitions assigned");
                self.meters.assigned();
                self.end_revocation();
                self.unassigned_since = None;
                self.thrown_out = false;
                self.has_joined = true;
                self.brokers_answer();
                partitions.iter().for_each(|p| self.core.assign(*p));
                self.claim(partitions);
            }
            FromKafka::Revoked { partitions, reply } => {
                debug!(?partitions, "partitions revoked");
                self.meters.revoked();
                self.end_revocation();
                // Handlers that wait for something far away should not: the next owner will.
                self.cancel(&partitions);
                self.revoking = Some(Revoking {
                    partitions,
                    reply,
                    until: Instant::now() + REVOKE_WAIT,
                });
            }
            FromKafka::Lost(partitions) => {
                warn!(?partitions, "partitions lost without being asked");
                self.meters.lost();
                self.cancel(&partitions);
                self.unwatch(&partitions);
                partitions.into_iter().for_each(|p| {
                    self.core.revoke(p);
                });
                // Out of the group: a member without a share has nothing to do, this one has to come back first.
                if self.core.partitions().is_empty() {
                    self.unassigned_since = Some(Instant::now());
                    self.thrown_out = true;
                }
            }
            FromKafka::Committed(result) => self.take_commit(result),
            FromKafka::Joined(joined) => return self.take_answer(joined, Instant::now()),
            FromKafka::FetchingAgain => self.core.fetching_again(),
            FromKafka::Untrusted(reason) => return self.take_untrusted(&reason),
            FromKafka::Unreadable(reason) => return self.take_unreadable(&reason),
            FromKafka::Error(e) => return self.take_error(&e),
            FromKafka::Closed => return Some(Exit::Internal),
        }
        None
    }

    fn brokers_answer(&mut self) {
        self.brokers_down = false;
        self.untrusted = false;
    }

    /// Tells the handlers of these partitions, and no others, that their work is not wanted here any more.
    fn cancel(&mut self, partitions: &[i32]) {
        for ctx in partitions.iter().filter_map(|p| self.contexts.remove(p)) {
            ctx.cancel.cancel();
        }
    }

    fn take_record(&mut self, record: Record) {
        // A message without a key waits for nobody: its offset is its lane.
        let lane = record
            .key()
            .map_or_else(|| self.hasher.hash_one(record.offset()), |key| self.hasher.hash_one(key));
        let (partition, offset) = (record.partition(), record.offset());
        if let Taken::Waits(held) = self.core.record(partition, offset, lane, Held::new(record)) {
            held.record.part_from_neighbours();
        }
        self.watch_record(partition, offset);
    }

    /// Answers the thread that waits in the rebalance callback, once nothing is in flight or the time is up.
    pub(super) fn answer_revocation(&mut self, now: Instant) {
        let over = |r: &Revoking| now >= r.until || self.core.in_flight_of(&r.partitions) == 0;
        if self.revoking.as_ref().is_some_and(over) {
            self.end_revocation();
        }
    }

    /// Gives up what was revoked. When the loop was held up and the thread has not waited for it, this comes late, but
    /// never after the next rebalance: that may bring the same partitions back.
    fn end_revocation(&mut self) {
        let Some(revoking) = self.revoking.take() else { return };
        let offsets = self
            .core
            .to_commit()
            .into_iter()
            .filter(|(p, _)| revoking.partitions.contains(p))
            .collect();
        revoking.partitions.iter().for_each(|p| {
            self.core.revoke(*p);
        });
        self.unwatch(&revoking.partitions);
        // The thread may have waited long enough and gone on.
        drop(revoking.reply.try_send(offsets));
    }

    pub(super) fn take_commit(&mut self, result: Result<Vec<(i32, i64)>, RDKafkaErrorCode>) {
        self.commit = Commit::Idle;
        match result {
            Ok(offsets) => {
                self.brokers_answer();
                self.meters.commit(true);
                self.core.committed(&offsets);
                self.watch.committed(&offsets);
                self.commit_at_once();
            }
            Err(code) => {
                // Who owns what is about to change, or the coordinator moves: the next commit tells.
                self.meters.commit(false);
                self.repeat_at = Instant::now() + REPEAT;
                debug!(error = %code, "a commit was refused, it will be repeated");
            }
        }
    }

    /// At the start this is a mistake in the settings; later a broker has a new certificate, and may get another one.
    fn take_untrusted(&mut self, reason: &str) -> Option<Exit> {
        if self.has_joined {
            if !std::mem::replace(&mut self.untrusted, true) {
                warn!(reason, "a broker's certificate is not trusted, going on with the others");
            }
            return None;
        }
        error!(
            reason,
            "the broker's certificate is not by an authority that we trust: check KAFKA_SSL_CA_LOCATION"
        );
        Some(Exit::Config)
    }

    /// What cannot be unpacked cannot be dead-lettered either: it stays where it is, for somebody to decide.
    fn take_unreadable(&self, reason: &str) -> Option<Exit> {
        error!(
            topic = self.config.kafka.name(W::NAME),
            reason,
            "messages cannot be unpacked: they are damaged, or compressed in a way that this version does not know. They stay in the \
             topic: deploy a version that does (none, gzip, snappy, lz4 and zstd are known here), or stop the workers and move the \
             group's offset past them"
        );
        Some(Exit::Protocol)
    }

    pub(super) fn take_error(&mut self, e: &KafkaError) -> Option<Exit> {
        let code = e.rdkafka_error_code();
        match code {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                error!(
                    topic = self.config.kafka.name(W::NAME),
                    "the topic does not exist: run `scalers topics apply`"
                );
                Some(Exit::Config)
            }
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::Authentication,
            ) => {
                error!(error = %e, "the broker refuses us: check KAFKA_SASL_USERNAME, its password and its ACLs");
                Some(Exit::NotAuthorised)
            }
            Some(RDKafkaErrorCode::UnsupportedVersion | RDKafkaErrorCode::UnsupportedFeature | RDKafkaErrorCode::FencedInstanceId) => {
                error!(error = %e, "the broker does not speak this group protocol: check KAFKA_GROUP_PROTOCOL");
                Some(Exit::Protocol)
            }
            Some(RDKafkaErrorCode::PartitionEOF) => {
                error!("librdkafka does not say where a partition ends: this version of it is not the one that was tested");
                Some(Exit::Internal)
            }
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                // librdkafka says it again with every attempt, many times a second.
                if !std::mem::replace(&mut self.brokers_down, true) {
                    warn!("no broker can be reached, waiting");
                }
                self.wait_on();
                None
            }
            _ if matches!(e, KafkaError::MessageConsumptionFatal(_)) => {
                error!(error = %e, "the consumer cannot go on");
                Some(Exit::Internal)
            }
            _ => {
                warn!(error = %e, "kafka reported an error, going on");
                None
            }
        }
    }
}
