//! The loop's state, without any I/O: which messages are held, which may be handled next, what may be committed.
//!
//! A lane is one key of one partition. A lane hands out one message at a time, so order per key holds; lanes do not
//! wait for each other. Offsets are committed as a contiguous frontier: a slow message holds the commit, not its
//! neighbours. Every assignment of a partition has an epoch, and what finishes under an old one is ignored.

mod careful;
mod ring;

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

use ring::Ring;
use smallvec::SmallVec;

use crate::meters::Behind;

/// Most batches are one message, and make do without memory of their own.
pub(crate) type Few<T> = SmallVec<[T; 1]>;

/// A message in the loop's hands.
#[derive(Debug)]
pub(crate) struct Item<R> {
    pub offset: i64,
    /// How often it has been tried.
    pub attempts: u32,
    /// Its place in the ring of its partition.
    seq: u64,
    pub record: R,
}

/// What the loop's state makes of a message that has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken<'c, R> {
    /// It may be handled next.
    Ready,
    /// It waits for another of its key.
    Waits(&'c mut R),
    /// Its partition is somebody else's; it is not held.
    NotOurs,
}

/// Where a message in flight belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub partition: i32,
    pub offset: i64,
    epoch: u64,
    lane: u64,
    seq: u64,
}

impl Ticket {
    fn of<R>(partition: i32, epoch: u64, lane: u64, item: &Item<R>) -> Self {
        Self {
            partition,
            offset: item.offset,
            epoch,
            lane,
            seq: item.seq,
        }
    }
}

/// Messages of one partition and different keys, to be handled together.
#[derive(Debug)]
pub(crate) struct Batch<R> {
    pub partition: i32,
    pub items: Few<(Ticket, Item<R>)>,
}

struct Partition<R> {
    epoch: u64,
    ring: Ring,
    /// What waits behind the first message of each lane. That one is ready, in flight, or waits for its next attempt,
    /// in which case it is the first here.
    lanes: HashMap<u64, VecDeque<Item<R>>, BuildHasherDefault<LaneHasher>>,
    /// The lanes whose first message may be handled, with it.
    ready: VecDeque<(u64, Item<R>)>,
    in_flight: usize,
    /// Where it ends, when all up to there has come and nothing since.
    end: Option<i64>,
    /// What may be committed next; `None` until something is known.
    frontier: Option<i64>,
    /// What is known to be committed.
    committed: Option<i64>,
    /// The ring's first entry when it was last looked at, and since when it is that one.
    head: Option<(u64, Instant)>,
}

impl<R> Partition<R> {
    /// With everything done, what lies between the last message and the end is no message: transaction markers, or what
    /// compaction took away. It is committed too, else it is lag for ever.
    fn step_over_the_gap_at_the_end(&mut self) {
        if self.ring.is_empty() {
            self.frontier = self.frontier.max(self.end);
        }
    }
}

/// What the loop knows.
pub(crate) struct Core<R> {
    partitions: BTreeMap<i32, Partition<R>>,
    /// Partitions with a lane that is ready, in turn.
    turn: VecDeque<i32>,
    /// Lanes that wait for their next attempt.
    retries: BinaryHeap<Reverse<(Instant, i32, u64, u64)>>,
    epochs: u64,
    in_flight: usize,
}

impl<R> Core<R> {
    pub fn new() -> Self {
        Self {
            partitions: BTreeMap::new(),
            turn: VecDeque::new(),
            retries: BinaryHeap::new(),
            epochs: 0,
            in_flight: 0,
        }
    }

    /// A partition is ours from now on.
    pub fn assign(&mut self, partition: i32) {
        self.epochs += 1;
        let fresh = Partition {
            epoch: self.epochs,
            ring: Ring::default(),
            lanes: HashMap::default(),
            ready: VecDeque::new(),
            in_flight: 0,
            end: None,
            frontier: None,
            committed: None,
            head: None,
        };
        if let Some(old) = self.partitions.insert(partition, fresh) {
            self.in_flight -= old.in_flight;
        }
    }

    /// A partition is not ours any more: everything that is known of it is dropped, and how many messages that were.
    pub fn revoke(&mut self, partition: i32) -> usize {
        self.turn.retain(|p| *p != partition);
        self.partitions.remove(&partition).map_or(0, |old| {
            self.in_flight -= old.in_flight;
            old.ring.len()
        })
    }

    /// Takes a message that the broker delivered.
    pub fn record(&mut self, partition: i32, offset: i64, lane: u64, record: R) -> Taken<'_, R> {
        let Some(p) = self.partitions.get_mut(&partition) else {
            return Taken::NotOurs;
        };
        p.end = None;
        let item = Item {
            offset,
            attempts: 0,
            seq: p.ring.push(offset),
            record,
        };
        match p.lanes.entry(lane) {
            Entry::Occupied(taken) => {
                let waiting = taken.into_mut();
                waiting.push_back(item);
                waiting.back_mut().map_or(Taken::Ready, |item| Taken::Waits(&mut item.record))
            }
            Entry::Vacant(free) => {
                free.insert(VecDeque::new());
                Self::make_ready(&mut self.turn, partition, &mut p.ready, lane, item);
                Taken::Ready
            }
        }
    }

    /// The broker has delivered all of this partition up to `end`, and has nothing more.
    pub fn end_of_partition(&mut self, partition: i32, end: i64) {
        if let Some(p) = self.partitions.get_mut(&partition) {
            p.end = Some(end);
            p.step_over_the_gap_at_the_end();
        }
    }

    /// Fetching was paused and goes on: whether a partition is at its end is not known any more.
    pub fn fetching_again(&mut self) {
        for p in self.partitions.values_mut() {
            p.end = None;
        }
    }

    /// The messages to handle next: of one partition, of different keys, at most `most`. A message that has failed
    /// before comes alone, so that it cannot take its neighbours down again.
    pub fn next(&mut self, most: usize) -> Option<Batch<R>> {
        let partition = self.turn.pop_front()?;
        let p = self.partitions.get_mut(&partition)?;
        let mut items = Few::<(Ticket, Item<R>)>::with_capacity(most.min(p.ready.len()));
        while items.len() < most {
            let alone = p.ready.front().is_some_and(|(_, item)| item.attempts > 0);
            if alone && !items.is_empty() {
                break;
            }
            let Some((lane, item)) = p.ready.pop_front() else { break };
            let ticket = Ticket::of(partition, p.epoch, lane, &item);
            items.push((ticket, item));
            if alone {
                break;
            }
        }
        p.in_flight += items.len();
        self.in_flight += items.len();
        if !p.ready.is_empty() {
            self.turn.push_back(partition);
        }
        (!items.is_empty()).then_some(Batch { partition, items })
    }

    /// A message is done: its effect is durable and its events are acknowledged.
    pub fn done(&mut self, ticket: Ticket) {
        let Some(p) = self.partitions.get_mut(&ticket.partition).filter(|p| p.epoch == ticket.epoch) else {
            return;
        };
        p.in_flight -= 1;
        if let Some(frontier) = p.ring.done(ticket.seq) {
            p.frontier = Some(frontier);
            p.step_over_the_gap_at_the_end();
        }
        self.in_flight -= 1;
        // Its key is free for the next.
        let Entry::Occupied(mut lane) = p.lanes.entry(ticket.lane) else {
            return;
        };
        match lane.get_mut().pop_front() {
            Some(next) => Self::make_ready(&mut self.turn, ticket.partition, &mut p.ready, ticket.lane, next),
            None => drop(lane.remove()),
        }
    }

    /// A message will be tried again at `at`. Its key waits until then.
    pub fn again(&mut self, ticket: Ticket, mut item: Item<R>, at: Instant) {
        let Some(p) = self.current(ticket) else { return };
        p.in_flight -= 1;
        item.attempts = item.attempts.saturating_add(1);
        if let Some(lane) = p.lanes.get_mut(&ticket.lane) {
            lane.push_front(item);
        }
        self.in_flight -= 1;
        self.retries.push(Reverse((at, ticket.partition, ticket.epoch, ticket.lane)));
    }

    /// A message was not handled and will not be, here: it stays uncommitted, and so does all behind it of its key.
    pub fn leave(&mut self, ticket: Ticket) {
        if let Some(p) = self.current(ticket) {
            p.in_flight -= 1;
            self.in_flight -= 1;
        }
    }

    /// Frees the lanes whose next attempt is due.
    pub fn wake(&mut self, now: Instant) {
        while let Some(&Reverse((at, partition, epoch, lane))) = self.retries.peek() {
            if at > now {
                break;
            }
            self.retries.pop();
            if let Some(p) = self.partitions.get_mut(&partition).filter(|p| p.epoch == epoch)
                && let Some(item) = p.lanes.get_mut(&lane).and_then(VecDeque::pop_front)
            {
                Self::make_ready(&mut self.turn, partition, &mut p.ready, lane, item);
            }
        }
    }

    /// When [`Core::wake`] has something to do next.
    pub fn next_wake(&self) -> Option<Instant> {
        self.retries.peek().map(|Reverse((at, ..))| *at)
    }

    /// Messages in a handler's hands.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Messages in a handler's hands of these partitions.
    pub fn in_flight_of(&self, partitions: &[i32]) -> usize {
        partitions.iter().filter_map(|p| self.partitions.get(p)).map(|p| p.in_flight).sum()
    }

    /// What may be committed and is not: partition and the offset of the next message to handle.
    pub fn to_commit(&self) -> Vec<(i32, i64)> {
        let behind = |p: &Partition<R>| p.frontier.filter(|frontier| p.committed.is_none_or(|c| c < *frontier));
        self.partitions
            .iter()
            .filter_map(|(id, p)| behind(p).map(|frontier| (*id, frontier)))
            .collect()
    }

    /// The broker has these offsets now. The last answer counts: librdkafka repeats a commit that was lost on the way,
    /// which may then land behind a newer one and take the group back. The newer one is due again in that case.
    pub fn committed(&mut self, offsets: &[(i32, i64)]) {
        for (partition, offset) in offsets {
            if let Some(p) = self.partitions.get_mut(partition) {
                p.committed = Some(*offset);
            }
        }
    }

    /// What may not be committed yet. The age of the oldest is as exact as the calls are frequent: a message pays
    /// nothing for it.
    pub fn behind(&mut self, now: Instant) -> Behind {
        let mut behind = Behind::default();
        for p in self.partitions.values_mut().filter(|p| !p.ring.is_empty()) {
            let first = p.ring.first();
            let (_, since) = *p.head.insert(p.head.filter(|(seq, _)| *seq == first).unwrap_or((first, now)));
            behind.messages += p.ring.len() as u64;
            behind.oldest = Some(behind.oldest.map_or(since, |oldest| oldest.min(since)));
        }
        behind
    }

    /// Whether every partition is at its end and everything is handled. What is left is to commit.
    pub fn is_drained(&self) -> bool {
        self.partitions.values().all(|p| p.end.is_some() && p.ring.is_empty())
    }

    pub fn partitions(&self) -> Vec<i32> {
        self.partitions.keys().copied().collect()
    }

    fn current(&mut self, ticket: Ticket) -> Option<&mut Partition<R>> {
        self.partitions.get_mut(&ticket.partition).filter(|p| p.epoch == ticket.epoch)
    }

    fn make_ready(turn: &mut VecDeque<i32>, partition: i32, ready: &mut VecDeque<(u64, Item<R>)>, lane: u64, item: Item<R>) {
        if ready.is_empty() {
            turn.push_back(partition);
        }
        ready.push_back((lane, item));
    }
}

/// A lane's number is the hash of its key already.
#[derive(Default)]
struct LaneHasher(u64);

impl Hasher for LaneHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, lane: u64) {
        self.0 = lane;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

#[cfg(test)]
#[path = "core_tests/mod.rs"]
mod tests;
