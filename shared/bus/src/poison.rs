//! Messages that end the process: found from one process to the next, and given up after three deaths.
//!
//! A process leaves a note for each of its partitions, and takes it away when it goes in order. Who is given a
//! partition with somebody else's note in it knows of a death. What was in flight then is not known, only that it lay
//! within [`Watch::window`] of the group's committed offset, or soon will: from a death on no message is begun further
//! away. The suspects are run one at a time, with nothing else in flight, each noted before it is begun. Only a
//! message whose note names it is counted; it is dead-lettered at the third time.
//!
//! No I/O here: [`Watch`] says what to write, and is told what the ledger says.

mod choose;

use std::collections::{BTreeMap, BTreeSet};

use runtime::{Change, Entries};
use serde::{Deserialize, Serialize};
use tracing::warn;

pub(crate) use choose::Next;

/// So many deaths alone, and a message is dead-lettered.
pub(crate) const DEATHS: u32 = 3;

/// What a process says of one of its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
struct Note {
    /// What is in flight: anything of the partition, nothing of it, or one message and nothing else in the process.
    flight: Flight,
    suspects: Suspects,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Flight {
    Any,
    Nothing,
    Alone(i64),
}

/// Which messages of a partition may have ended a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Suspects {
    #[default]
    None,
    /// A window from the first that comes.
    First,
    Below(i64),
}

#[derive(Debug, Default)]
struct Watched {
    suspects: Suspects,
    /// Deaths at which a message was alone, by offset.
    deaths: BTreeMap<i64, u32>,
    /// Suspects in hand.
    held: BTreeSet<i64>,
    /// The first offset that came, then what is committed; messages are begun only within a window from here.
    reach_from: Option<i64>,
    /// A death is known of, and the partition has not been at its end since.
    guarded: bool,
}

/// Keeps watch over the partitions of one process.
#[derive(Debug)]
pub(crate) struct Watch {
    /// This process, in the ledger.
    me: String,
    window: i64,
    partitions: BTreeMap<i32, Watched>,
    /// The message that is alone in flight.
    alone: Option<(i32, i64)>,
    /// The notes say that nothing runs side by side.
    careful: bool,
    /// Whether there is anything to watch; without it a message costs one look at this.
    quiet: bool,
}

impl Watch {
    /// `window`: how many messages may be in flight at one time.
    pub fn new(me: String, window: usize) -> Self {
        Self {
            me,
            window: i64::try_from(window).unwrap_or(i64::MAX),
            partitions: BTreeMap::new(),
            alone: None,
            careful: false,
            quiet: true,
        }
    }

    /// Nobody has died here, as far as is known.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Partitions are ours: the notes to leave. The answer is for [`Watch::learn`].
    pub fn claim(&mut self, partitions: &[i32]) -> Vec<Change> {
        for p in partitions {
            self.partitions.insert(*p, Watched::default());
        }
        self.notes()
    }

    /// Partitions are not ours any more: the notes to take away.
    pub fn give_up(&mut self, partitions: &[i32]) -> Vec<Change> {
        for p in partitions {
            self.partitions.remove(p);
            if self.alone.is_some_and(|(alone, _)| alone == *p) {
                self.alone = None;
            }
        }
        self.look_around();
        partitions.iter().map(|p| Change::Remove(self.entry(*p))).collect()
    }

    /// The process goes in order, or was told to: all its notes are to be taken away.
    pub fn farewell(&self) -> Vec<Change> {
        self.partitions.keys().map(|p| Change::Remove(self.entry(*p))).collect()
    }

    /// What the ledger says of partitions that were claimed. The changes to make because of it.
    pub fn learn(&mut self, claimed: &[i32], said: &Entries) -> Vec<Change> {
        let mut changes = Vec::new();
        for p in claimed {
            let Some(watched) = self.partitions.get_mut(p) else { continue };
            for (entry, count) in said {
                if let Some((partition, offset)) = death(entry)
                    && partition == *p
                {
                    watched.deaths.insert(offset, count.parse().unwrap_or(0));
                }
            }
            let mut died = false;
            for (entry, note) in said {
                let Some((who, partition)) = note_of(entry).filter(|(who, _)| *who != self.me) else {
                    continue;
                };
                if partition != *p {
                    continue;
                }
                // A note that cannot be read is one all the same.
                let Note { flight, suspects } = serde_json::from_str(note).unwrap_or(Note {
                    flight: Flight::Any,
                    suspects: Suspects::None,
                });
                died = true;
                changes.push(Change::Remove(entry.clone()));
                watched.suspects = if flight == Flight::Any { Suspects::First } else { suspects };
                if let Flight::Alone(offset) = flight {
                    let deaths = watched.deaths.entry(offset).or_default();
                    *deaths += 1;
                    changes.push(Change::Add(entry_of_death(*p, offset), 1));
                }
                warn!(partition = p, process = who, ?flight, "a process has ended without a word");
            }
            watched.guarded = died || !watched.deaths.is_empty();
        }
        self.look_around();
        if !changes.is_empty() {
            changes.extend(self.notes());
        }
        changes
    }

    /// A message of a partition under watch has come. The changes to make because of it.
    pub fn record(&mut self, partition: i32, offset: i64) -> Vec<Change> {
        let window = self.window;
        let Some(watched) = self.partitions.get_mut(&partition).filter(|w| w.guarded) else {
            return Vec::new();
        };
        let mut changes = Vec::new();
        if watched.reach_from.is_none() {
            watched.reach_from = Some(offset);
            // What lies before has been done after all.
            let past = watched.deaths.extract_if(..offset, |_, _| true);
            changes.extend(past.map(|(offset, _)| Change::Remove(entry_of_death(partition, offset))));
        }
        if watched.suspects == Suspects::First {
            watched.suspects = Suspects::Below(offset.saturating_add(window));
        }
        let below = matches!(watched.suspects, Suspects::Below(below) if offset < below);
        if below || watched.deaths.contains_key(&offset) {
            watched.held.insert(offset);
        } else if watched.held.is_empty() {
            watched.suspects = Suspects::None;
        }
        changes
    }

    /// Whether a message has to be alone.
    fn is_suspect(&self, partition: i32, offset: i64) -> bool {
        self.partitions.get(&partition).is_some_and(|w| w.held.contains(&offset))
    }

    /// Whether a message may be begun beside others: at a death it will be among the suspects.
    fn is_within_reach(&self, partition: i32, offset: i64) -> bool {
        self.partitions.get(&partition).is_none_or(|w| {
            !w.guarded || (!w.held.contains(&offset) && w.reach_from.is_some_and(|from| offset < from.saturating_add(self.window)))
        })
    }

    /// Offsets are committed.
    pub fn committed(&mut self, offsets: &[(i32, i64)]) {
        for (partition, offset) in offsets {
            let reach = self.partitions.get_mut(partition).and_then(|w| w.reach_from.as_mut());
            if let Some(from) = reach {
                *from = (*from).max(*offset);
            }
        }
    }

    /// All partitions have been at their end, with everything done: whatever killed is not there any more.
    pub fn drained(&mut self) {
        for watched in self.partitions.values_mut() {
            watched.suspects = Suspects::None;
            watched.guarded = !watched.deaths.is_empty();
        }
        self.look_around();
    }

    fn holds_suspects(&self) -> bool {
        self.partitions.values().any(|w| !w.held.is_empty())
    }

    /// How often a message was alone at a death.
    fn deaths(&self, partition: i32, offset: i64) -> u32 {
        let deaths = self.partitions.get(&partition).and_then(|w| w.deaths.get(&offset));
        deaths.copied().unwrap_or(0)
    }

    /// A suspect is begun: what the notes must say before.
    fn begin_alone(&mut self, partition: i32, offset: i64) -> Vec<Change> {
        self.careful = true;
        self.alone = Some((partition, offset));
        self.notes()
    }

    /// Messages are begun side by side: what the notes must say now, when they did not.
    fn begin_beside(&mut self) -> Vec<Change> {
        if !self.careful {
            return Vec::new();
        }
        self.careful = false;
        self.notes()
    }

    /// A message has come back from its handler. The changes to make because of it.
    pub fn back(&mut self, partition: i32, offset: i64, came: Came) -> Vec<Change> {
        let mut changes = Vec::new();
        let deaths = self.deaths(partition, offset);
        if let Some(watched) = self.partitions.get_mut(&partition) {
            match came {
                Came::Done => {
                    watched.held.remove(&offset);
                    if watched.deaths.remove(&offset).is_some() {
                        changes.push(Change::Remove(entry_of_death(partition, offset)));
                    }
                }
                // Waiting for something that is away does not end processes, and all others would have to wait with it.
                Came::Unavailable if deaths < DEATHS => drop(watched.held.remove(&offset)),
                Came::Unavailable | Came::Failed => {}
            }
        }
        if self.alone == Some((partition, offset)) {
            self.alone = None;
            changes.extend(self.notes());
        }
        changes
    }

    fn look_around(&mut self) {
        self.quiet = self.partitions.values().all(|w| !w.guarded);
    }

    fn entry(&self, partition: i32) -> String {
        format!("{}/{partition}", self.me)
    }

    fn notes(&self) -> Vec<Change> {
        let note = |(p, watched): (&i32, &Watched)| {
            let flight = match self.alone {
                Some((partition, offset)) if partition == *p => Flight::Alone(offset),
                _ if self.careful => Flight::Nothing,
                _ => Flight::Any,
            };
            let note = Note {
                flight,
                suspects: watched.suspects,
            };
            // A note of these types can be written; were it empty, it would be one that cannot be read.
            Change::Put(self.entry(*p), serde_json::to_string(&note).unwrap_or_default())
        };
        self.partitions.iter().map(note).collect()
    }
}

/// How a message came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// Done or dead-lettered.
    Done,
    Unavailable,
    /// Will be tried again, or was left.
    Failed,
}

/// `process/partition`
fn note_of(entry: &str) -> Option<(&str, i32)> {
    let (who, partition) = entry.split_once('/')?;
    Some((who, partition.parse().ok()?))
}

fn entry_of_death(partition: i32, offset: i64) -> String {
    format!("{partition}@{offset}")
}

fn death(entry: &str) -> Option<(i32, i64)> {
    let (partition, offset) = entry.split_once('@')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

#[cfg(test)]
mod tests;
