//! Choosing among messages, for when not all of them may be begun.

use super::{Batch, Core, Few, Item, Ticket};

impl<R> Core<R> {
    /// The offsets of a partition that are held and not done.
    pub fn unfinished(&self, partition: i32) -> Vec<i64> {
        self.partitions
            .get(&partition)
            .map_or_else(Vec::new, |p| p.ring.unfinished().collect())
    }

    /// A message that could be begun and for which this holds: its partition and offset.
    pub fn find_ready(&self, wanted: impl Fn(i32, i64) -> bool) -> Option<(i32, i64)> {
        let all = self.turn.iter().filter_map(|id| Some((*id, self.partitions.get(id)?)));
        let mut ready = all.flat_map(|(id, p)| p.ready.iter().map(move |(_, item)| (id, item.offset)));
        ready.find(|(partition, offset)| wanted(*partition, *offset))
    }

    /// As [`Core::next`], of those messages only for which this holds.
    pub fn next_where(&mut self, most: usize, wanted: impl Fn(i32, i64) -> bool) -> Option<Batch<R>> {
        let (first, _) = self.find_ready(&wanted)?;
        let place = self.turn.iter().position(|p| *p == first)?;
        let partition = self.turn.remove(place)?;
        let p = self.partitions.get_mut(&partition)?;
        let mut items = Few::<(Ticket, Item<R>)>::new();
        let mut at = 0;
        while items.len() < most
            && let Some((_, item)) = p.ready.get(at)
        {
            let alone = item.attempts > 0;
            if !wanted(partition, item.offset) || (alone && !items.is_empty()) {
                at += 1;
                continue;
            }
            let Some((lane, item)) = p.ready.remove(at) else { break };
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
}
