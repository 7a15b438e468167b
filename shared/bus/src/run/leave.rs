//! The end: the last commit, and out of the group.

use std::time::{Duration, Instant};

use runtime::Exit;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{debug, warn};

use super::{Commit, LAST_COMMIT, Loop, REPEAT};
use crate::Worker;
use crate::source::{FromKafka, Source, ToKafka};

/// How long leaving may take; the thread gives up before.
const CLOSED: Duration = Duration::from_secs(3);

impl<W: Worker> Loop<W> {
    /// Commits what is done and leaves the group. A commit that is not acknowledged changes a good end into 74.
    pub(super) async fn leave(&mut self, exit: Exit) -> anyhow::Result<Exit> {
        debug!("ending");
        self.process.health.set_ready(false);
        self.source.ask(ToKafka::Stop);
        let attempts = self.attempts.clone();
        let worked = exit == Exit::Drained && self.process.tally.done.get() > 0;
        let farewell = self.notes.change(self.watch.farewell());
        let last_word = async move {
            farewell.await;
            attempts.breaker.tell().await;
            if worked {
                attempts.breaker.forget_others().await;
            }
        };
        let (committed, ()) = tokio::join!(self.last_commit(), last_word);
        let exit = if committed || exit != Exit::Drained {
            exit
        } else {
            Exit::NotAcknowledged
        };
        debug!("committed");
        self.source.ask(ToKafka::Close);
        closed(&mut self.from_kafka).await;
        debug!("group left");
        self.meters.in_flight(self.core.in_flight());
        self.meters.behind(self.core.behind(Instant::now()));
        Ok(exit)
    }

    /// Whether everything that may be committed is.
    pub(super) async fn last_commit(&mut self) -> bool {
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

/// Leaves the group before anything was begun.
pub(super) async fn at_once(source: &Source, mut from_kafka: UnboundedReceiver<FromKafka>) {
    source.ask(ToKafka::Close);
    closed(&mut from_kafka).await;
}

/// Waits, in bounded time, until the thread has left the group.
async fn closed(from_kafka: &mut UnboundedReceiver<FromKafka>) {
    let closed = async {
        while let Some(event) = from_kafka.recv().await {
            match event {
                FromKafka::Closed => break,
                FromKafka::Revoked { reply, .. } => drop(reply.try_send(Vec::new())),
                _ => {}
            }
        }
    };
    if tokio::time::timeout(CLOSED, closed).await.is_err() {
        warn!("the group could not be left in time");
    }
}
