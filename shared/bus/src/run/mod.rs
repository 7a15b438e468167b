//! The loop: from joining the group to the reason to end.

mod events;
mod guards;
mod leave;
mod poison;
mod start;
mod time;
mod watch;

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use runtime::{Exit, Process, Pulse};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;
use tracing::info;

use poison::Claimed;
pub use start::{run, run_with_clock};

use crate::attempt::{Alone, Attempts, Finished, Held, Work};
use crate::circuit::Circuit;
use crate::core::{Batch, Core};
use crate::keeper::Book;
use crate::meters::Meters;
use crate::poison::Watch;
use crate::source::{FromKafka, Source, ToKafka};
use crate::{Context, LoopConfig, Worker};

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
/// So many results are taken together.
const RESULTS: usize = 256;
/// Batches that share a task, at most; a task each would cost more than a short handler.
const SHARE: usize = 32;

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
    /// Cancelled when no work in flight is wanted any more; each partition of ours has a child of it in `contexts`.
    unwanted: CancellationToken,
    /// What the handlers of each partition of ours are told.
    contexts: BTreeMap<i32, Arc<Context>>,
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
        // Batches that begin together share a task, as long as no core is left without.
        let idle = self.tasks.saturating_sub(self.attempts.beginning.load(Ordering::Relaxed)).max(1);
        let share = work.len().div_ceil(idle).min(SHARE);
        let mut work = work.into_iter();
        while !work.as_slice().is_empty() {
            let share = work.by_ref().take(share).collect();
            self.attempts.beginning.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(self.attempts.clone().run_all(share, self.finished.clone()));
        }
    }

    fn work(&mut self, batch: Batch<Held>, alone: Option<Alone>) -> Work {
        let partition = batch.partition;
        let ctx = self.contexts.entry(partition).or_insert_with(|| {
            Arc::new(Context {
                cancel: self.unwanted.child_token(),
                ..Context::new(W::NAME, self.attempts.clock.clone(), partition)
            })
        });
        Work {
            ctx: ctx.clone(),
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
