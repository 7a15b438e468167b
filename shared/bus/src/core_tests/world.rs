//! A world that misbehaves: two processes share a topic, and messages, rebalances, crashes and refused commits come in
//! any order. A naive model beside it knows what must be true after every step.

use std::collections::BTreeMap;
use std::time::Duration;

use super::member::{Member, Said};
use crate::core::*;

pub(super) const PARTITIONS: i32 = 3;
pub(super) const MEMBERS: usize = 2;

/// What happens next. Indices are taken modulo what there is to choose from, so that every step means something.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A message is written, behind so many offsets that are no message: markers, or what compaction took away.
    Produce {
        partition: i32,
        key: u64,
        gap: i64,
    },
    /// Offsets that are no message come to lie at the end.
    Marker {
        partition: i32,
    },
    /// A thread polls so many messages; when that leads to the end, it says so.
    Fetch {
        member: usize,
        partition: i32,
        most: usize,
    },
    /// A loop takes so much of what its thread has said.
    Take {
        member: usize,
        most: usize,
    },
    Begin {
        member: usize,
        most: usize,
    },
    Finish {
        member: usize,
        which: usize,
        how: How,
    },
    Wake {
        member: usize,
        millis: u64,
    },
    Commit {
        member: usize,
        answer: Answer,
    },
    /// A partition is asked back and goes to this member, which may be the one that had it.
    Move {
        partition: i32,
        to: usize,
        waits: bool,
        answer: Answer,
    },
    /// The group goes on without this member, which learns of it later.
    Lose {
        member: usize,
    },
    Crash {
        member: usize,
    },
    /// Fetching was paused: ends are told again.
    Resume {
        member: usize,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Done,
    /// It failed before it had an effect, or after: the event was not acknowledged.
    Again {
        effect: bool,
        millis: u64,
    },
    Leave,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Answer {
    Accepted,
    Refused,
    /// The broker has the offsets, and the answer is lost.
    AcceptedUnheard,
}

#[derive(Default)]
pub(super) struct Log {
    /// Offset and key.
    messages: Vec<(i64, u64)>,
    end: i64,
    committed: i64,
    /// How often each message has had its effect.
    pub(super) effects: BTreeMap<i64, u32>,
}

impl Log {
    fn nothing_is_committed_before_its_effect(&self) {
        let lost = self
            .messages
            .iter()
            .find(|(o, _)| *o < self.committed && !self.effects.contains_key(o));
        assert!(lost.is_none(), "{lost:?} is lost: {} is committed", self.committed);
    }
}

pub(super) struct World {
    logs: BTreeMap<i32, Log>,
    owners: BTreeMap<i32, usize>,
    members: Vec<Member>,
}

impl World {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let mut world = Self {
            logs: (0..PARTITIONS).map(|p| (p, Log::default())).collect(),
            owners: BTreeMap::new(),
            members: (0..MEMBERS).map(|_| Member::new(now)).collect(),
        };
        (0..PARTITIONS).for_each(|p| world.assign(p, 0));
        world
    }

    fn assign(&mut self, partition: i32, to: usize) {
        self.owners.insert(partition, to);
        let member = &mut self.members[to];
        member.fetching.insert(partition, (self.logs[&partition].committed, false));
        member.said.push_back(Said::Assigned(partition));
    }

    /// A commit as the thread sends it: of what it owns. The broker refuses whoever is not the owner.
    fn commit(&mut self, member: usize, offsets: &[(i32, i64)], answer: Answer) -> Option<Vec<(i32, i64)>> {
        let fetching = &self.members[member].fetching;
        let sent: Vec<_> = offsets.iter().copied().filter(|(p, _)| fetching.contains_key(p)).collect();
        if answer == Answer::Refused || sent.iter().any(|(p, _)| self.owners[p] != member) {
            return None;
        }
        for (p, offset) in &sent {
            let log = self.logs.get_mut(p).unwrap();
            log.committed = *offset;
            log.nothing_is_committed_before_its_effect();
        }
        (answer == Answer::Accepted).then_some(sent)
    }

    fn fetch(&mut self, member: usize, partition: i32, most: usize) {
        let (log, member) = (&self.logs[&partition], &mut self.members[member]);
        let Some((position, told)) = member.fetching.get_mut(&partition) else {
            return;
        };
        for (offset, key) in log
            .messages
            .iter()
            .filter(|(o, _)| *o >= *position)
            .take(most)
            .copied()
            .collect::<Vec<_>>()
        {
            member.said.push_back(Said::Record(partition, offset, key));
            (*position, *told) = (offset + 1, false);
        }
        if !*told && !log.messages.iter().any(|(o, _)| *o >= *position) {
            (*position, *told) = (log.end, true);
            member.said.push_back(Said::End(partition, log.end));
        }
    }

    fn take_back(&mut self, partition: i32, waits: bool, answer: Answer) {
        let owner = self.owners[&partition];
        while self.members[owner].take() {}
        while waits && let Some(which) = self.members[owner].flying.iter().position(|(t, _)| t.partition == partition) {
            self.members[owner].finish(which, How::Done, &mut self.logs);
        }
        let offsets: Vec<_> = self.members[owner]
            .core
            .to_commit()
            .into_iter()
            .filter(|(p, _)| *p == partition)
            .collect();
        self.commit(owner, &offsets, answer);
        self.members[owner].give_up(partition);
        self.members[owner].fetching.remove(&partition);
    }

    /// Gives all partitions of a member to the other.
    fn pass_on(&mut self, member: usize) {
        for p in (0..PARTITIONS).filter(|p| self.owners[p] == member).collect::<Vec<_>>() {
            self.assign(p, (member + 1) % MEMBERS);
        }
    }

    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Produce { partition, key, gap } => {
                let log = self.logs.get_mut(&partition).unwrap();
                log.messages.push((log.end + gap, key));
                log.end += gap + 1;
                self.members
                    .iter_mut()
                    .filter_map(|m| m.fetching.get_mut(&partition))
                    .for_each(|(_, told)| *told = false);
            }
            Step::Marker { partition } => {
                self.logs.get_mut(&partition).unwrap().end += 1;
                self.members
                    .iter_mut()
                    .filter_map(|m| m.fetching.get_mut(&partition))
                    .for_each(|(_, told)| *told = false);
            }
            Step::Fetch { member, partition, most } => self.fetch(member, partition, most),
            Step::Take { member, most } => (0..most).for_each(|_| {
                self.members[member].take();
            }),
            Step::Begin { member, most } => {
                self.members[member].begin(most);
            }
            Step::Finish { member, which, how } => self.members[member].finish(which, how, &mut self.logs),
            Step::Wake { member, millis } => {
                let member = &mut self.members[member];
                member.now += Duration::from_millis(millis);
                member.core.wake(member.now);
            }
            Step::Commit { member, answer } if !self.members[member].commit_sent => {
                let offsets = self.members[member].core.to_commit();
                if !offsets.is_empty() {
                    let heard = self.commit(member, &offsets, answer);
                    self.members[member].commit_sent = true;
                    self.members[member].said.push_back(Said::Committed(heard));
                }
            }
            Step::Commit { .. } => {}
            Step::Move {
                partition,
                to,
                waits,
                answer,
            } => {
                self.take_back(partition, waits, answer);
                self.assign(partition, to);
            }
            Step::Lose { member } => {
                for (p, _) in std::mem::take(&mut self.members[member].fetching) {
                    self.members[member].said.push_back(Said::Lost(p));
                }
                self.pass_on(member);
            }
            Step::Crash { member } => {
                self.members[member] = Member::new(self.members[member].now);
                self.pass_on(member);
            }
            Step::Resume { member } => {
                let member = &mut self.members[member];
                member.fetching.values_mut().for_each(|(_, told)| *told = false);
                member.said.push_back(Said::FetchingAgain);
            }
        }
        self.members.iter().for_each(Member::check);
    }

    /// The weather clears: both go on with what they have, and end.
    pub(super) fn until_the_end(&mut self) {
        for member in 0..MEMBERS {
            // Whoever leaves work alone is about to give its partitions up.
            if self.members[member].left_something {
                self.step(Step::Crash { member });
            }
        }
        for round in 0.. {
            assert!(round < 10_000, "it does not come to an end");
            for member in 0..MEMBERS {
                (0..PARTITIONS).for_each(|p| self.fetch(member, p, usize::MAX));
                while self.members[member].take() {}
                self.step(Step::Wake { member, millis: 50 });
                while self.members[member].begin(3) {}
                while !self.members[member].flying.is_empty() {
                    self.members[member].finish(0, How::Done, &mut self.logs);
                }
                self.step(Step::Commit {
                    member,
                    answer: Answer::Accepted,
                });
            }
            let over = |m: &Member| m.core.is_drained() && m.core.to_commit().is_empty() && m.said.is_empty();
            if self.members.iter().all(over) {
                break;
            }
        }
        for (p, log) in &self.logs {
            assert!(
                log.messages.iter().all(|(o, _)| log.effects.contains_key(o)),
                "a message of {p} is lost"
            );
            assert_eq!(log.committed, log.end, "lag is left in {p}");
        }
    }
}
