//! The loop: from joining the group to the reason to end.

mod events;
mod guards;
mod leave;
mod poison;
mod time;
mod watch;

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryFutureExt as _;
use runtime::{Exit, Ledger, Process, Pulse};
use tokio::sync::OnceCell;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info};
use uuid::Uuid;

use poison::Claimed;

use crate::attempt::{Alone, Attempts, Finished, Held, Work};
use crate::breaker::{Breaker, Trip};
use crate::circuit::Circuit;
use crate::core::{Batch, Core};
use crate::hands::Hands;
use crate::keeper::{Book, Keeper};
use crate::meters::Meters;
use crate::poison::Watch;
use crate::source::{FromKafka, Source, ToKafka};
use crate::{Clock, Context, LoopConfig, Worker};

/// How often what is done is committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How long the end of the process waits for its last commit.
const LAST_COMMIT: Duration = Duration::from_secs(3);
/// A job that has not been given partitions by then has nothing to do: there are more jobs than partitions. Longer
/// than the session timeout, within which a killed member still holds its partitions.
const ASSIGNMENT: Duration = Duration::from_secs(15);
/// How long brokers may be out of reach while there are no partitions for us. A service that was in its group takes them for
/// back when it has not heard for so long that they are not.
const BOOT: Duration = Duration::from_secs(20);
/// How long a member without partitions waits for some.
const HAND_OVER: Duration = Duration::from_secs(5);
/// A refused commit is repeated after this.
const REPEAT: Duration = Duration::from_millis(100);
/// Messages held per message in flight, before fetching pauses.
const HELD_PER_FLIGHT: usize = 64;
/// So many results are taken together.
const RESULTS: usize = 256;
/// Batches that share a task, at most; a task each would cost more than a short handler.
const SHARE: usize = 32;

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
        told: BTreeMap::new(),
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

enum Commit {
    Idle,
    /// Sent, and not answered yet.
    Sent(Instant),
}

/// Partitions that are being taken away, while messages of theirs are in flight.
struct Revoking {
    partitions: Vec<i32>,
    reply: std::sync::mpsc::SyncSender<Vec<(i32, i64)>>,
    until: Instant,
}

struct Loop<W: Worker> {
    process: Process,
    config: LoopConfig,
    attempts: Arc<Attempts<W>>,
    source: Source,
    from_kafka: UnboundedReceiver<FromKafka>,
    finished: UnboundedSender<Vec<Finished>>,
    results: UnboundedReceiver<Vec<Finished>>,
    core: Core<Held>,
    hasher: RandomState,
    meters: Meters,
    /// Tasks among which what begins together is divided.
    tasks: usize,
    /// Cancelled when no work in flight is wanted any more; each partition of ours has a child of it in `told`.
    unwanted: CancellationToken,
    /// What the handlers of each partition of ours are told.
    told: BTreeMap<i32, Arc<Context>>,
    revoking: Option<Revoking>,
    /// Since when the group has given us nothing, not even an empty share; `None` once it has.
    unassigned_since: Option<Instant>,
    /// The group has thrown this member out, and has not given it anything since.
    thrown_out: bool,
    commit: Commit,
    commit_at: Instant,
    /// Nothing is repeated before this.
    repeat_at: Instant,
    /// No broker could be reached when last heard of.
    brokers_down: bool,
    /// The group has given this member a share before, if an empty one.
    has_joined: bool,
    /// A broker's certificate was refused, and none has answered since.
    untrusted: bool,
    drained_since: Option<Instant>,
    began: Instant,
    /// Since when nothing new is begun, and when what is in flight is cancelled.
    stopping: Option<Stopping>,
    /// How the process ends when what is in flight has come to an end.
    ending: Exit,
    circuit: Circuit,
    watch: Watch,
    /// Where processes leave word of what they hold.
    notes: Book,
    /// Questions to the ledger about partitions, without an answer yet.
    claims: usize,
    say_claimed: UnboundedSender<Claimed>,
    claimed: UnboundedReceiver<Claimed>,
    first: bool,
    /// A handler holds a message for too long.
    stuck: bool,
    pulse: Pulse,
}

#[derive(Clone, Copy)]
struct Stopping {
    cancel_at: Instant,
    leave_at: Instant,
}

impl<W: Worker> Loop<W> {
    async fn until_the_end(&mut self) -> Exit {
        let sleep = tokio::time::sleep_until(self.next_wake().into());
        tokio::pin!(sleep);
        let mut results = Vec::new();
        loop {
            if let Some(exit) = self.step_time(Instant::now()) {
                return exit;
            }
            self.dispatch();
            let wake = tokio::time::Instant::from_std(self.next_wake());
            if wake != sleep.deadline() {
                sleep.as_mut().reset(wake);
            }
            let stopping = self.stopping.is_some();
            tokio::select! {
                _ = self.results.recv_many(&mut results, RESULTS) => self.take_results(&mut results),
                event = self.from_kafka.recv() => match event {
                    Some(event) => if let Some(exit) = self.take_event(event) { return exit; },
                    None => return Exit::Internal,
                },
                Some(claimed) = self.claimed.recv() => self.take_claimed(claimed),
                () = self.process.stop.cancelled(), if !stopping => self.stop("told to stop"),
                () = &mut sleep => {}
            }
        }
    }

    /// Begins to end: nothing new, what is in flight may finish within most of the grace period.
    fn stop(&mut self, why: &'static str) {
        info!(why, in_flight = self.core.in_flight(), "taking nothing new");
        self.process.health.set_ready(false);
        self.source.ask(ToKafka::Stop);
        // Whatever ends the process from now on is no surprise.
        self.note(self.watch.farewell());
        let grace = self.process.grace;
        let now = Instant::now();
        self.stopping = Some(Stopping {
            cancel_at: now + grace.mul_f64(0.6),
            leave_at: now + grace.mul_f64(0.75),
        });
    }

    fn dispatch(&mut self) {
        if self.stopping.is_some() || self.revoking.is_some() || self.claims > 0 {
            return;
        }
        let mut work = Vec::new();
        let limit = self.circuit.limit(Instant::now(), self.config.max_in_flight);
        while self.core.in_flight() < limit {
            let room = (limit - self.core.in_flight()).min(W::BATCH);
            let next = if self.watch.is_quiet() {
                self.core.next(room).map(|batch| self.work(batch, None))
            } else {
                self.next_watched(room)
            };
            let Some(next) = next else { break };
            work.push(next);
        }
        if work.is_empty() {
            return;
        }
        if self.first {
            self.first = false;
            self.meters.cold_start(self.process.started.elapsed());
        }
        self.meters.in_flight(self.core.in_flight());
        // Batches that begin together share a task, as long as every core gets its share of them.
        let share = work.len().div_ceil(self.tasks).min(SHARE);
        while !work.is_empty() {
            let rest = work.split_off(share.min(work.len()));
            tokio::spawn(self.attempts.clone().run_all(work, self.finished.clone()));
            work = rest;
        }
    }

    fn work(&mut self, batch: Batch<Held>, alone: Option<Alone>) -> Work {
        let partition = batch.partition;
        let told = self.told.entry(partition).or_insert_with(|| {
            Arc::new(Context {
                cancel: self.unwanted.child_token(),
                ..Context::new(W::NAME, self.attempts.clock.clone(), partition)
            })
        });
        Work {
            ctx: told.clone(),
            batch,
            alone: alone.map(Box::new),
        }
    }

    fn take_results(&mut self, results: &mut Vec<Vec<Finished>>) {
        for result in results.drain(..).flatten() {
            self.watch_finished(&result);
            match result {
                Finished::Done(ticket) => {
                    self.core.done(ticket);
                    self.close_circuit();
                }
                Finished::Buried(ticket) => self.core.done(ticket),
                Finished::Again {
                    ticket,
                    item,
                    at,
                    unavailable,
                } => {
                    self.core.again(ticket, *item, at);
                    if unavailable {
                        self.open_circuit();
                    }
                }
                Finished::Leave(ticket) => self.core.leave(ticket),
                Finished::Refused(ticket) => {
                    self.core.leave(ticket);
                    self.trip();
                }
                Finished::Unwritten(ticket) => {
                    self.core.leave(ticket);
                    self.end_unwritten();
                }
            }
        }
        self.meters.in_flight(self.core.in_flight());
        self.commit_at_once();
    }
}
