//! One attempt at a batch: decode, handle, publish what it led to, and say what became of each message.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use messages::{Envelope, Event, Payload, TraceParent};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use runtime::Change;
use runtime::telemetry::{Span, Subject, Traces, about};
use tokio::sync::OnceCell;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::breaker::Breaker;
use crate::core::{Batch, Item, Ticket};
use crate::dead::Letter;
use crate::fate::{Attempted, Fate, decide};
use crate::hands::{Hands, Holding};
use crate::keeper::Book;
use crate::meters::{Counted, Meters};
use crate::poison::DEATHS;
use crate::source::Record;
use crate::worker::Context;
use crate::{Burial, Clock, Emit, Failure, KafkaConfig, Producer, RetryPolicy, SendError, Worker, dead};

/// So often it is tried to tell of a message that ends the process, before its letter is written without.
const TELLINGS: u32 = 2;

/// What the loop holds of a message.
pub(crate) struct Held {
    pub record: Record,
    /// Attempts that failed; those that found something unavailable are not among them.
    failures: u32,
    first_failure: Option<Timestamp>,
    /// The breaker has counted its dead letter.
    counted: bool,
}

impl Held {
    pub fn new(record: Record) -> Self {
        Self {
            record,
            failures: 0,
            first_failure: None,
            counted: false,
        }
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
    pub source: Arc<str>,
    /// `name@version`, for dead letters.
    pub signature: String,
    /// Made when the first event is to be published: a start from zero does not wait for it.
    pub producer: OnceCell<Producer>,
    pub meters: Meters,
    pub traces: Traces,
    pub breaker: Breaker,
    pub hands: Hands,
}

/// A batch on its way to the handler.
pub(crate) struct Work {
    pub batch: Batch<Held>,
    /// Cancelled when it is not wanted any more.
    pub cancel: CancellationToken,
    /// It is one message, under suspicion.
    pub alone: Option<Alone>,
}

/// A message that is begun with nothing else in flight, because it may end the process.
pub(crate) struct Alone {
    pub deaths: u32,
    /// What to write first, and where.
    pub notes: Vec<Change>,
    pub book: Book,
}

impl<W: Worker> Attempts<W> {
    /// Handles batches side by side; tells of those together that are ready together.
    pub async fn run_all(self: Arc<Self>, work: Vec<Work>, finished: UnboundedSender<Vec<Finished>>) {
        let together = work.len();
        // When the loop has ended, nobody waits for the result, and the message stays uncommitted.
        let tell = |results: Vec<Finished>| drop(finished.send(results));
        let mut at_once = Vec::with_capacity(together);
        let flying = FuturesUnordered::new();
        let mut used = None;
        for work in work {
            let attempt = self.run(work);
            let mut attempt = match used.take() {
                Some(room) => refilled(room, attempt),
                None => Box::pin(attempt),
            };
            // A handler that waits for nothing is done with this, and its room is the next one's.
            match futures::poll!(attempt.as_mut()) {
                Poll::Ready(results) => {
                    at_once.extend(results);
                    used = Some(attempt);
                }
                Poll::Pending => flying.push(attempt),
            }
        }
        drop(used);
        if !at_once.is_empty() {
            tell(at_once);
        }
        let mut ready = flying.ready_chunks(together);
        while let Some(results) = ready.next().await {
            tell(results.into_iter().flatten().collect());
        }
    }

    /// Handles a batch and publishes what it leads to.
    async fn run(&self, work: Work) -> Vec<Finished> {
        let mut deaths = 0;
        if let Some(alone) = work.alone {
            deaths = alone.deaths;
            rarely(alone.book.change(alone.notes)).await;
        }
        self.attempt(work.batch, work.cancel, deaths).await
    }

    async fn attempt(&self, batch: Batch<Held>, cancel: CancellationToken, deaths: u32) -> Vec<Finished> {
        let attempt = batch.items.first().map_or(0, |(_, item)| item.attempts);
        let ctx = Context {
            clock: self.clock.clone(),
            source: self.source.clone(),
            partition: batch.partition,
            attempt,
            cancel,
        };
        let mut finished = Vec::with_capacity(batch.items.len());
        let (mut items, mut events) = (Vec::new(), Vec::new());
        for (ticket, item) in batch.items {
            if deaths >= DEATHS {
                finished.push(rarely(self.give_up(ticket, item, deaths, &ctx)).await);
                continue;
            }
            match decode::<W::Payload>(&item.record.record) {
                Ok(mut event) => {
                    let span = self.span(&event.envelope, &item);
                    // What the message leads to is below its span; without tracing, below what led to it.
                    if let Some(place) = span.place().and_then(TraceParent::at) {
                        event.envelope.trace = place;
                    }
                    items.push((ticket, item, span, subject(&event.envelope)));
                    events.push(event);
                }
                Err(reason) => finished.push(rarely(self.settle(ticket, item, None, Attempted::Undecodable(reason), &ctx)).await),
            }
        }
        if events.is_empty() {
            return finished;
        }
        let first = items.first().map_or(0, |(_, item, ..)| item.offset);
        let together = match items.as_slice() {
            [(.., only)] => only.clone(),
            _ => batch_subject(ctx.partition, items.len()),
        };
        let outcomes = about(together, self.handle(&events, first, &ctx)).await;
        for ((ticket, item, mut span, subject), (event, outcome)) in items.into_iter().zip(events.iter().zip(outcomes)) {
            if let Some(kind) = outcome.error_type() {
                span.failed(kind);
            }
            let settled = self.settle(ticket, item, Some(event), outcome, &ctx);
            finished.push(about(subject, settled).await);
        }
        finished
    }

    /// Dead-letters a message that ends the process. When reading it, or telling of it, does so too, nobody is told.
    async fn give_up(&self, ticket: Ticket, item: Item<Held>, deaths: u32, ctx: &Context) -> Finished {
        let event = (deaths < DEATHS + TELLINGS)
            .then(|| decode::<W::Payload>(&item.record.record).ok())
            .flatten();
        self.settle(ticket, item, event.as_ref(), Attempted::Deadly(deaths), ctx).await
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
                KeyValue::new("cloudevents.event_type", envelope.event_type.clone()),
                KeyValue::new("libertum.attempt", i64::from(item.attempts)),
            ];
            (format!("process {topic}"), attributes)
        })
    }

    /// Hands events to the worker; `first` is the offset of the first one.
    async fn handle(&self, events: &[Event<W::Payload>], first: i64, ctx: &Context) -> Vec<Attempted> {
        let begun = Instant::now();
        let _held = self.hands.take(Holding {
            partition: ctx.partition,
            offset: first,
            since: begun,
        });
        let handling = AssertUnwindSafe(self.worker.handle_batch(events, ctx)).catch_unwind();
        let mut handling = pin!(handling);
        let results = match futures::poll!(handling.as_mut()) {
            Poll::Ready(results) => Ok(results),
            // Dropped when its time is up, which is no more than a kill would do to it.
            Poll::Pending => tokio::time::timeout(self.stuck_after.saturating_sub(begun.elapsed()), handling).await,
        };
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
                let text = panic_text(panic.as_ref());
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
        let outcome = self.publish_what_follows(outcome).await;
        match decide(outcome, item.attempts, item.record.failures, &self.retry, rand::random()) {
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
                item.record.failures += 1;
                item.record.first_failure.get_or_insert_with(|| self.clock.now());
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

    /// Publishes the events of a handled message; the outcome is another one when that fails.
    async fn publish_what_follows(&self, outcome: Attempted) -> Attempted {
        let (Attempted::Handled(Ok(emit)) | Attempted::Handled(Err(Failure::Rejected { emit, .. }))) = &outcome else {
            return outcome;
        };
        if emit.0.is_empty() {
            return outcome;
        }
        match rarely(self.publish(emit)).await {
            Ok(()) => outcome,
            Err(e) if is_too_large(&e) => Attempted::TooLarge(format!("{e:#}")),
            Err(e) => Attempted::Handled(Err(Failure::Unavailable(e))),
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

    fn again(&self, ticket: Ticket, item: Item<Held>, after: Duration, counted: Counted, error: &str) -> Finished {
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
        Finished::Again {
            ticket,
            item: Box::new(item),
            at: Instant::now() + after,
            unavailable: counted == Counted::Unavailable,
        }
    }

    /// Writes a dead letter, once whoever waits for the message has been told. What cannot be told or written now is
    /// tried again; the message is not done before.
    async fn bury(&self, ticket: Ticket, mut item: Item<Held>, event: Option<&Event<W::Payload>>, why: Burial, ctx: &Context) -> Finished {
        if !item.record.counted && !self.breaker.permits(self.clock.now()).await {
            return Finished::Refused(ticket);
        }
        item.record.counted = true;
        match self.try_bury(&item, event, &why, ctx).await {
            Ok(()) => {
                self.meters.fate(Counted::Dead);
                warn!(
                    message.partition = ticket.partition,
                    message.offset = item.offset,
                    class = why.class.as_str(),
                    attempts = why.attempts,
                    error = why.error,
                    "message dead-lettered"
                );
                Finished::Buried(ticket)
            }
            Err(e) if e.downcast_ref::<SendError>().is_some_and(SendError::is_permanent) => {
                error!(
                    message.partition = ticket.partition,
                    message.offset = ticket.offset,
                    error = format!("{e:#}"),
                    "a dead letter cannot be written: check its topic's rights and max.message.bytes"
                );
                Finished::Unwritten(ticket)
            }
            Err(e) => {
                let after = self.retry.wait(ctx.attempt, rand::random());
                self.again(
                    ticket,
                    item,
                    after,
                    Counted::Unavailable,
                    &format!("the dead letter could not be written: {e:#}"),
                )
            }
        }
    }

    async fn try_bury(&self, item: &Item<Held>, event: Option<&Event<W::Payload>>, why: &Burial, ctx: &Context) -> anyhow::Result<()> {
        if let Some(event) = event {
            let told = AssertUnwindSafe(self.worker.buried(event, why, ctx)).catch_unwind().await;
            match told {
                Ok(Ok(emit)) => match self.publish(&emit).await {
                    Err(e) if is_too_large(&e) => warn!(error = format!("{e:#}"), "nobody could be told of the dead letter"),
                    published => published?,
                },
                Ok(Err(Failure::Unavailable(e))) => return Err(e),
                // Whoever fails even to say that it failed must not hold the letter back.
                Ok(Err(e)) => warn!(error = %e, "nobody could be told of the dead letter"),
                Err(panic) => warn!(error = panic_text(panic.as_ref()), "nobody could be told of the dead letter"),
            }
        }
        let now = self.clock.now();
        let letter = Letter {
            topic: W::NAME,
            record: &item.record.record,
            burial: why,
            worker: &self.signature,
            first_failure: item.record.first_failure.unwrap_or(now),
            last_failure: now,
        };
        dead::write(self.producer().await?, &self.kafka, &letter).await?;
        Ok(())
    }

    async fn publish(&self, emit: &Emit) -> anyhow::Result<()> {
        for event in &emit.0 {
            self.producer().await?.send(event).await?;
        }
        self.meters.published(emit.0.len());
        Ok(())
    }

    async fn producer(&self) -> anyhow::Result<&Producer> {
        self.producer
            .get_or_try_init(|| async { Ok(Producer::new(&self.kafka, W::NAME)?.traced(self.traces.clone())) })
            .await
    }
}

/// What most messages do not come to is kept apart: an attempt is moved with all that it may have to remember.
fn rarely<F: Future>(work: F) -> Pin<Box<F>> {
    Box::pin(work)
}

/// A future that has ended gives its room to another.
fn refilled<F>(mut room: Pin<Box<F>>, future: F) -> Pin<Box<F>> {
    room.set(future);
    room
}

fn is_too_large(e: &anyhow::Error) -> bool {
    e.downcast_ref::<SendError>().is_some_and(SendError::is_too_large)
}

pub(crate) fn decode<P: Payload>(record: &Record) -> Result<Event<P>, String> {
    if !record.is_readable() {
        return Err("the name of a header is not text".to_owned());
    }
    let headers = record.headers().ok_or("the message has no headers")?;
    let envelope = Envelope::from_headers(headers).map_err(|e| e.to_string())?;
    let value = record.value().ok_or("the message has no value")?;
    let payload = P::decode(&envelope.event_type, value).map_err(|e| e.to_string())?;
    Ok(Event { envelope, payload })
}

/// What is logged of a message besides what happened.
fn subject(envelope: &Envelope) -> Subject {
    let (trace, id, kind) = (envelope.trace, envelope.id, envelope.event_type.clone());
    Arc::new(move || {
        vec![
            ("trace_id", trace.trace_id()),
            ("event.id", id.to_string()),
            ("event.type", kind.clone()),
        ]
    })
}

fn batch_subject(partition: i32, messages: usize) -> Subject {
    Arc::new(move || vec![("partition", partition.to_string()), ("batch.messages", messages.to_string())])
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the handler panicked: {}", text.unwrap_or_else(|| "without a word".to_owned()))
}
