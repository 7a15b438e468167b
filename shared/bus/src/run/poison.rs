//! Keeping watch over messages that end the process: what the loop does about it.

use runtime::{Change, Entries};

use super::{Loop, Work};
use crate::Worker;
use crate::attempt::{Alone, Finished};
use crate::poison::{Came, Next};

/// What the ledger says of partitions that were claimed; nothing when it does not answer.
pub(super) type Claimed = (Vec<i32>, Option<Entries>);

impl<W: Worker> Loop<W> {
    /// Leaves notes in partitions that are ours from now on, and asks whether somebody died there. Nothing is begun
    /// before the answer, which is there before the first message.
    pub(super) fn claim(&mut self, partitions: Vec<i32>) {
        if partitions.is_empty() || self.stopping.is_some() {
            return;
        }
        self.claims += 1;
        let answer = self.notes.change(self.watch.claim(&partitions));
        let claimed = self.say_claimed.clone();
        tokio::spawn(async move {
            // The loop may have ended.
            drop(claimed.send((partitions, answer.await)));
        });
    }

    pub(super) fn take_claimed(&mut self, (partitions, said): Claimed) {
        self.claims -= 1;
        let changes = self.watch.learn(&partitions, &said.unwrap_or_default());
        self.note(changes);
        for partition in partitions {
            for offset in self.core.unfinished(partition) {
                self.watch_record(partition, offset);
            }
        }
    }

    pub(super) fn watch_record(&mut self, partition: i32, offset: i64) {
        if !self.watch.is_quiet() {
            let changes = self.watch.record(partition, offset);
            self.note(changes);
        }
    }

    /// The next to begin where somebody died.
    pub(super) fn next_watched(&mut self, room: usize) -> Option<Work> {
        match self.watch.next(&mut self.core, room)? {
            Next::Beside { batch, notes } => {
                self.note(notes);
                Some(self.work(batch, None))
            }
            Next::Alone { batch, deaths, notes } => {
                let alone = Alone {
                    deaths,
                    book: self.notes.clone(),
                    notes,
                };
                Some(self.work(batch, Some(alone)))
            }
        }
    }

    pub(super) fn watch_finished(&mut self, finished: &Finished) {
        if self.watch.is_quiet() {
            return;
        }
        let (ticket, came) = match finished {
            Finished::Done(ticket) | Finished::Buried(ticket) => (ticket, Came::Done),
            Finished::Again {
                ticket, unavailable: true, ..
            } => (ticket, Came::Unavailable),
            Finished::Again { ticket, .. } | Finished::Leave(ticket) | Finished::Refused(ticket) | Finished::Unwritten(ticket) => {
                (ticket, Came::Failed)
            }
        };
        let changes = self.watch.back(ticket.partition, ticket.offset, came);
        self.note(changes);
    }

    /// Partitions are not ours any more.
    pub(super) fn unwatch(&mut self, partitions: &[i32]) {
        let changes = self.watch.give_up(partitions);
        self.note(changes);
    }

    /// Writes to the ledger; nobody waits for it.
    pub(super) fn note(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            drop(self.notes.change(changes));
        }
    }
}
