//! The offsets of a partition that are not committed yet, in the order of their arrival.

use std::collections::VecDeque;

/// Gaps, as compaction and transactions leave them, cost nothing.
#[derive(Default)]
pub(super) struct Ring {
    entries: VecDeque<(i64, bool)>,
    /// The number of the first entry.
    first: u64,
}

impl Ring {
    /// Remembers an offset; the number is its handle.
    pub fn push(&mut self, offset: i64) -> u64 {
        self.entries.push_back((offset, false));
        self.first + self.entries.len() as u64 - 1
    }

    /// Marks an offset as done. When that moves the frontier, the offset of the next message to handle.
    pub fn done(&mut self, seq: u64) -> Option<i64> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)?.1 = true;
        let mut frontier = None;
        while let Some((offset, true)) = self.entries.front() {
            frontier = Some(offset + 1);
            self.entries.pop_front();
            self.first += 1;
        }
        frontier
    }

    /// The number of the first that is not committed.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Those that are not done.
    pub fn unfinished(&self) -> impl Iterator<Item = i64> {
        self.entries.iter().filter(|(_, done)| !done).map(|(offset, _)| *offset)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
