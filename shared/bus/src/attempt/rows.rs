//! Batches that begin together: one after the other as long as no handler waits for anything, side by side from then on.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use runtime::telemetry::Subject;
use tokio::sync::mpsc::UnboundedSender;

use super::{Attempts, Finished, Work};
use crate::Worker;
use crate::core::Few;

/// What a task has before it, and behind it.
struct Desk(Mutex<Papers>);

struct Papers {
    coming: std::vec::IntoIter<Work>,
    finished: Vec<Finished>,
}

impl Desk {
    fn new(work: Vec<Work>) -> Self {
        let finished = Vec::with_capacity(work.len());
        Self(Mutex::new(Papers {
            coming: work.into_iter(),
            finished,
        }))
    }

    /// The next to begin, in exchange for what has become of the one before.
    fn next(&self, finished: impl IntoIterator<Item = Finished>) -> Option<Work> {
        let mut papers = self.papers();
        papers.finished.extend(finished);
        papers.coming.next()
    }

    fn is_begun(&self) -> bool {
        self.papers().coming.as_slice().is_empty()
    }

    fn take_finished(&self) -> Vec<Finished> {
        std::mem::take(&mut self.papers().finished)
    }

    /// Only one task ever locks it.
    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Worker> Attempts<W> {
    /// Handles batches; tells of those together that are ready together.
    pub async fn run_all(self: Arc<Self>, work: Vec<Work>, told: UnboundedSender<Vec<Finished>>) {
        let (together, desk) = (work.len(), Desk::new(work));
        let tell = || {
            let finished = desk.take_finished();
            if !finished.is_empty() {
                // When the loop has ended, nobody waits for the result, and the message stays uncommitted.
                drop(told.send(finished));
            }
        };
        let waiting = FuturesUnordered::new();
        while !desk.is_begun() {
            let mut row = Box::pin(self.one_by_one(&desk));
            if futures::poll!(row.as_mut()).is_pending() {
                waiting.push(row);
            }
        }
        self.beginning.fetch_sub(1, Ordering::Relaxed);
        tell();
        let mut ended = waiting.ready_chunks(together);
        while !ended.get_ref().is_empty() {
            let_others_run().await;
            ended.next().await;
            tell();
        }
    }

    /// Handles what nobody has begun yet. While a handler waits here, another row goes on with the next.
    async fn one_by_one(&self, desk: &Desk) {
        let (hand, subject) = (self.hands.hand(), Subject::default());
        let row = async {
            let mut finished = Few::new();
            while let Some(work) = desk.next(finished) {
                finished = if work.ctx.cancel.is_cancelled() {
                    work.batch.items.into_iter().map(|(ticket, _)| Finished::Leave(ticket)).collect()
                } else {
                    self.run(work, &hand, &subject).await
                };
            }
        };
        subject.of(row).await;
    }
}

/// Goes behind all that waits for a thread. The loop has been woken on this one, and no other can take it from here: a
/// handler that goes on and blocks must not hold it up. `yield_now` would keep this task from other threads as well.
async fn let_others_run() {
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::Ready(())
    })
    .await;
    futures::pending!();
}
