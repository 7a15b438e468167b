//! From the settings to a running loop.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use futures::TryFutureExt as _;
use runtime::{Exit, Ledger, Process};
use tokio::sync::OnceCell;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error};
use uuid::Uuid;

use super::{COMMIT_EVERY, Commit, Loop, leave, watch};
use crate::attempt::Attempts;
use crate::breaker::{Breaker, Trip};
use crate::circuit::Circuit;
use crate::core::Core;
use crate::hands::Hands;
use crate::keeper::Keeper;
use crate::meters::Meters;
use crate::poison::Watch;
use crate::source::{Source, ToKafka};
use crate::{Clock, LoopConfig, Worker};

/// Messages held per message in flight, before fetching pauses.
const HELD_PER_FLIGHT: usize = 64;

/// Consumes the worker's topic until there is nothing left (job), or until told to stop.
///
/// The group is joined first; `build`, which makes the worker and connects it to its stores, runs meanwhile. A version
/// that has written too many dead letters, by the ledger, does not join at all.
///
/// # Errors
/// Those of `build`, and what keeps the loop from starting. Everything later is an [`Exit`].
pub async fn run<W, F>(process: &Process, config: &LoopConfig, ledger: impl Ledger, build: F) -> anyhow::Result<Exit>
where
    W: Worker,
    F: Future<Output = anyhow::Result<W>>,
{
    run_with_clock(process, config, ledger, Clock::system(), build).await
}

/// As [`run`], with a clock of one's own: for tests in other years.
///
/// # Errors
/// As [`run`].
pub async fn run_with_clock<W, F>(
    process: &Process,
    config: &LoopConfig,
    ledger: impl Ledger,
    clock: Clock,
    build: F,
) -> anyhow::Result<Exit>
where
    W: Worker,
    F: Future<Output = anyhow::Result<W>>,
{
    let (events, from_kafka) = mpsc::unbounded_channel();
    let max_held = config.max_in_flight.saturating_mul(HELD_PER_FLIGHT).max(W::BATCH * 2);
    let pulse = process.health.pulse("the thread that polls Kafka", watch::STILL);
    let source = Source::start(config, W::NAME, max_held, events, pulse).map_err(|e| e.context("the Kafka consumer could not be made"))?;
    debug!("consumer made");
    let meters = Meters::new(process, &config.kafka.name(W::NAME));
    let keeper = Keeper::start(Arc::new(ledger), process.tally.clone());
    meters.held(process, source.held());
    let breaker = Breaker::new(&keeper, &config.kafka, W::NAME, process.service.version);
    let join = async {
        if let Some(trip) = breaker.open().await {
            return Err(NoStart::Tripped(trip));
        }
        source.ask(ToKafka::Join);
        Ok(())
    };
    let started = tokio::select! {
        started = async { tokio::try_join!(build.map_err(NoStart::NotBuilt), join) } => started.map(|(worker, ())| worker),
        () = process.stop.cancelled() => Err(NoStart::Stopped),
    };
    let worker = match started {
        Ok(worker) => worker,
        Err(why) => {
            // A member that does not say that it goes is waited for by the whole group.
            leave::at_once(&source, from_kafka).await;
            return why.exit(&config.kafka.name(W::NAME));
        }
    };
    let attempts = Arc::new(Attempts {
        worker,
        kafka: config.kafka.clone(),
        retry: config.retry,
        stuck_after: config.stuck_after.unwrap_or(W::STUCK_AFTER),
        clock,
        signature: format!("{}@{}", W::NAME, process.service.version),
        producer: OnceCell::new(),
        meters: meters.clone(),
        traces: process.traces.clone(),
        breaker,
        hands: Hands::default(),
        beginning: AtomicUsize::new(0),
    });
    let (finished, results) = mpsc::unbounded_channel();
    let (say_claimed, claimed) = mpsc::unbounded_channel();
    let now = Instant::now();
    let mut the_loop = Loop {
        process: process.clone(),
        config: config.clone(),
        attempts,
        source,
        from_kafka,
        finished,
        results,
        core: Core::new(),
        hasher: RandomState::new(),
        meters,
        tasks: tokio::runtime::Handle::current().metrics().num_workers(),
        unwanted: CancellationToken::new(),
        contexts: BTreeMap::new(),
        revoking: None,
        unassigned_since: Some(now),
        thrown_out: false,
        commit: Commit::Idle,
        commit_at: now + COMMIT_EVERY,
        repeat_at: now,
        brokers_down: false,
        has_joined: false,
        untrusted: false,
        drained_since: None,
        began: now,
        stopping: None,
        ending: Exit::Drained,
        circuit: Circuit::new(config.retry),
        watch: Watch::new(Uuid::now_v7().to_string(), config.max_in_flight),
        notes: keeper.book(format!("{}/deaths", config.kafka.name(W::NAME))),
        claims: 0,
        say_claimed,
        claimed,
        first: true,
        stuck: false,
        pulse: process.health.pulse("the loop", watch::STILL),
    };
    process.health.set_ready(true);
    // On a thread with the handlers: one that is done wakes the loop, and the loop the next, without a word to the system.
    let running = tokio::spawn(async move {
        let exit = the_loop.until_the_end().await;
        the_loop.leave(exit).await
    });
    AbortOnDropHandle::new(running).await?
}

/// Why the loop was never begun.
enum NoStart {
    Stopped,
    NotBuilt(anyhow::Error),
    Tripped(Trip),
}

impl NoStart {
    fn exit(self, topic: &str) -> anyhow::Result<Exit> {
        match self {
            Self::Stopped => Ok(Exit::Drained),
            Self::NotBuilt(e) => Err(e),
            Self::Tripped(Trip { version, why }) => {
                error!(
                    topic,
                    version,
                    why,
                    "this version has written too many dead letters and does not consume any more: deploy another one, or \
                     mend what it depends on and run `scripts/redrive TOPIC --reset`"
                );
                Ok(Exit::DeadLetterCap)
            }
        }
    }
}
