//! The thread that owns the consumer. It only polls: it never waits for a handler, and goes on polling while the
//! process drains, so that librdkafka's callbacks run whatever the handlers do.

mod callbacks;
mod weight;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, warn};

use callbacks::{Context, list};
pub(crate) use weight::Weighed;
use weight::Weights;

use crate::{GroupProtocol, KafkaConfig, sys};

/// How long the rebalance callback waits for messages in flight of the partitions that are taken away.
pub(crate) const REVOKE_WAIT: Duration = Duration::from_secs(2);
/// How long it then waits for their commit.
const REVOKE_COMMIT: Duration = Duration::from_secs(1);
/// How long to wait for the broker when the group's start has to be looked up.
const LOOK_UP: Duration = Duration::from_secs(3);
/// How long leaving the group may take.
const CLOSE: Duration = Duration::from_secs(2);
/// How soon a command is seen while no message comes.
const POLL: Duration = Duration::from_millis(10);
/// Bytes of messages held before fetching pauses; it goes on at half.
const HELD_BYTES: usize = 32 * 1024 * 1024;

/// Everything that librdkafka has to say, in one order.
pub(crate) enum FromKafka {
    Record(Weighed),
    EndOfPartition {
        partition: i32,
        position: Option<i64>,
    },
    Assigned(Vec<i32>),
    /// Answer with what may be committed, once nothing of these partitions is in flight or the time is up.
    Revoked {
        partitions: Vec<i32>,
        reply: mpsc::SyncSender<Vec<(i32, i64)>>,
    },
    /// Taken away without asking: others may have them already.
    Lost(Vec<i32>),
    Committed(Result<Vec<(i32, i64)>, RDKafkaErrorCode>),
    /// Where the group starts in partitions of which nothing was known, and what it has committed already.
    Starts {
        start: Vec<(i32, i64)>,
        committed: Vec<(i32, i64)>,
    },
    /// Fetching was paused and goes on.
    FetchingAgain,
    Error(KafkaError),
    Closed,
}

/// What the loop asks of the thread.
pub(crate) enum ToKafka {
    Commit(Vec<(i32, i64)>),
    LookUpStarts(Vec<i32>),
    /// Fetch nothing more; go on polling.
    Stop,
    /// Leave the group and end.
    Close,
}

/// The running thread.
pub(crate) struct Source {
    commands: mpsc::Sender<ToKafka>,
}

impl Source {
    /// Joins the group at once: the consumer is made and subscribed before this returns.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, or there is no thread to be had.
    pub fn start(kafka: &KafkaConfig, worker: &str, max_messages: usize, events: UnboundedSender<FromKafka>) -> anyhow::Result<Self> {
        let topic = kafka.name(worker);
        let context = Context {
            events: events.clone(),
            topic: topic.clone(),
            closing: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            assigned: AtomicBool::new(false),
        };
        let consumer: BaseConsumer<Context> = consumer_config(kafka, worker).create_with_context(context)?;
        consumer.subscribe(&[&topic])?;
        let (commands, inbox) = mpsc::channel();
        let thread = Thread {
            consumer,
            topic,
            events,
            inbox,
            held: Arc::new(Weights::default()),
            max_messages,
            paused: false,
            stopped: false,
        };
        std::thread::Builder::new().name("kafka".to_owned()).spawn(move || thread.run())?;
        Ok(Self { commands })
    }

    /// Asks the thread for something. A thread that has ended has said so with [`FromKafka::Closed`].
    pub fn ask(&self, command: ToKafka) {
        if self.commands.send(command).is_err() {
            debug!("the kafka thread has ended");
        }
    }
}

fn consumer_config(kafka: &KafkaConfig, worker: &str) -> ClientConfig {
    let mut c = kafka.client(worker);
    c.set("group.id", kafka.name(worker))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        // The end of a partition is told this long after its last message.
        .set("fetch.wait.max.ms", "100")
        // A full queue is looked at again after this; the default of a second is a stall.
        .set("fetch.queue.backoff.ms", "50")
        .set("queued.max.messages.kbytes", "16384")
        .set("max.poll.interval.ms", "300000");
    match kafka.group_protocol {
        GroupProtocol::Classic => {
            c.set("group.protocol", "classic")
                .set("partition.assignment.strategy", "cooperative-sticky")
                // A worker that was killed is gone after this.
                .set("session.timeout.ms", "10000")
                .set("heartbeat.interval.ms", "1000");
        }
        GroupProtocol::Consumer => {
            c.set("group.protocol", "consumer");
        }
    }
    c
}

struct Thread {
    consumer: BaseConsumer<Context>,
    topic: String,
    events: UnboundedSender<FromKafka>,
    inbox: mpsc::Receiver<ToKafka>,
    held: Arc<Weights>,
    max_messages: usize,
    paused: bool,
    stopped: bool,
}

impl Thread {
    fn run(mut self) {
        loop {
            match self.inbox.try_recv() {
                Ok(ToKafka::Commit(offsets)) => self.commit(&offsets),
                Ok(ToKafka::LookUpStarts(partitions)) => self.look_up_starts(&partitions),
                Ok(ToKafka::Stop) => {
                    self.stopped = true;
                    self.pause();
                }
                Ok(ToKafka::Close) | Err(mpsc::TryRecvError::Disconnected) => break,
                Err(mpsc::TryRecvError::Empty) => {}
            }
            self.mind_the_bound();
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => self.say(FromKafka::Record(Weighed::new(message.detach(), self.held.clone()))),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let position = self.position(partition);
                    self.say(FromKafka::EndOfPartition { partition, position });
                }
                Some(Err(e)) => self.say(FromKafka::Error(e)),
                None => {}
            }
        }
        self.close();
    }

    /// The loop may have ended already; then nobody needs to know.
    fn say(&self, event: FromKafka) {
        drop(self.events.send(event));
    }

    fn mind_the_bound(&mut self) {
        if self.consumer.context().assigned.swap(false, Ordering::Relaxed) && self.paused {
            self.pause();
        }
        if !self.paused && self.held.above(self.max_messages, HELD_BYTES) {
            self.pause();
        } else if self.paused && !self.stopped && !self.held.above(self.max_messages / 2, HELD_BYTES / 2) {
            self.resume();
        }
    }

    fn pause(&mut self) {
        self.set_paused(true);
        if let Err(e) = self.consumer.assignment().and_then(|tpl| self.consumer.pause(&tpl)) {
            warn!(error = %e, "fetching could not be paused");
        }
    }

    fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
        self.consumer.context().paused.store(paused, Ordering::Relaxed);
    }

    fn resume(&mut self) {
        self.set_paused(false);
        match self.consumer.assignment().and_then(|tpl| self.consumer.resume(&tpl)) {
            Ok(()) => self.say(FromKafka::FetchingAgain),
            Err(e) => {
                self.set_paused(true);
                warn!(error = %e, "fetching could not be resumed");
            }
        }
    }

    fn position(&self, partition: i32) -> Option<i64> {
        let positions = self.consumer.position().ok()?;
        match positions.find_partition(&self.topic, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    fn list(&self, offsets: &[(i32, i64)]) -> KafkaResult<TopicPartitionList> {
        list(&self.topic, offsets)
    }

    fn commit(&self, offsets: &[(i32, i64)]) {
        let sent = match self.list(offsets) {
            Ok(tpl) => sys::commit(&self.consumer, &tpl),
            Err(e) => Err(e.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        if let Err(code) = sent {
            self.say(FromKafka::Committed(Err(code)));
        }
    }

    /// For partitions in which nothing has come: what the group has committed, or where the partition begins. A
    /// partition without a committed offset is lag to KEDA, even when it is empty.
    fn look_up_starts(&self, partitions: &[i32]) {
        let (mut start, mut committed) = (Vec::new(), Vec::new());
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            asked.add_partition(&self.topic, *partition);
        }
        match self.consumer.committed_offsets(asked, LOOK_UP) {
            Ok(found) => {
                for element in found.elements() {
                    match element.offset() {
                        Offset::Offset(offset) => committed.push((element.partition(), offset)),
                        _ => match self.consumer.fetch_watermarks(&self.topic, element.partition(), LOOK_UP) {
                            Ok((low, _)) => start.push((element.partition(), low)),
                            Err(e) => warn!(partition = element.partition(), error = %e, "the partition's start is not known"),
                        },
                    }
                }
            }
            Err(e) => warn!(error = %e, "the group's committed offsets are not known"),
        }
        self.say(FromKafka::Starts { start, committed });
    }

    /// Leaves the group, in bounded time. Dropping the consumer would poll in steps of 100 ms.
    fn close(self) {
        self.consumer.context().closing.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + CLOSE;
        // librdkafka 2.12 closes a member without partitions and says nothing to the broker, which then holds the
        // whole group up until the session times out. Unsubscribing first does leave.
        if self.consumer.assignment().is_ok_and(|tpl| tpl.count() == 0) {
            self.consumer.unsubscribe();
        }
        match self.consumer.close_queue() {
            Ok(()) => {
                while !self.consumer.closed() && Instant::now() < deadline {
                    drop(self.consumer.poll(Duration::from_millis(5)));
                }
            }
            Err(e) => warn!(error = %e, "the group could not be left in order"),
        }
        if !self.consumer.closed() {
            warn!("leaving the group took too long, the broker will notice by itself");
        }
        self.say(FromKafka::Closed);
        // The process ends with `_exit`; waiting for librdkafka's threads would only take time.
        std::mem::forget(self.consumer);
    }
}
