//! One of the processes: its state under test, and beside it what it must know, kept without any cleverness.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::world::{How, Log};
use crate::core::*;

/// What a thread has said and its loop has not taken.
pub(super) enum Said {
    Assigned(i32),
    Lost(i32),
    Record(i32, i64, u64),
    End(i32, i64),
    FetchingAgain,
    Committed(Option<Vec<(i32, i64)>>),
}

/// What a loop must know of a partition, kept without any cleverness.
#[derive(Default)]
pub(super) struct Owned {
    received: BTreeMap<i64, u64>,
    done: BTreeSet<i64>,
    end: Option<i64>,
    told_committed: Option<i64>,
    again_at: BTreeMap<i64, Instant>,
    frontier: Option<i64>,
}

impl Owned {
    fn undone(&self) -> impl Iterator<Item = (&i64, &u64)> {
        self.received.iter().filter(|(o, _)| !self.done.contains(o))
    }

    /// What must be committed next: as far as everything is done, and not a message less, so that what comes again
    /// after this owner is only what could not be committed. It never goes back.
    fn look(&mut self) {
        let first_undone = self.undone().next().map(|(o, _)| *o);
        let done_before = |o: &&i64| first_undone.is_none_or(|first| **o < first);
        let behind = self.done.iter().take_while(done_before).last().map(|o| o + 1);
        let end = self.end.filter(|_| first_undone.is_none());
        self.frontier = self.frontier.max(behind).max(end);
    }
}

pub(super) struct Member {
    pub(super) core: Core<u64>,
    /// What the thread owns: where it fetches next, and whether it has told the end.
    pub(super) fetching: BTreeMap<i32, (i64, bool)>,
    pub(super) said: VecDeque<Said>,
    pub(super) owned: BTreeMap<i32, Owned>,
    pub(super) flying: Vec<(Ticket, Item<u64>)>,
    /// Work of partitions that are gone.
    pub(super) stray: Vec<Ticket>,
    pub(super) commit_sent: bool,
    pub(super) left_something: bool,
    pub(super) now: Instant,
}

impl Member {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            core: Core::new(),
            fetching: BTreeMap::new(),
            said: VecDeque::new(),
            owned: BTreeMap::new(),
            flying: Vec::new(),
            stray: Vec::new(),
            commit_sent: false,
            left_something: false,
            now,
        }
    }

    pub(super) fn give_up(&mut self, partition: i32) {
        self.core.revoke(partition);
        self.owned.remove(&partition);
        let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.flying)
            .into_iter()
            .partition(|(t, _)| t.partition == partition);
        self.stray.extend(gone.into_iter().map(|(t, _)| t));
        self.flying = stay;
    }

    pub(super) fn take(&mut self) -> bool {
        let Some(said) = self.said.pop_front() else { return false };
        match said {
            Said::Assigned(p) => {
                self.core.assign(p);
                self.owned.insert(p, Owned::default());
            }
            Said::Lost(p) => self.give_up(p),
            Said::Record(p, offset, key) => {
                assert_ne!(
                    self.core.record(p, offset, key, key),
                    Taken::NotOurs,
                    "a message of ours is not taken"
                );
                let owned = self.owned.get_mut(&p).unwrap();
                assert!(owned.received.insert(offset, key).is_none(), "the model itself delivers twice");
                owned.end = None;
            }
            Said::End(p, end) => {
                self.core.end_of_partition(p, end);
                self.owned.get_mut(&p).unwrap().end = Some(end);
            }
            Said::FetchingAgain => {
                self.core.fetching_again();
                self.owned.values_mut().for_each(|o| o.end = None);
            }
            Said::Committed(answer) => {
                self.commit_sent = false;
                for (p, offset) in answer.into_iter().flatten() {
                    self.core.committed(&[(p, offset)]);
                    if let Some(owned) = self.owned.get_mut(&p) {
                        owned.told_committed = owned.told_committed.max(Some(offset));
                    }
                }
            }
        }
        self.owned.values_mut().for_each(Owned::look);
        true
    }

    pub(super) fn begin(&mut self, most: usize) -> bool {
        let Some(batch) = self.core.next(most) else { return false };
        assert!((1..=most).contains(&batch.items.len()));
        let alone = batch.items.len() == 1;
        for (ticket, item) in batch.items {
            assert_eq!(ticket.partition, batch.partition);
            assert!(item.attempts == 0 || alone, "what has failed must not take its neighbours down");
            let owned = &self.owned[&ticket.partition];
            let first_of_key = owned.undone().find(|(_, key)| **key == item.record).map(|(o, _)| *o);
            assert_eq!(first_of_key, Some(item.offset), "order per key");
            let twice = self
                .flying
                .iter()
                .any(|(t, f)| t.partition == ticket.partition && f.offset == item.offset);
            assert!(!twice, "one message in two hands");
            assert!(
                owned.again_at.get(&item.offset).is_none_or(|at| *at <= self.now),
                "tried again too soon"
            );
            self.flying.push((ticket, item));
        }
        true
    }

    pub(super) fn finish(&mut self, which: usize, how: How, logs: &mut BTreeMap<i32, Log>) {
        // What finishes when its partition is gone changes nothing.
        if let Some(ticket) = self.stray.pop() {
            self.core.done(ticket);
        }
        if self.flying.is_empty() {
            return;
        }
        let (ticket, item) = self.flying.swap_remove(which % self.flying.len());
        let owned = self.owned.get_mut(&ticket.partition).unwrap();
        let effects = &mut logs.get_mut(&ticket.partition).unwrap().effects;
        match how {
            How::Done => {
                *effects.entry(item.offset).or_default() += 1;
                owned.done.insert(item.offset);
                owned.look();
                self.core.done(ticket);
            }
            How::Again { effect, millis } => {
                if effect {
                    *effects.entry(item.offset).or_default() += 1;
                }
                let at = self.now + Duration::from_millis(millis);
                owned.again_at.insert(item.offset, at);
                self.core.again(ticket, item, at);
            }
            How::Leave => {
                self.left_something = true;
                self.core.leave(ticket);
            }
        }
    }

    pub(super) fn check(&self) {
        assert_eq!(self.core.in_flight(), self.flying.len());
        let mut drained = true;
        let mut to_commit = Vec::new();
        for (p, owned) in &self.owned {
            let flying = self.flying.iter().filter(|(t, _)| t.partition == *p).count();
            assert_eq!(self.core.in_flight_of(&[*p]), flying);
            drained &= owned.end.is_some() && owned.undone().next().is_none();
            to_commit.extend(
                owned
                    .frontier
                    .filter(|f| owned.told_committed.is_none_or(|c| c < *f))
                    .map(|f| (*p, f)),
            );
        }
        assert_eq!(self.core.is_drained(), drained);
        assert_eq!(self.core.to_commit(), to_commit);
        assert_eq!(self.core.partitions(), self.owned.keys().copied().collect::<Vec<_>>());
    }
}
