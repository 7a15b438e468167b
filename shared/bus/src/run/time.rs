//! What the passing of time leads to: retries, commits, and the reasons to end.

use std::time::{Duration, Instant};

use runtime::Exit;
use tracing::{error, info, warn};

use super::{ASSIGNMENT, BOOT, COMMIT_EVERY, Commit, HAND_OVER, LAST_COMMIT, Loop, Stopping};
use crate::source::ToKafka;
use crate::{GroupProtocol, Mode, Worker};

impl<W: Worker> Loop<W> {
    /// What the passing of time leads to.
    pub(super) fn step_time(&mut self, now: Instant) -> Option<Exit> {
        self.pulse.beat();
        self.core.wake(now);
        self.answer_revocation(now);
        if now >= self.commit_at {
            self.meters.behind(self.core.behind(now));
            self.look_for_the_stuck(now);
            self.send_commit(now);
        }
        if self.config.max_run.is_some_and(|max| now >= self.began + max) && self.stopping.is_none() {
            self.end_of_time();
        }
        match (self.stopping, self.unassigned_since) {
            (Some(stopping), _) => self.stopped(stopping, now),
            (None, Some(since)) => self.unassigned(since, now),
            (None, None) => self.drained(now),
        }
    }

    fn stopped(&self, Stopping { cancel_at, leave_at }: Stopping, now: Instant) -> Option<Exit> {
        if self.core.in_flight() == 0 {
            return Some(self.ending);
        }
        if now >= cancel_at {
            self.unwanted.cancel();
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

    fn unassigned(&mut self, since: Instant, now: Instant) -> Option<Exit> {
        if self.brokers_down && now >= since + BOOT {
            if self.waits_for_brokers() {
                // For so long librdkafka has not found them away again: they are back, and the group has to be, too.
                self.brokers_down = false;
                self.unassigned_since = Some(now);
                return None;
            }
            error!(
                brokers = self.config.kafka.brokers,
                "no broker can be reached: check KAFKA_BROKERS and the network"
            );
            return Some(Exit::Unavailable);
        }
        if self.brokers_down || now < since + ASSIGNMENT {
            return None;
        }
        if self.thrown_out && self.config.mode == Mode::Service {
            error!("the group has thrown this member out, and librdkafka does not find the way back: start it again");
            return Some(Exit::Unavailable);
        }
        match self.config.kafka.group_protocol {
            GroupProtocol::Classic => self.no_share(),
            // A member without a share hears nothing in this protocol, and neither does one whom nobody answers.
            GroupProtocol::Consumer => {
                self.source.ask(ToKafka::HasJoined);
                self.unassigned_since = Some(now);
                None
            }
        }
    }

    /// No broker can be reached now. A service that waits for them has its time to come back to the group from when they
    /// are there again.
    pub(super) fn wait_on(&mut self) {
        if self.waits_for_brokers() {
            self.unassigned_since = self.unassigned_since.map(|_| Instant::now());
        }
    }

    /// A service that was in its group before waits for brokers that are away, however long. When it does not trust them any
    /// more, a new process may: librdkafka reads the authority's certificate once.
    fn waits_for_brokers(&self) -> bool {
        self.config.mode == Mode::Service && self.has_joined && !self.untrusted
    }

    /// What it means that there are no partitions for us, now that it is known whether the group has answered.
    pub(super) fn take_answer(&mut self, joined: bool, now: Instant) -> Option<Exit> {
        if self.unassigned_since.is_none() || self.brokers_down {
            return None;
        }
        if joined {
            self.has_joined = true;
            self.unassigned_since = Some(now);
            return self.no_share();
        }
        error!(
            "the group does not answer: either the brokers are older than 4.0, then set KAFKA_GROUP_PROTOCOL=classic, or its coordinator is not well"
        );
        Some(Exit::Protocol)
    }

    fn no_share(&self) -> Option<Exit> {
        matches!(self.config.mode, Mode::Job { .. }).then(|| {
            info!("no partitions were assigned, nothing to do");
            Exit::Drained
        })
    }

    /// Whether there is nothing left to do, and for long enough.
    fn drained(&mut self, now: Instant) -> Option<Exit> {
        let Mode::Job { idle_exit } = self.config.mode else { return None };
        if !self.core.is_drained() || self.revoking.is_some() {
            self.drained_since = None;
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

    pub(super) fn next_wake(&self) -> Instant {
        let mut wake = self.commit_at;
        let mut sooner = |at: Option<Instant>| wake = at.map_or(wake, |at| wake.min(at));
        sooner(Some(self.repeat_at).filter(|at| *at > Instant::now()));
        sooner(self.core.next_wake());
        sooner(self.circuit.probe_at().filter(|at| *at > Instant::now()));
        sooner(self.revoking.as_ref().map(|r| r.until));
        sooner(
            self.stopping
                .map(|s| if self.unwanted.is_cancelled() { s.leave_at } else { s.cancel_at }),
        );
        sooner(self.config.max_run.filter(|_| self.stopping.is_none()).map(|max| self.began + max));
        if let (Mode::Job { idle_exit }, Some(since)) = (self.config.mode, self.drained_since) {
            sooner(Some(since + self.patience(idle_exit)));
        }
        wake
    }

    /// Where somebody died, what is done is committed at once: the less lies behind it, the fewer are the suspects.
    pub(super) fn commit_at_once(&mut self) {
        if self.watch.is_quiet() {
            return;
        }
        let now = Instant::now();
        if matches!(self.commit, Commit::Idle) && now >= self.repeat_at && !self.core.to_commit().is_empty() {
            self.send_commit(now);
        }
        if self.core.is_drained() {
            self.watch.drained();
        }
    }

    pub(super) fn send_commit(&mut self, now: Instant) {
        self.commit_at = now + COMMIT_EVERY;
        drop(self.attempts.breaker.tell());
        if matches!(self.commit, Commit::Sent(at) if now < at + LAST_COMMIT) {
            return;
        }
        let offsets = self.core.to_commit();
        if !offsets.is_empty() {
            self.commit = Commit::Sent(now);
            self.source.ask(ToKafka::Commit(offsets));
        }
    }
}
