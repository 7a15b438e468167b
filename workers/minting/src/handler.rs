//! The worker: requests in, and out only what the chain has made final.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bus::{Burial, Context, Emit, Failure, Worker};
use futures::future::try_join_all;
use messages::{Event, MintFailed, MintingPayload, topics};
use stores::records::Reason;
use stores::{Cache, Mongo};
use tracing::warn;

use crate::config::Config;
use crate::desk::{Desk, Office};
use crate::error::Error;
use crate::ledger::Ledger;
use crate::order::{self, Place, Verdict};
use crate::plan;
use crate::records::MintItem;
use crate::rpc::Chain;
use crate::section::{Respect, Sections};
use crate::signers::Signers;

/// How long the chain may be out of reach before the messages go back to the loop, which says so and waits.
const PATIENCE: Duration = Duration::from_secs(15);
/// Asset records that are written at the same time.
const SECTIONS: usize = 16;

pub struct Handler {
    office: Arc<Office>,
    sections: Sections,
    desks: Mutex<HashMap<u32, Arc<Desk>>>,
}

/// A request that is not answered yet.
struct Order {
    slot: usize,
    wanted: MintItem,
}

type Answer = Result<Emit, Failure>;

impl Handler {
    /// Connects to the stores and checks the chain, the contract and the signers' roles in one round trip.
    ///
    /// # Errors
    /// A wrong configuration ends the process with 64, a chain that stays away with 69.
    pub async fn connect(config: &Config) -> anyhow::Result<Self> {
        let chain = Chain::new(&config.rpc, &config.mint)?;
        let signers = Signers::load(&config.keys).await?;
        let addresses = signers.addresses();
        let (mongo, ()) = tokio::try_join!(async { Ok(Mongo::new(&config.mongo).await?) }, chain.check(&addresses))?;
        let cache = Cache::new(&config.cache)?;
        let office = Office {
            ledger: Ledger::new(mongo.clone()),
            chain,
            signers,
            mint: config.mint.clone(),
        };
        Ok(Self {
            office: Arc::new(office),
            sections: Sections::new(mongo, Some(cache)),
            desks: Mutex::default(),
        })
    }

    fn desk(&self, partition: i32) -> Result<Arc<Desk>, Error> {
        let partition = u32::try_from(partition).map_err(|e| Error::Fault(e.into()))?;
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(desk) = desks.get(&partition) {
            return Ok(desk.clone());
        }
        let desk = Arc::new(Desk::new(self.office.clone(), partition)?);
        desks.insert(partition, desk.clone());
        Ok(desk)
    }

    fn place(&self) -> Place {
        Place {
            chain_id: self.office.chain.chain_id,
            contract: self.office.mint.contract,
        }
    }

    /// Answers all events, or says why it cannot go on.
    async fn work(&self, events: &[Event<MintingPayload>], ctx: &Context, answers: &mut [Option<Answer>]) -> Result<(), Error> {
        let desk = self.desk(ctx.partition)?;
        let mut orders = Vec::new();
        for (slot, event) in events.iter().enumerate() {
            let wanted = order::wanted(event, self.place(), ctx.now());
            if let Some(reason) = order::problem(event) {
                self.sections.fail(&wanted, &reason, ctx.now(), Respect::MintedAndMinting).await?;
                set(answers, slot, Err(order::rejected(ctx, &event.envelope, &wanted, &reason)));
            } else {
                orders.push(Order { slot, wanted });
            }
        }
        let mut lost_since = None;
        let mut fresh = true;
        loop {
            let waiting = self.review(&mut orders, events, ctx, answers, fresh).await?;
            if orders.is_empty() {
                return Ok(());
            }
            fresh = false;
            bear(self.step(&desk, waiting, ctx).await, &mut lost_since)?;
            tokio::time::sleep(desk.pace().await).await;
        }
    }

    /// Follows what is under way, and plans what is not.
    async fn step(&self, desk: &Desk, waiting: Vec<MintItem>, ctx: &Context) -> Result<(), Error> {
        let mut ids: Vec<String> = waiting.iter().filter_map(|item| item.open_attempt.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        let existing = self.office.ledger.existing(&ids).await?;
        for lost in ids.iter().filter(|id| !existing.contains(id)) {
            warn!(attempt.id = lost, "the record of an attempt is lost, planning its items anew");
            self.office.ledger.release(lost, false).await?;
        }
        // First what is under way: a pause or an empty account must not keep it from being settled.
        desk.follow(ctx.now()).await?;
        let unplanned: Vec<MintItem> = waiting.into_iter().filter(|item| item.open_attempt.is_none()).collect();
        for part in unplanned.chunks(plan::BATCH) {
            desk.plan(part, ctx.now()).await?;
        }
        Ok(())
    }

    /// Looks at the items of all orders, answers those that are settled, and returns the items of the others.
    async fn review(
        &self,
        orders: &mut Vec<Order>,
        events: &[Event<MintingPayload>],
        ctx: &Context,
        answers: &mut [Option<Answer>],
        fresh: bool,
    ) -> Result<Vec<MintItem>, Error> {
        let mut stored = self.stored(orders).await?;
        if self.complete(orders, &stored, fresh).await? {
            stored = self.stored(orders).await?;
        }
        let judged: Vec<(&Order, &MintItem, Verdict)> = orders
            .iter()
            .filter_map(|order| {
                stored
                    .get(&order.wanted.key)
                    .map(|item| (order, item, order::judge(item, &order.wanted, false)))
            })
            .collect();
        self.write_sections(&judged, ctx, fresh).await?;
        let mut waiting = Vec::new();
        let mut settled = Vec::new();
        for (order, item, verdict) in &judged {
            match self.answer(&events[order.slot], order, item, verdict, ctx) {
                Some(answer) => {
                    set(answers, order.slot, answer);
                    settled.push(order.slot);
                }
                None if *verdict == Verdict::Wait => waiting.push((*item).clone()),
                // Somebody else has just let it end: it is taken over at the next look.
                None => {}
            }
        }
        orders.retain(|order| !settled.contains(&order.slot));
        Ok(waiting)
    }

    async fn stored(&self, orders: &[Order]) -> Result<HashMap<String, MintItem>, Error> {
        let keys: Vec<String> = orders.iter().map(|order| order.wanted.key.clone()).collect();
        let items = self.office.ledger.load(&keys).await?;
        Ok(items.into_iter().map(|item| (item.key.clone(), item)).collect())
    }

    /// Enters items that are not there, and takes over those that ended unminted. True when there was one.
    async fn complete(&self, orders: &[Order], stored: &HashMap<String, MintItem>, fresh: bool) -> Result<bool, Error> {
        let mut missing = Vec::new();
        let mut reopened = false;
        for Order { wanted, .. } in orders {
            match stored.get(&wanted.key) {
                None => missing.push(wanted.clone()),
                Some(item) if order::judge(item, wanted, fresh) == Verdict::Reopen => {
                    self.office.ledger.reopen(item, wanted).await?;
                    reopened = true;
                }
                Some(_) => {}
            }
        }
        self.office.ledger.enrol(&missing).await?;
        Ok(reopened || !missing.is_empty())
    }

    async fn write_sections(&self, judged: &[(&Order, &MintItem, Verdict)], ctx: &Context, fresh: bool) -> Result<(), Error> {
        let now = ctx.now();
        let changed = |item: &MintItem, verdict: &Verdict| match verdict {
            Verdict::Wait => fresh,
            Verdict::Minted => true,
            // A conflict is no state of the asset: it has, or gets, the other issuance.
            Verdict::Rejected(reason) => reason.code != "key-conflict" || item.reason.as_ref() == Some(reason),
            Verdict::Failed(_) | Verdict::Reopen => false,
        };
        let items: Vec<&MintItem> = judged
            .iter()
            .filter(|(_, item, verdict)| changed(item, verdict))
            .map(|j| j.1)
            .collect();
        for part in items.chunks(SECTIONS) {
            try_join_all(part.iter().map(|item| self.sections.write(item, now))).await?;
        }
        Ok(())
    }

    fn answer(&self, event: &Event<MintingPayload>, order: &Order, item: &MintItem, verdict: &Verdict, ctx: &Context) -> Option<Answer> {
        match verdict {
            Verdict::Wait | Verdict::Reopen => None,
            Verdict::Minted => Some(order::minted(ctx, &event.envelope, item)),
            Verdict::Rejected(reason) => Some(Err(order::rejected(ctx, &event.envelope, &order.wanted, reason))),
            Verdict::Failed(reason) => Some(Err(Failure::Failed(anyhow::anyhow!("{}: {}", reason.code, reason.text)))),
        }
    }
}

impl Worker for Handler {
    const NAME: &'static str = topics::MINTING;
    const BATCH: usize = plan::BATCH;
    /// Finality takes a quarter of an hour on a good day, and a chain in trouble is no reason to start again.
    const STUCK_AFTER: Duration = Duration::from_secs(2 * 3600);
    type Payload = MintingPayload;

    async fn handle(&self, event: &Event<MintingPayload>, ctx: &Context) -> Answer {
        let mut answers = self.handle_batch(std::slice::from_ref(event), ctx).await;
        answers.pop().unwrap_or(Err(Failure::Cancelled))
    }

    /// Returns when every item is settled, when something a person must mend is in the way, or when cancelled.
    /// Being dropped at any point loses nothing: what was decided is in the ledger, and the next call finds it there.
    async fn handle_batch(&self, events: &[Event<MintingPayload>], ctx: &Context) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = events.iter().map(|_| None).collect();
        let ended = tokio::select! {
            biased;
            () = ctx.cancel.cancelled() => Ok(()),
            ended = self.work(events, ctx, &mut answers) => ended,
        };
        let unanswered = || match &ended {
            Ok(()) => Err(Failure::Cancelled),
            Err(e) => Err(e.to_failure()),
        };
        answers.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect()
    }

    async fn buried(&self, event: &Event<MintingPayload>, why: &Burial, ctx: &Context) -> Answer {
        let item = order::wanted(event, self.place(), ctx.now());
        let reason = Reason {
            code: why.class.as_str().to_owned(),
            text: why.error.clone(),
        };
        let written = self.sections.fail(&item, &reason, ctx.now(), Respect::Minted).await;
        written.map_err(|e| e.to_failure())?;
        let message = MintFailed(order::verdict_on(&item, &reason));
        Ok(ctx.caused(&event.envelope, order::subject(&item), &message).into())
    }
}

fn set(answers: &mut [Option<Answer>], slot: usize, answer: Answer) {
    if let Some(place) = answers.get_mut(slot) {
        *place = Some(answer);
    }
}

/// Bears with a chain that does not answer, for a while.
fn bear(step: Result<(), Error>, lost_since: &mut Option<Instant>) -> Result<(), Error> {
    match step {
        Ok(()) => {
            *lost_since = None;
            Ok(())
        }
        Err(e) if e.is_transport() => {
            let since = *lost_since.get_or_insert_with(Instant::now);
            warn!(error = %e, "the chain does not answer, trying again");
            if since.elapsed() < PATIENCE { Ok(()) } else { Err(e) }
        }
        Err(e) => Err(e),
    }
}
