//! The loop: from joining the group to the reason to end.

use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use runtime::{Exit, Process};
use tokio::sync::OnceCell;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::attempt::{Attempts, Finished, Held};
use crate::core::Core;
use crate::meters::Meters;
use crate::source::{FromKafka, REVOKE_WAIT, Source, ToKafka, Weighed};
use crate::{Clock, LoopConfig, Mode, Worker, worker};

/// How often what is done is committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How long the end of the process waits for its last commit.
const LAST_COMMIT: Duration = Duration::from_secs(3);
/// A job that has not been given partitions by then has nothing to do: there are more jobs than partitions. Longer
/// than the session timeout, within which a killed member still holds its partitions.
const ASSIGNMENT: Duration = Duration::from_secs(15);
/// How long brokers may be out of reach before the first assignment.
const BOOT: Duration = Duration::from_secs(20);
/// How long a member without partitions waits for some.
const HAND_OVER: Duration = Duration::from_secs(5);
/// A refused commit, or a look-up that failed, is repeated after this.
const REPEAT: Duration = Duration::from_millis(100);
/// Messages held per message in flight, before fetching pauses.
const HELD_PER_FLIGHT: usize = 16;

/// Consumes the worker's topic until there is nothing left (job), or until told to stop.
///
/// The group is joined first; `build`, which makes the worker and connects it to its stores, runs meanwhile.
///
/// # Errors
/// Those of `build`, and what keeps the loop from starting. Everything later is an [`Exit`].
pub async fn run<W, F>(process: &Process, config: &LoopConfig, build: F) -> anyhow::Result<Exit>
where
    W: Worker,
    F: Future<Output = anyhow::Result<W>>,
{
    run_with_clock(process, config, Clock::system(), build).await
}

/// As [`run`], with a clock of one's own: for tests in other years.
///
/// # Errors
/// As [`run`].
pub async fn run_with_clock<W, F>(process: &Process, config: &LoopConfig, clock: Clock, build: F) -> anyhow::Result<Exit>
where
    W: Worker,
    F: Future<Output = anyhow::Result<W>>,
{
    let (events, from_kafka) = mpsc::unbounded_channel();
    let max_held = config.max_in_flight.saturating_mul(HELD_PER_FLIGHT).max(W::BATCH * 2);
    let source = Source::start(&config.kafka, W::NAME, max_held, events).context("the Kafka consumer could not be made")?;
    let worker = tokio::select! {
        worker = build => worker?,
        () = process.stop.cancelled() => {
            source.ask(ToKafka::Close);
            return Ok(Exit::Drained);
        }
    };
    let meters = Meters::new(&process.metrics, &config.kafka.name(W::NAME));
    let attempts = Arc::new(Attempts {
        worker,
        kafka: config.kafka.clone(),
        retry: config.retry,
        clock,
        source: worker::source(W::NAME),
        signature: format!("{}@{}", W::NAME, process.service.version),
        producer: OnceCell::new(),
        meters: meters.clone(),
    });
    let (finished, results) = mpsc::unbounded_channel();
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
        epoch: CancellationToken::new(),
        revoking: None,
        assigned: false,
        commit: Commit::Idle,
        commit_at: now + COMMIT_EVERY,
        asked_starts: false,
        repeat_at: now,
        brokers_down: false,
        drained_since: None,
        began: now,
        stopping: None,
        first: true,
        count: Count::default(),
    };
    process.health.set_ready(true);
    let exit = the_loop.until_the_end().await;
    the_loop.leave(exit).await
}

#[derive(Default)]
struct Count {
    received: u64,
    done: u64,
    retried: u64,
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
    /// Cancelled when work in flight is not wanted any more.
    epoch: CancellationToken,
    revoking: Option<Revoking>,
    /// Whether the group has given us partitions, or none, at least once.
    assigned: bool,
    commit: Commit,
    commit_at: Instant,
    /// Whether the starts of untouched partitions have been asked for.
    asked_starts: bool,
    /// Nothing is repeated before this.
    repeat_at: Instant,
    /// No broker could be reached when last heard of.
    brokers_down: bool,
    drained_since: Option<Instant>,
    began: Instant,
    /// Since when nothing new is begun, and when what is in flight is cancelled.
    stopping: Option<Stopping>,
    first: bool,
    count: Count,
}

#[derive(Clone, Copy)]
struct Stopping {
    cancel_at: Instant,
    leave_at: Instant,
}

impl<W: Worker> Loop<W> {
    async fn until_the_end(&mut self) -> Exit {
        loop {
            if let Some(exit) = self.step_time(Instant::now()) {
                return exit;
            }
            self.dispatch();
            let wake = tokio::time::Instant::from_std(self.next_wake());
            let stopping = self.stopping.is_some();
            tokio::select! {
                biased;
                Some(finished) = self.results.recv() => self.take_results(finished),
                event = self.from_kafka.recv() => match event {
                    Some(event) => if let Some(exit) = self.take_event(event) { return exit; },
                    None => return Exit::Internal,
                },
                () = self.process.stop.cancelled(), if !stopping => self.stop("told to stop"),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Begins to end: nothing new, what is in flight may finish within most of the grace period.
    fn stop(&mut self, why: &'static str) {
        info!(why, in_flight = self.core.in_flight(), "taking nothing new");
        self.process.health.set_ready(false);
        self.source.ask(ToKafka::Stop);
        let grace = self.process.grace;
        let now = Instant::now();
        self.stopping = Some(Stopping {
            cancel_at: now + grace.mul_f64(0.6),
            leave_at: now + grace.mul_f64(0.75),
        });
    }

    /// What the passing of time leads to.
    fn step_time(&mut self, now: Instant) -> Option<Exit> {
        self.core.wake(now);
        self.answer_revocation(now);
        if now >= self.commit_at {
            self.send_commit(now);
        }
        if self.config.max_run.is_some_and(|max| now >= self.began + max) && self.stopping.is_none() {
            self.stop("the maximum run time is over");
        }
        match self.stopping {
            Some(stopping) => self.stopped(stopping, now),
            None if !self.assigned => self.unassigned(now),
            None => self.drained(now),
        }
    }

    fn stopped(&self, Stopping { cancel_at, leave_at }: Stopping, now: Instant) -> Option<Exit> {
        if self.core.in_flight() == 0 {
            return Some(Exit::Drained);
        }
        if now >= cancel_at {
            self.epoch.cancel();
        }
        if now >= leave_at {
            warn!(
                in_flight = self.core.in_flight(),
                "work in flight did not finish in time, it will be done again"
            );
            return Some(Exit::GraceExpired);
        }
        None
    }

    fn unassigned(&self, now: Instant) -> Option<Exit> {
        if self.brokers_down && now >= self.began + BOOT {
            error!(
                brokers = self.config.kafka.brokers,
                "no broker can be reached: check KAFKA_BROKERS and the network"
            );
            return Some(Exit::Unavailable);
        }
        let job = matches!(self.config.mode, Mode::Job { .. });
        if job && !self.brokers_down && now >= self.began + ASSIGNMENT {
            info!("no partitions were assigned, nothing to do");
            return Some(Exit::Drained);
        }
        None
    }

    /// Whether there is nothing left to do, and for long enough.
    fn drained(&mut self, now: Instant) -> Option<Exit> {
        let Mode::Job { idle_exit } = self.config.mode else { return None };
        if !self.core.is_drained() || self.revoking.is_some() {
            self.drained_since = None;
            return None;
        }
        let unknown = self.core.unknown();
        if !unknown.is_empty() {
            if !self.asked_starts && now >= self.repeat_at {
                self.asked_starts = true;
                self.source.ask(ToKafka::LookUpStarts(unknown));
            }
            return None;
        }
        if !self.core.to_commit().is_empty() {
            if now >= self.repeat_at {
                self.send_commit(now);
            }
            return None;
        }
        let since = *self.drained_since.get_or_insert(now);
        (now >= since + self.patience(idle_exit)).then_some(Exit::Drained)
    }

    /// How long there must be nothing to do. A member that joins a busy group is given none at first, and its share
    /// once the others have let go of it.
    fn patience(&self, idle_exit: Duration) -> Duration {
        if self.core.partitions().is_empty() {
            idle_exit.max(HAND_OVER)
        } else {
            idle_exit
        }
    }

    fn next_wake(&self) -> Instant {
        let mut wake = self.commit_at;
        let mut sooner = |at: Option<Instant>| wake = at.map_or(wake, |at| wake.min(at));
        sooner(Some(self.repeat_at).filter(|at| *at > Instant::now()));
        sooner(self.core.next_wake());
        sooner(self.revoking.as_ref().map(|r| r.until));
        sooner(
            self.stopping
                .map(|s| if self.epoch.is_cancelled() { s.leave_at } else { s.cancel_at }),
        );
        sooner(self.config.max_run.filter(|_| self.stopping.is_none()).map(|max| self.began + max));
        if let (Mode::Job { idle_exit }, Some(since)) = (self.config.mode, self.drained_since) {
            sooner(Some(since + self.patience(idle_exit)));
        }
        wake
    }

    fn dispatch(&mut self) {
        if self.stopping.is_some() || self.revoking.is_some() {
            return;
        }
        while self.core.in_flight() < self.config.max_in_flight {
            let room = (self.config.max_in_flight - self.core.in_flight()).min(W::BATCH);
            let Some(batch) = self.core.next(room) else { break };
            if self.first {
                self.first = false;
                self.meters.cold_start(self.process.started.elapsed());
            }
            let (attempts, finished, cancel) = (self.attempts.clone(), self.finished.clone(), self.epoch.child_token());
            tokio::spawn(async move {
                let results = attempts.run(batch, cancel).await;
                // The loop has ended: nobody waits for the result, and the message stays uncommitted.
                drop(finished.send(results));
            });
        }
        self.meters.in_flight(self.core.in_flight());
    }

    fn take_results(&mut self, results: Vec<Finished>) {
        for result in results {
            match result {
                Finished::Done(ticket) => {
                    self.count.done += 1;
                    self.core.done(ticket);
                }
                Finished::Again(ticket, item, at) => {
                    self.count.retried += 1;
                    self.core.again(ticket, item, at);
                }
                Finished::Leave(ticket) => self.core.leave(ticket),
            }
        }
    }

    fn take_event(&mut self, event: FromKafka) -> Option<Exit> {
        match event {
            FromKafka::Record(weighed) => self.take_record(weighed),
            FromKafka::EndOfPartition { partition, position } => {
                self.asked_starts = false;
                self.core.end_of_partition(partition, position);
            }
            FromKafka::Assigned(partitions) => {
                debug!(?partitions, "partitions assigned");
                self.meters.rebalance("assigned");
                self.assigned = true;
                self.brokers_down = false;
                self.asked_starts = false;
                partitions.into_iter().for_each(|p| self.core.assign(p));
            }
            FromKafka::Revoked { partitions, reply } => {
                debug!(?partitions, "partitions revoked");
                self.meters.rebalance("revoked");
                // Handlers that wait for something far away should not: the next owner will.
                self.epoch.cancel();
                self.revoking = Some(Revoking {
                    partitions,
                    reply,
                    until: Instant::now() + REVOKE_WAIT,
                });
            }
            FromKafka::Lost(partitions) => {
                warn!(?partitions, "partitions lost without being asked");
                self.meters.rebalance("lost");
                self.epoch.cancel();
                self.epoch = CancellationToken::new();
                partitions.into_iter().for_each(|p| {
                    self.core.revoke(p);
                });
            }
            FromKafka::Committed(result) => self.take_commit(result),
            FromKafka::Starts { start, committed } => {
                self.core.committed(&committed);
                start
                    .into_iter()
                    .for_each(|(partition, offset)| self.core.start_at(partition, offset));
                self.asked_starts = false;
                self.repeat_at = Instant::now() + REPEAT;
            }
            FromKafka::FetchingAgain => self.core.fetching_again(),
            FromKafka::Error(e) => return self.take_error(&e),
            FromKafka::Closed => return Some(Exit::Internal),
        }
        None
    }

    fn take_record(&mut self, weighed: Weighed) {
        self.count.received += 1;
        self.meters.consumed(1);
        let message = &weighed.message;
        // A message without a key waits for nobody: its offset is its lane.
        let lane = message
            .key()
            .map_or_else(|| self.hasher.hash_one(message.offset()), |key| self.hasher.hash_one(key));
        let (partition, offset) = (message.partition(), message.offset());
        self.core.record(
            partition,
            offset,
            lane,
            Held {
                weighed,
                first_failure: None,
            },
        );
    }

    /// Answers the thread that waits in the rebalance callback, once nothing is in flight or the time is up.
    fn answer_revocation(&mut self, now: Instant) {
        let Some(revoking) = self
            .revoking
            .take_if(|r| now >= r.until || self.core.in_flight_of(&r.partitions) == 0)
        else {
            return;
        };
        let offsets = self
            .core
            .to_commit()
            .into_iter()
            .filter(|(p, _)| revoking.partitions.contains(p))
            .collect();
        revoking.partitions.iter().for_each(|p| {
            self.core.revoke(*p);
        });
        // The thread may have waited long enough and gone on.
        drop(revoking.reply.try_send(offsets));
        self.epoch = CancellationToken::new();
    }

    fn send_commit(&mut self, now: Instant) {
        self.commit_at = now + COMMIT_EVERY;
        if matches!(self.commit, Commit::Sent(at) if now < at + LAST_COMMIT) {
            return;
        }
        let offsets = self.core.to_commit();
        if !offsets.is_empty() {
            self.commit = Commit::Sent(now);
            self.source.ask(ToKafka::Commit(offsets));
        }
    }

    fn take_commit(&mut self, result: Result<Vec<(i32, i64)>, RDKafkaErrorCode>) {
        self.commit = Commit::Idle;
        match result {
            Ok(offsets) => {
                self.meters.commit("ok");
                self.core.committed(&offsets);
            }
            Err(code) => {
                // Who owns what is about to change, or the coordinator moves: the next commit tells.
                self.meters.commit("refused");
                self.repeat_at = Instant::now() + REPEAT;
                debug!(error = %code, "a commit was refused, it will be repeated");
            }
        }
    }

    fn take_error(&mut self, e: &KafkaError) -> Option<Exit> {
        let code = e.rdkafka_error_code();
        match code {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                error!(
                    topic = self.config.kafka.name(W::NAME),
                    "the topic does not exist: run `scalers topics apply`"
                );
                Some(Exit::Config)
            }
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::Authentication,
            ) => {
                error!(error = %e, "the broker refuses us: check KAFKA_SASL_USERNAME, its password and its ACLs");
                Some(Exit::NotAuthorised)
            }
            Some(RDKafkaErrorCode::UnsupportedVersion | RDKafkaErrorCode::UnsupportedFeature | RDKafkaErrorCode::FencedInstanceId) => {
                error!(error = %e, "the broker does not speak this group protocol: check KAFKA_GROUP_PROTOCOL");
                Some(Exit::Protocol)
            }
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                self.brokers_down = true;
                warn!("no broker can be reached, waiting");
                None
            }
            _ if matches!(e, KafkaError::MessageConsumptionFatal(_)) => {
                error!(error = %e, "the consumer cannot go on");
                Some(Exit::Internal)
            }
            _ => {
                warn!(error = %e, "kafka reported an error, going on");
                None
            }
        }
    }

    /// Commits what is done and leaves the group. A commit that is not acknowledged changes a good end into 74.
    async fn leave(&mut self, exit: Exit) -> anyhow::Result<Exit> {
        self.process.health.set_ready(false);
        self.source.ask(ToKafka::Stop);
        let exit = if self.last_commit().await || exit != Exit::Drained {
            exit
        } else {
            Exit::NotAcknowledged
        };
        self.source.ask(ToKafka::Close);
        let closed = async {
            while let Some(event) = self.from_kafka.recv().await {
                match event {
                    FromKafka::Closed => break,
                    FromKafka::Revoked { reply, .. } => drop(reply.try_send(Vec::new())),
                    _ => {}
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(3), closed).await.is_err() {
            warn!("the group could not be left in time");
        }
        info!(
            messages.received = self.count.received,
            messages.done = self.count.done,
            messages.retried = self.count.retried,
            partitions = self.core.partitions().len(),
            "loop ended"
        );
        Ok(exit)
    }

    /// Whether everything that may be committed is.
    async fn last_commit(&mut self) -> bool {
        let deadline = tokio::time::Instant::now() + LAST_COMMIT;
        loop {
            if self.core.to_commit().is_empty() {
                return true;
            }
            if matches!(self.commit, Commit::Idle) {
                self.send_commit(Instant::now());
            }
            let event = tokio::time::timeout_at(deadline, self.from_kafka.recv()).await;
            match event {
                Ok(Some(FromKafka::Committed(result))) => {
                    let refused = result.is_err();
                    self.take_commit(result);
                    if refused && tokio::time::timeout_at(deadline, tokio::time::sleep(REPEAT)).await.is_err() {
                        return false;
                    }
                }
                Ok(Some(FromKafka::Revoked { partitions, reply })) => {
                    let offsets = self.core.to_commit().into_iter().filter(|(p, _)| partitions.contains(p)).collect();
                    partitions.iter().for_each(|p| {
                        self.core.revoke(*p);
                    });
                    drop(reply.try_send(offsets));
                }
                Ok(Some(FromKafka::Lost(partitions))) => partitions.iter().for_each(|p| {
                    self.core.revoke(*p);
                }),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    warn!(offsets = ?self.core.to_commit(), "the last commit was not acknowledged");
                    return false;
                }
            }
        }
    }
}
