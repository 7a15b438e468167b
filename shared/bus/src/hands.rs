//! Who holds which message for how long: a handler that never returns must not go unnoticed.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A batch in a handler's hands; named by its first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holding {
    pub partition: i32,
    pub offset: i64,
    pub since: Instant,
}

/// The batches in handlers' hands. There are never more than `MAX_IN_FLIGHT`.
#[derive(Default)]
pub(crate) struct Hands(Mutex<Places>);

#[derive(Default)]
struct Places {
    all: Vec<Option<Holding>>,
    free: Vec<usize>,
}

impl Hands {
    /// A handler takes a batch, until the value is dropped.
    pub fn take(&self, holding: Holding) -> Hold<'_> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.free.pop().unwrap_or(places.all.len());
        match places.all.get_mut(place) {
            Some(empty) => *empty = Some(holding),
            None => places.all.push(Some(holding)),
        }
        Hold { hands: self, place }
    }

    /// What is held longest.
    pub fn longest(&self) -> Option<Holding> {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.all.iter().flatten().min_by_key(|holding| holding.since).copied()
    }
}

pub(crate) struct Hold<'h> {
    hands: &'h Hands,
    place: usize,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut places = self.hands.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.all.get_mut(self.place) {
            *place = None;
        }
        places.free.push(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_longest_held_is_known_whoever_comes_and_goes() {
        let hands = Hands::default();
        let begun = Instant::now();
        let holding = |offset: i64| Holding {
            partition: 3,
            offset,
            since: begun + Duration::from_secs(offset.unsigned_abs()),
        };
        let first = hands.take(holding(1));
        let second = hands.take(holding(2));
        assert_eq!(hands.longest(), Some(holding(1)));
        drop(first);
        assert_eq!(hands.longest(), Some(holding(2)));
        let third = hands.take(holding(3));
        assert_eq!(hands.longest(), Some(holding(2)));
        drop((second, third));
        assert_eq!(hands.longest(), None);
        assert_eq!(hands.0.lock().unwrap().all.len(), 2, "places are used again");
    }
}
