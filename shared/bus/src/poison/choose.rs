//! What is begun next in partitions under watch.

use runtime::Change;

use super::Watch;
use crate::core::{Batch, Core};

/// What to begin next, and what the notes must say.
pub(crate) enum Next<R> {
    /// One message, with nothing else in flight: the notes are written before it is begun.
    Alone {
        batch: Batch<R>,
        /// How often it was alone at a death.
        deaths: u32,
        notes: Vec<Change>,
    },
    /// Messages beside each other, near what is committed.
    Beside { batch: Batch<R>, notes: Vec<Change> },
}

impl Watch {
    /// What to begin next; at most `room` messages. Suspects come first, and alone; those that were alone at a death come
    /// last, so that the rest of their partition goes on.
    pub fn next<R>(&mut self, core: &mut Core<R>, room: usize) -> Option<Next<R>> {
        if self.alone.is_some() {
            return None;
        }
        let fresh = || core.find_ready(|p, o| self.is_suspect(p, o) && self.deaths(p, o) == 0);
        let nothing_else = |p| core.find_ready(|q, o| q == p && self.is_within_reach(q, o)).is_none();
        let feared = || core.find_ready(|p, o| self.is_suspect(p, o) && nothing_else(p));
        let suspect = if self.holds_suspects() { fresh().or_else(feared) } else { None };
        let Some(suspect) = suspect else {
            let batch = core.next_where(room, |p, o| self.is_within_reach(p, o))?;
            let notes = self.begin_beside();
            return Some(Next::Beside { batch, notes });
        };
        if core.in_flight() > 0 {
            return None;
        }
        let batch = core.next_where(1, |p, o| (p, o) == suspect)?;
        let (partition, offset) = suspect;
        let deaths = self.deaths(partition, offset);
        let notes = self.begin_alone(partition, offset);
        Some(Next::Alone { batch, deaths, notes })
    }
}
