//! Who holds which message for how long: a handler that never returns must not go unnoticed.

use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A batch in a handler's hands; named by its first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holding {
    pub partition: i32,
    pub offset: i64,
    pub since: Instant,
}

/// The hands of handlers. There are never more than `MAX_IN_FLIGHT` that hold something.
pub(crate) struct Hands {
    began: Instant,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    all: Vec<Arc<Place>>,
    free: Vec<Arc<Place>>,
}

/// Written for every message, and read once a second.
#[derive(Default)]
struct Place {
    partition: AtomicI32,
    offset: AtomicI64,
    /// Nanoseconds since `began`, plus one; 0: it is empty.
    since: AtomicU64,
}

impl Default for Hands {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            places: Mutex::default(),
        }
    }
}

impl Hands {
    /// An empty hand.
    pub fn hand(&self) -> Hand<'_> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.free.pop().unwrap_or_else(|| {
            let place = Arc::<Place>::default();
            places.all.push(place.clone());
            place
        });
        Hand { hands: self, place }
    }

    /// What is held longest.
    pub fn longest(&self) -> Option<Holding> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let held = |place: &Arc<Place>| {
            let since = place.since.load(Ordering::Acquire).checked_sub(1)?;
            Some(Holding {
                partition: place.partition.load(Ordering::Relaxed),
                offset: place.offset.load(Ordering::Relaxed),
                since: self.began + Duration::from_nanos(since),
            })
        };
        places.all.iter().filter_map(held).min_by_key(|holding| holding.since)
    }
}

/// Holds one batch at a time, until it is dropped at the latest.
pub(crate) struct Hand<'h> {
    hands: &'h Hands,
    place: Arc<Place>,
}

impl Hand<'_> {
    /// A handler takes a batch.
    pub fn take(&self, partition: i32, offset: i64, since: Instant) {
        let nanos = since.saturating_duration_since(self.hands.began).as_nanos();
        self.place.partition.store(partition, Ordering::Relaxed);
        self.place.offset.store(offset, Ordering::Relaxed);
        self.place
            .since
            .store(u64::try_from(nanos).unwrap_or(u64::MAX - 1) + 1, Ordering::Release);
    }

    pub fn let_go(&self) {
        self.place.since.store(0, Ordering::Release);
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        self.let_go();
        let mut places = self.hands.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.free.push(self.place.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_held_is_known_whoever_comes_and_goes() {
        let hands = Hands::default();
        let begun = hands.began;
        let at = |offset: i64| begun + Duration::from_secs(offset.unsigned_abs());
        let holding = |offset: i64| Holding {
            partition: 3,
            offset,
            since: at(offset),
        };
        let (first, second) = (hands.hand(), hands.hand());
        assert_eq!(hands.longest(), None, "an empty hand holds nothing");
        first.take(3, 1, at(1));
        second.take(3, 2, at(2));
        assert_eq!(hands.longest(), Some(holding(1)));
        first.let_go();
        assert_eq!(hands.longest(), Some(holding(2)));
        first.take(3, 4, at(4));
        drop(second);
        assert_eq!(hands.longest(), Some(holding(4)));
        let third = hands.hand();
        third.take(3, 3, at(3));
        assert_eq!(hands.longest(), Some(holding(3)));
        drop((first, third));
        assert_eq!(hands.longest(), None);
        assert_eq!(hands.places.lock().unwrap().all.len(), 2, "places are used again");
    }
}
