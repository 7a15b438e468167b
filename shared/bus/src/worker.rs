//! What a worker is: two names, a payload, and one async method.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use messages::{Envelope, Event, Message, Outgoing, Payload};
use tokio_util::sync::CancellationToken;

use crate::{Burial, Emit, Failure};

/// A worker. The loop calls it concurrently for different keys, and never concurrently for one key of a partition.
///
/// Effects must be upserts under ids that follow from the event's: a message may come again, and then has to find
/// what it did and return the same [`Emit`].
pub trait Worker: Send + Sync + 'static {
    /// The worker's word: its topic, consumer group, scaler and image.
    const NAME: &'static str;
    /// How many messages of one partition may be handled together; at most one of each key.
    const BATCH: usize = 1;
    /// No handler takes longer for a message unless something is wrong; `STUCK_SECONDS` says otherwise. A little more
    /// than the longest wait that the worker knows. Then it is dropped where it waits, and the message has failed once
    /// more; one that blocks its thread cannot be dropped and turns liveness red. What it has spawned must end with it.
    const STUCK_AFTER: Duration = Duration::from_secs(900);
    type Payload: Payload;

    /// Handles one event. The events it returns are published, and acknowledged, before the message counts as done.
    fn handle(&self, event: &Event<Self::Payload>, ctx: &Context) -> impl Future<Output = Result<Emit, Failure>> + Send;

    /// Handles events of one partition and different keys together; the results are in the events' order. With a `BATCH`
    /// of one, [`Worker::handle`] is called instead.
    fn handle_batch(&self, events: &[Event<Self::Payload>], ctx: &Context) -> impl Future<Output = Vec<Result<Emit, Failure>>> + Send {
        async move {
            let mut results = Vec::with_capacity(events.len());
            for event in events {
                results.push(self.handle(event, ctx).await);
            }
            results
        }
    }

    /// Called before a message is dead-lettered, so that whoever waits for it sees that it failed. What this returns
    /// is published first. An error here delays the dead letter; it does not prevent it for ever.
    fn buried(&self, event: &Event<Self::Payload>, why: &Burial, ctx: &Context) -> impl Future<Output = Result<Emit, Failure>> + Send;
}

/// Where a handler takes the time from, so that a test can run in another year.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// A clock of one's own.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// What the loop tells a handler.
#[derive(Clone)]
pub struct Context {
    pub(crate) clock: Clock,
    pub(crate) source: Arc<str>,
    /// The partition that the events are from.
    pub partition: i32,
    /// How often this work has been tried before in this process, from 0.
    pub attempt: u32,
    /// Cancelled when the work is no longer wanted here: the partition was revoked, or the time is up. A handler that
    /// waits long should watch it and return [`Failure::Cancelled`]; nothing is lost, the message stays uncommitted.
    pub cancel: CancellationToken,
}

impl Context {
    /// A context outside the loop, for programs that call a handler by hand and for tests.
    pub fn new(worker: &str, clock: Clock, partition: i32) -> Self {
        Self {
            clock,
            source: source(worker),
            partition,
            attempt: 0,
            cancel: CancellationToken::new(),
        }
    }

    /// The time; handlers take it from here and from the event only.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// An event that `cause` led to.
    pub fn caused<M: Message>(&self, cause: &Envelope, subject: impl Into<String>, message: &M) -> Outgoing {
        Outgoing::caused_by(cause, &self.source, subject.into(), self.now(), message)
    }
}

/// The CloudEvents source of a worker's events.
pub(crate) fn source(worker: &str) -> Arc<str> {
    format!("/libertum/{worker}").into()
}
