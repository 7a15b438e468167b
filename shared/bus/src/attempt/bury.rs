//! What an attempt writes: the events that a message leads to, and its dead letter.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use messages::Event;
use tracing::{error, warn};

use super::{Attempts, Finished, Held, panic_text};
use crate::core::{Item, Ticket};
use crate::dead::Letter;
use crate::fate::Attempted;
use crate::meters::Counted;
use crate::worker::Context;
use crate::{Burial, Emit, Failure, Producer, SendError, Worker, dead};

impl<W: Worker> Attempts<W> {
    /// Publishes the events of a handled message; the outcome is another one when that fails.
    pub(super) async fn publish_what_follows(&self, outcome: Attempted) -> Attempted {
        let Some(emit) = outcome.emit() else { return outcome };
        match self.publish(emit).await {
            Ok(()) => outcome,
            Err(e) if is_too_large(&e) => Attempted::TooLarge(format!("{e:#}")),
            Err(e) => Attempted::Handled(Err(Failure::Unavailable(e))),
        }
    }

    /// Writes a dead letter, once whoever waits for the message has been told. What cannot be told or written now is
    /// tried again; the message is not done before.
    pub(super) async fn bury(
        &self,
        ticket: Ticket,
        mut item: Item<Held>,
        event: Option<&Event<W::Payload>>,
        why: Burial,
        ctx: &Context,
    ) -> Finished {
        if !item.record.is_counted() && !self.breaker.permits(self.clock.now()).await {
            return Finished::Refused(ticket);
        }
        item.record.trouble().counted = true;
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
                Err(panic) => warn!(
                    error = panic_text("the handler", panic.as_ref()),
                    "nobody could be told of the dead letter"
                ),
            }
        }
        let now = self.clock.now();
        let letter = Letter {
            topic: W::NAME,
            record: &item.record.record,
            burial: why,
            worker: &self.signature,
            first_failure: item.record.first_failure().unwrap_or(now),
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

fn is_too_large(e: &anyhow::Error) -> bool {
    e.downcast_ref::<SendError>().is_some_and(SendError::is_too_large)
}
