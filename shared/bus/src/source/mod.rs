//! The thread that owns the consumer. It only polls: it never waits for a handler, and goes on polling while the
//! process drains, so that librdkafka's callbacks run whatever the handlers do.

mod callbacks;
mod outbox;
mod record;
mod tails;
mod topic;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, warn};

pub(crate) use callbacks::log;
use callbacks::{Context, NO_END, list};
use outbox::Outbox;
pub(crate) use record::{Record, Weights};
use runtime::Pulse;

use crate::sys::{self, Message, Queue};
use crate::{GroupProtocol, LoopConfig};

/// How long the rebalance callback waits for messages in flight of the partitions that are taken away.
pub(crate) const REVOKE_WAIT: Duration = Duration::from_secs(2);
/// How long it then waits for their commit.
const REVOKE_COMMIT: Duration = Duration::from_secs(1);
/// How long a member that goes waits for the group's first answer.
const JOIN_ANSWER: Duration = Duration::from_millis(500);
/// How long leaving the group may take.
const CLOSE: Duration = Duration::from_secs(2);
/// The thread looks around this often although nothing has woken it.
const IDLE: Duration = Duration::from_millis(500);
/// How often it looks whether fetching may go on.
const PAUSED: Duration = Duration::from_millis(10);
/// Bytes of messages held before the thread takes no more; it goes on at half.
const HELD_BYTES: usize = 2 * 1024 * 1024;
/// A bound that is met for longer than this is met by pausing. Pausing throws away what librdkafka has fetched ahead,
/// so a handler that is only a little slower than the broker is waited for.
const HOLD_OFF: Duration = Duration::from_millis(200);
/// How soon the thread looks again while it waits for the loop to let go of messages.
const HOLD_OFF_STEP: Duration = Duration::from_millis(1);

/// Everything that librdkafka has to say, in one order.
pub(crate) enum FromKafka {
    /// Messages in the order in which they came.
    Records(Vec<Record>),
    /// All up to `end` has been delivered, and there is nothing more. What takes offsets without being a message, as
    /// transaction markers do, lies before `end`.
    EndOfPartition {
        partition: i32,
        end: i64,
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
    /// Whether the group has answered this member.
    Joined(bool),
    /// Fetching was paused and goes on.
    FetchingAgain,
    /// A broker's certificate is not by an authority that we trust; this is what TLS says.
    Untrusted(String),
    /// Messages cannot be unpacked, and librdkafka asks for them again and again; this is what it says.
    Unreadable(String),
    Error(KafkaError),
    Closed,
}

/// What the loop asks of the thread.
pub(crate) enum ToKafka {
    /// Join the group; comes before everything else.
    Join,
    Commit(Vec<(i32, i64)>),
    HasJoined,
    /// Fetch nothing more; go on polling.
    Stop,
    /// Leave the group and end.
    Close,
}

/// The running thread.
pub(crate) struct Source {
    commands: mpsc::Sender<ToKafka>,
    thread: JoinHandle<()>,
    held: Arc<Weights>,
}

impl Source {
    /// Makes the consumer, which begins to look for the brokers and the group's coordinator. The group is joined when
    /// [`ToKafka::Join`] is asked for.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, or there is no thread to be had.
    pub fn start(
        config: &LoopConfig,
        worker: &str,
        max_messages: usize,
        events: UnboundedSender<FromKafka>,
        pulse: Pulse,
    ) -> anyhow::Result<Self> {
        let kafka = &config.kafka;
        let topic = kafka.name(worker);
        let held = Arc::new(Weights::default());
        let outbox = Arc::new(Outbox::new(events, held.clone()));
        let context = Context {
            outbox: outbox.clone(),
            topic: topic.clone(),
            messages: OnceLock::new(),
            closing: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            assigned: AtomicBool::new(false),
            end: AtomicI64::new(NO_END),
        };
        let consumer: BaseConsumer<Context> = kafka.consumer(worker, config.mode).create_with_context(context)?;
        let (commands, inbox) = mpsc::channel();
        let thread = Thread {
            consumer,
            diverted: Instant::now(),
            topic,
            outbox,
            inbox,
            held: held.clone(),
            max_messages,
            full_since: None,
            paused: false,
            stopped: false,
            awaits_answer: false,
            group_protocol: kafka.group_protocol,
            pulse,
        };
        let thread = thread::Builder::new().name("kafka".to_owned()).spawn(move || thread.run())?;
        Ok(Self { commands, thread, held })
    }

    /// What is held, as it changes.
    pub fn held(&self) -> Arc<Weights> {
        self.held.clone()
    }

    /// Asks the thread for something. A thread that has ended has said so with [`FromKafka::Closed`].
    pub fn ask(&self, command: ToKafka) {
        if self.commands.send(command).is_err() {
            debug!("the kafka thread has ended");
        }
        self.thread.thread().unpark();
    }
}

struct Thread {
    consumer: BaseConsumer<Context>,
    /// When partitions were last told where their messages go.
    diverted: Instant,
    topic: String,
    outbox: Arc<Outbox>,
    inbox: mpsc::Receiver<ToKafka>,
    held: Arc<Weights>,
    max_messages: usize,
    /// Since when the loop has held too much.
    full_since: Option<Instant>,
    paused: bool,
    stopped: bool,
    /// The group has been asked to take this member, by the protocol in which every answer counts.
    awaits_answer: bool,
    group_protocol: GroupProtocol,
    pulse: Pulse,
}

impl Thread {
    fn run(mut self) {
        let me = thread::current();
        if let Some(messages) = Queue::new(&self.consumer, me.clone()) {
            self.consumer.context().messages.get_or_init(|| messages);
        }
        self.consumer.set_nonempty_callback(move || me.unpark());
        while self.obey() {
            self.pulse.beat();
            self.mind_the_assignment();
            self.mind_the_bound();
            if self.full_since.is_some() && !self.paused {
                thread::park_timeout(HOLD_OFF_STEP);
                continue;
            }
            self.take_batch();
            if self.messages().is_none_or(Queue::is_empty) && !sys::has_more(&self.consumer) {
                // Woken by a command, or by librdkafka when there is something again; by time when the loop lets go.
                thread::park_timeout(if self.full_since.is_some() { PAUSED } else { IDLE });
            }
        }
        self.close();
    }

    /// Does what the loop has asked for; `false` when that is to leave.
    fn obey(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(ToKafka::Join) => {
                    debug!("joining the group");
                    if let Err(e) = self.consumer.subscribe(&[&self.topic]) {
                        self.say(FromKafka::Error(e));
                        return false;
                    }
                    self.awaits_answer = self.group_protocol == GroupProtocol::Consumer;
                }
                Ok(ToKafka::Commit(offsets)) => self.commit(&offsets),
                Ok(ToKafka::HasJoined) => self.say(self.has_joined()),
                Ok(ToKafka::Stop) => {
                    self.stopped = true;
                    self.pause();
                }
                Ok(ToKafka::Close) | Err(mpsc::TryRecvError::Disconnected) => return false,
                Err(mpsc::TryRecvError::Empty) => return true,
            }
        }
    }

    /// Whether the group has answered this member, or why it never has anything for it.
    fn has_joined(&self) -> FromKafka {
        let joined = sys::generation(&self.consumer).is_some();
        let complaint = joined.then(|| topic::complaint(&self.consumer, &self.topic)).flatten();
        complaint.map_or(FromKafka::Joined(joined), FromKafka::Error)
    }

    /// Takes what is at hand, as far as it fits one batch.
    fn take_batch(&mut self) {
        if !self.take_news() && !self.take_messages() {
            self.tell_the_ends();
        }
        self.outbox.send();
    }

    /// Takes what lies in the consumer's own queue: news, and messages if any were not diverted. `true` when the batch is full.
    fn take_news(&mut self) -> bool {
        loop {
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    if self.outbox.add(Message::of(&message)) {
                        return true;
                    }
                }
                Some(Err(e @ KafkaError::PartitionEOF(partition))) => match self.consumer.context().take_end() {
                    Some(end) => self.say(FromKafka::EndOfPartition { partition, end }),
                    None => self.say(FromKafka::Error(e)),
                },
                Some(Err(e)) => self.say(FromKafka::Error(e)),
                // A callback has had its turn.
                None if sys::has_more(&self.consumer) => {}
                None => return false,
            }
        }
    }

    /// Takes messages. `true` when the batch is full.
    fn take_messages(&self) -> bool {
        while let Some(taken) = self.messages().and_then(Queue::take) {
            let message = taken.message();
            match message.error() {
                None => {
                    if self.outbox.add(message) {
                        return true;
                    }
                }
                Some(RDKafkaErrorCode::PartitionEOF) => self.say(FromKafka::EndOfPartition {
                    partition: message.partition(),
                    end: message.offset(),
                }),
                Some(code) => {
                    let error = KafkaError::MessageConsumption(code);
                    let reason = String::from_utf8_lossy(message.value().unwrap_or_default());
                    self.consumer.context().error(error.clone(), &reason);
                    self.say(FromKafka::Error(error));
                }
            }
        }
        false
    }

    /// Says at once, where it is known, that a partition's last message was its last.
    fn tell_the_ends(&mut self) {
        for (partition, end) in self.outbox.tails().ended(&self.consumer, &self.topic) {
            self.say(FromKafka::EndOfPartition { partition, end });
        }
    }

    fn say(&self, event: FromKafka) {
        self.outbox.say(event);
    }

    fn messages(&self) -> Option<&Queue> {
        self.consumer.context().messages.get()
    }

    /// Sees to partitions that have come: they are not fetched while fetching is paused. librdkafka stops one that goes when it
    /// gets round to it, which may be after it has come back and was diverted; lest it stand still then, all are diverted
    /// again every now and then.
    fn mind_the_assignment(&mut self) {
        if self.consumer.context().assigned.swap(false, Ordering::Relaxed) && self.paused {
            self.pause();
        }
        if self.diverted.elapsed() > IDLE {
            self.diverted = Instant::now();
            match self.consumer.assignment() {
                Ok(ours) => self.consumer.context().divert(&self.consumer, &ours),
                Err(e) => warn!(error = %e, "librdkafka does not say which partitions are ours"),
            }
        }
    }

    /// Stops taking messages when the loop holds too much: at first by not asking librdkafka, whose own queue then
    /// fills up and is bounded, and when that lasts by pausing, because callbacks want their turn.
    fn mind_the_bound(&mut self) {
        if self.stopped {
            self.full_since = None;
            return;
        }
        match self.full_since {
            None if self.held.above(self.max_messages, HELD_BYTES) => self.full_since = Some(Instant::now()),
            Some(_) if !self.held.above(self.max_messages / 2, HELD_BYTES / 2) => {
                self.full_since = None;
                if self.paused {
                    self.resume();
                }
            }
            Some(since) if !self.paused && since.elapsed() > HOLD_OFF => self.pause(),
            _ => {}
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
        self.held.set_paused(paused);
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

    /// Commits what is ours still: the broker takes a commit from every member for every partition, and what the loop
    /// has asked for may have gone to somebody who is further already.
    fn commit(&self, offsets: &[(i32, i64)]) {
        let ours = self.consumer.assignment().and_then(|assigned| {
            let ours = |(p, _): &&(i32, i64)| assigned.find_partition(&self.topic, *p).is_some();
            list(&self.topic, &offsets.iter().filter(ours).copied().collect::<Vec<_>>())
        });
        let sent = match ours {
            Ok(tpl) if tpl.count() == 0 => {
                self.say(FromKafka::Committed(Ok(Vec::new())));
                return;
            }
            Ok(tpl) => sys::commit(&self.consumer, &tpl),
            Err(e) => Err(e.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        if let Err(code) = sent {
            self.say(FromKafka::Committed(Err(code)));
        }
    }

    /// Leaves the group, in bounded time. Dropping the consumer would poll in steps of 100 ms.
    fn close(self) {
        self.consumer.context().closing.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + CLOSE;
        // To the broker a member is one from its first heartbeat on, to librdkafka from the answer on: in between it
        // would go without a word, and its share would lie idle until its session times out.
        let answered = Instant::now() + JOIN_ANSWER;
        while self.awaits_answer && sys::generation(&self.consumer).is_none() && Instant::now() < answered {
            drop(self.consumer.poll(Duration::from_millis(5)));
        }
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
