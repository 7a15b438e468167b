//! One attempt at a batch: decode, handle, publish what it led to, and say what became of each message.

mod bury;
mod rows;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use jiff::Timestamp;
use messages::{Envelope, Event, Payload, TraceParent};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use runtime::Change;
use runtime::telemetry::{Describe, Fields, Span, Subject, Traces};
use smol_str::SmolStr;
use tokio::sync::OnceCell;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::breaker::Breaker;
use crate::core::{Batch, Few, Item, Ticket};
use crate::fate::{Attempted, Fate, decide};
use crate::hands::{Hand, Hands};
use crate::keeper::Book;
use crate::meters::{Counted, Meters};
use crate::poison::DEATHS;
use crate::source::Record;
use crate::worker::Context;
use crate::{Clock, Failure, KafkaConfig, Producer, RetryPolicy, Worker};

/// So often it is tried to tell of a message that ends the process, before its letter is written without.
const TELLINGS: u32 = 2;

/// What the loop holds of a message.
pub(crate) struct Held {
    pub record: Record,
    /// Most messages have none.
    trouble: Option<Box<Trouble>>,
}

/// What went wrong with a message so far.
#[derive(Default)]
struct Trouble {
    /// Attempts that failed; those that found something unavailable are not among them.
    failures: u32,
    first_failure: Option<Timestamp>,
    /// The breaker has counted its dead letter.
    counted: bool,
}

impl Held {
    pub fn new(record: Record) -> Self {
        Self { record, trouble: None }
    }

    fn trouble(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    fn failures(&self) -> u32 {
        self.trouble.as_ref().map_or(0, |trouble| trouble.failures)
    }

    fn first_failure(&self) -> Option<Timestamp> {
        self.trouble.as_ref()?.first_failure
    }

    fn is_counted(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.counted)
    }
}

/// What became of a message.
pub(crate) enum Finished {
    Done(Ticket),
    /// Dead-lettered.
    Buried(Ticket),
    Again {
        ticket: Ticket,
        item: Box<Item<Held>>,
        at: Instant,
        /// Because something that it needs is down.
        unavailable: bool,
    },
    Leave(Ticket),
    /// One dead letter too many: it was not written, and the message stays.
    Refused(Ticket),
    /// Its dead letter cannot be written, now or later; the message stays.
    Unwritten(Ticket),
}

/// Everything an attempt needs; shared by all.
pub(crate) struct Attempts<W> {
    pub worker: W,
    pub kafka: KafkaConfig,
    pub retry: RetryPolicy,
    /// How long a handler may hold a batch.
    pub stuck_after: Duration,
    pub clock: Clock,
    /// `name@version`, for dead letters.
    pub signature: String,
    /// Made when the first event is to be published: a start from zero does not wait for it.
    pub producer: OnceCell<Producer>,
    pub meters: Meters,
    pub traces: Traces,
    pub breaker: Breaker,
    pub hands: Hands,
    /// Tasks that have batches which they have not begun.
    pub beginning: AtomicUsize,
}

/// A batch on its way to the handler.
pub(crate) struct Work {
    pub batch: Batch<Held>,
    /// What the handlers of its partition are told at a first attempt.
    pub ctx: Arc<Context>,
    /// It is one message, under suspicion.
    pub alone: Option<Box<Alone>>,
}

/// A message that is begun with nothing else in flight, because it may end the process.
pub(crate) struct Alone {
    pub deaths: u32,
    /// What to write first, and where.
    pub notes: Vec<Change>,
    pub book: Book,
}

/// What a batch is to its handler.
struct Opened<P> {
    /// The messages that can be read, with what is told of each.
    messages: Few<(Ticket, Item<Held>, Span)>,
    /// Their events, in the same order.
    events: Few<Event<P>>,
    /// The others, and what is wrong with them.
    unreadable: Vec<(Ticket, Item<Held>, String)>,
}

impl<W: Worker> Attempts<W> {
    /// Handles a batch and publishes what it leads to.
    async fn run(&self, Work { batch, ctx, alone }: Work, hand: &Hand<'_>, subject: &Subject<About>) -> Few<Finished> {
        let mut deaths = 0;
        if let Some(alone) = alone {
            deaths = alone.deaths;
            rarely(alone.book.change(alone.notes)).await;
        }
        let attempt = batch.items.first().map_or(0, |(_, item)| item.attempts);
        let again = (attempt > 0).then(|| Context {
            attempt,
            ..Context::clone(&ctx)
        });
        let ctx = again.as_ref().unwrap_or(&ctx);
        if deaths >= DEATHS {
            subject.is(None);
            return rarely(self.give_up(batch, deaths, ctx)).await;
        }
        self.attempt(self.open(batch), hand, subject, ctx).await
    }

    /// Reads a batch's events.
    fn open(&self, batch: Batch<Held>) -> Opened<W::Payload> {
        let (mut messages, mut events, mut unreadable) = (Few::new(), Few::new(), Vec::new());
        for (ticket, item) in batch.items {
            match decode::<W::Payload>(&item.record.record) {
                Ok(mut event) => {
                    let span = self.span(&event.envelope, &item);
                    // What the message leads to is below its span; without tracing, below what led to it.
                    if let Some(place) = span.place().and_then(TraceParent::at) {
                        event.envelope.trace = place;
                    }
                    messages.push((ticket, item, span));
                    events.push(event);
                }
                Err(reason) => unreadable.push((ticket, item, reason)),
            }
        }
        Opened {
            messages,
            events,
            unreadable,
        }
    }

    async fn attempt(&self, opened: Opened<W::Payload>, hand: &Hand<'_>, subject: &Subject<About>, ctx: &Context) -> Few<Finished> {
        let Opened {
            messages,
            events,
            unreadable,
        } = opened;
        let mut finished = Few::new();
        for (ticket, item, reason) in unreadable {
            subject.is(None);
            finished.push(rarely(self.settle(ticket, item, None, Attempted::Undecodable(reason), ctx)).await);
        }
        let Some((_, first, _)) = messages.first() else { return finished };
        let alone = messages.len() == 1;
        subject.is(Some(match events.as_slice() {
            [only] => About::event(&only.envelope),
            _ => About::Batch {
                partition: ctx.partition,
                messages: messages.len(),
            },
        }));
        let outcomes = self.handle(&events, first.offset, hand, ctx).await;
        for ((ticket, item, mut span), (event, outcome)) in messages.into_iter().zip(events.iter().zip(outcomes)) {
            if !alone {
                subject.is(Some(About::event(&event.envelope)));
            }
            if let Some(kind) = outcome.error_type() {
                span.failed(kind);
            }
            finished.push(self.settle(ticket, item, Some(event), outcome, ctx).await);
        }
        finished
    }

    /// Dead-letters a message that ends the process. When reading it, or telling of it, does so too, nobody is told.
    async fn give_up(&self, batch: Batch<Held>, deaths: u32, ctx: &Context) -> Few<Finished> {
        let mut finished = Few::new();
        for (ticket, item) in batch.items {
            let event = (deaths < DEATHS + TELLINGS)
                .then(|| decode::<W::Payload>(&item.record.record).ok())
                .flatten();
            finished.push(self.settle(ticket, item, event.as_ref(), Attempted::Deadly(deaths), ctx).await);
        }
        finished
    }

    /// The span of one attempt at a message, below the span that sent it.
    fn span(&self, envelope: &Envelope, item: &Item<Held>) -> Span {
        self.traces.span(SpanKind::Consumer, Some(envelope.trace.place()), || {
            let (record, topic) = (&item.record.record, self.kafka.name(W::NAME));
            let attributes = vec![
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.destination.name", topic.clone()),
                KeyValue::new("messaging.destination.partition.id", record.partition().to_string()),
                KeyValue::new("messaging.consumer.group.name", topic.clone()),
                KeyValue::new("messaging.kafka.offset", record.offset()),
                KeyValue::new("messaging.message.id", envelope.id.to_string()),
                KeyValue::new("cloudevents.event_type", envelope.event_type.to_string()),
                KeyValue::new("libertum.attempt", i64::from(item.attempts)),
            ];
            (format!("process {topic}"), attributes)
        })
    }

    /// Hands events to the worker; `first` is the offset of the first one.
    async fn handle(&self, events: &[Event<W::Payload>], first: i64, hand: &Hand<'_>, ctx: &Context) -> Few<Attempted> {
        let begun = Instant::now();
        hand.take(ctx.partition, first, begun);
        let handling = AssertUnwindSafe(async {
            match events {
                [event] if W::BATCH == 1 => Few::from_buf([self.worker.handle(event, ctx).await]),
                _ => self.worker.handle_batch(events, ctx).await.into(),
            }
        });
        let mut handling = pin!(handling.catch_unwind());
        let results = match futures::poll!(handling.as_mut()) {
            Poll::Ready(results) => Ok(results),
            // Dropped when its time is up, which is no more than a kill would do to it.
            Poll::Pending => tokio::time::timeout(self.stuck_after.saturating_sub(begun.elapsed()), handling).await,
        };
        hand.let_go();
        self.meters.processed(begun.elapsed());
        match results {
            Err(_) => events.iter().map(|_| Attempted::TimedOut(self.stuck_after)).collect(),
            Ok(Ok(results)) => {
                let short = events.len().saturating_sub(results.len());
                let missing = (0..short)
                    .map(|_| Attempted::Handled(Err(Failure::Failed(anyhow::anyhow!("the handler gave no result for this event")))));
                results.into_iter().map(Attempted::Handled).chain(missing).collect()
            }
            Ok(Err(panic)) => {
                let text = panic_text("the handler", panic.as_ref());
                events.iter().map(|_| Attempted::Panicked(text.clone())).collect()
            }
        }
    }

    /// Gives a message its fate, and carries it out.
    async fn settle(
        &self,
        ticket: Ticket,
        mut item: Item<Held>,
        event: Option<&Event<W::Payload>>,
        outcome: Attempted,
        ctx: &Context,
    ) -> Finished {
        let outcome = match outcome.emit().is_some_and(|emit| !emit.0.is_empty()) {
            true => rarely(self.publish_what_follows(outcome)).await,
            false => outcome,
        };
        match decide(outcome, item.attempts, item.record.failures(), &self.retry, rand::random) {
            Fate::Done { emit, rejected } => self.done(ticket, item.offset, emit.0.len(), rejected),
            Fate::Retry {
                after,
                unavailable: true,
                error,
            } => self.again(ticket, item, after, Counted::Unavailable, &error),
            Fate::Retry {
                after,
                unavailable: false,
                error,
            } => {
                let trouble = item.record.trouble();
                trouble.failures += 1;
                trouble.first_failure.get_or_insert_with(|| self.clock.now());
                self.again(ticket, item, after, Counted::Retried, &error)
            }
            Fate::Bury(burial) => rarely(self.bury(ticket, item, event, burial, ctx)).await,
            Fate::Leave if ctx.cancel.is_cancelled() => Finished::Leave(ticket),
            Fate::Leave => self.again(
                ticket,
                item,
                self.retry.base,
                Counted::Retried,
                "the handler gave up without being asked to",
            ),
        }
    }

    fn done(&self, ticket: Ticket, offset: i64, events: usize, rejected: Option<String>) -> Finished {
        self.breaker.done();
        let partition = ticket.partition;
        match rejected {
            Some(reason) => {
                self.meters.fate(Counted::Rejected);
                info!(message.partition = partition, message.offset = offset, reason, "message rejected");
            }
            None => {
                self.meters.fate(Counted::Done);
                // A line a message would cost more than most messages.
                debug!(message.partition = partition, message.offset = offset, events, "message done");
            }
        }
        Finished::Done(ticket)
    }

    fn again(&self, ticket: Ticket, mut item: Item<Held>, after: Duration, counted: Counted, error: &str) -> Finished {
        self.meters.fate(counted);
        let (partition, offset) = (ticket.partition, item.offset);
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        warn!(
            message.partition = partition,
            message.offset = offset,
            attempt = item.attempts,
            after_ms,
            error,
            "message will be tried again"
        );
        item.record.record.part_from_neighbours();
        Finished::Again {
            ticket,
            item: Box::new(item),
            at: Instant::now() + after,
            unavailable: counted == Counted::Unavailable,
        }
    }
}

/// What most messages do not come to is kept apart: an attempt is moved with all that it may have to remember.
fn rarely<F: Future>(work: F) -> Pin<Box<F>> {
    Box::pin(work)
}

pub(crate) fn decode<P: Payload>(record: &Record) -> Result<Event<P>, String> {
    let headers = record.headers().ok_or("the message has no headers")?;
    let envelope = Envelope::from_headers(headers).map_err(|e| e.to_string())?;
    let value = record.value().ok_or("the message has no value")?;
    let payload = catch_unwind(AssertUnwindSafe(|| P::decode(&envelope.event_type, value)))
        .map_err(|panic| panic_text("reading the value", panic.as_ref()))?
        .map_err(|e| e.to_string())?;
    Ok(Event { envelope, payload })
}

/// What is logged besides what happened.
enum About {
    Event { trace: TraceParent, id: Uuid, kind: SmolStr },
    Batch { partition: i32, messages: usize },
}

impl About {
    fn event(envelope: &Envelope) -> Self {
        Self::Event {
            trace: envelope.trace,
            id: envelope.id,
            kind: envelope.event_type.clone(),
        }
    }
}

impl Describe for About {
    fn fields(&self) -> Fields {
        match self {
            Self::Event { trace, id, kind } => vec![
                ("trace_id", trace.trace_id()),
                ("event.id", id.to_string()),
                ("event.type", kind.to_string()),
            ],
            Self::Batch { partition, messages } => vec![("partition", partition.to_string()), ("batch.messages", messages.to_string())],
        }
    }
}

fn panic_text(what: &str, panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("{what} panicked: {}", text.unwrap_or_else(|| "without a word".to_owned()))
}
