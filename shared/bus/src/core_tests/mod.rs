//! The loop's state: by example here, by property in [`model`].

mod member;
mod model;
mod world;

use std::time::Duration;

use super::*;

fn offsets<R>(batch: &Batch<R>) -> Vec<i64> {
    batch.items.iter().map(|(_, item)| item.offset).collect()
}

fn core(records: &[(i64, u64)]) -> Core<()> {
    let mut core = Core::new();
    core.assign(0);
    for (offset, lane) in records {
        assert_ne!(core.record(0, *offset, *lane, ()), Taken::NotOurs);
    }
    core
}

#[test]
fn a_slow_message_holds_the_commit_and_not_its_neighbours() {
    let mut core = core(&[(0, 1), (1, 2), (2, 3)]);
    let batch = core.next(3).unwrap();
    assert_eq!(offsets(&batch), [0, 1, 2]);
    let tickets: Vec<_> = batch.items.iter().map(|(t, _)| *t).collect();
    core.done(tickets[1]);
    core.done(tickets[2]);
    assert!(core.to_commit().is_empty());
    core.done(tickets[0]);
    assert_eq!(core.to_commit(), [(0, 3)]);
    core.committed(&[(0, 3)]);
    assert!(core.to_commit().is_empty());
}

#[test]
fn messages_of_one_key_come_one_after_the_other() {
    let mut core = core(&[(0, 7), (1, 7), (2, 8)]);
    let batch = core.next(10).unwrap();
    assert_eq!(offsets(&batch), [0, 2]);
    assert!(core.next(10).is_none());
    core.done(batch.items[0].0);
    assert_eq!(offsets(&core.next(10).unwrap()), [1]);
}

#[test]
fn a_message_that_failed_comes_again_alone_and_its_key_waits_for_it() {
    let mut core = core(&[(0, 7), (1, 7), (2, 8)]);
    let mut batch = core.next(1).unwrap();
    let (ticket, item) = batch.items.pop().unwrap();
    let later = Instant::now() + Duration::from_secs(1);
    core.again(ticket, item, later);
    assert_eq!(offsets(&core.next(10).unwrap()), [2]);
    assert_eq!(core.next_wake(), Some(later));
    core.wake(later - Duration::from_millis(1));
    assert!(core.next(10).is_none());
    core.wake(later);
    let again = core.next(10).unwrap();
    assert_eq!(offsets(&again), [0]);
    assert_eq!(again.items[0].1.attempts, 1);
}

#[test]
fn what_finishes_after_its_partition_was_lost_and_came_back_is_ignored() {
    let mut core = core(&[(5, 1)]);
    let old = core.next(1).unwrap();
    assert_eq!(core.revoke(0), 1);
    assert_eq!(core.in_flight(), 0);
    core.assign(0);
    core.record(0, 5, 1, ());
    core.done(old.items[0].0);
    assert!(core.to_commit().is_empty());
    let fresh = core.next(1).unwrap();
    assert_eq!(offsets(&fresh), [5]);
    core.done(fresh.items[0].0);
    assert_eq!(core.to_commit(), [(0, 6)]);
}

#[test]
fn an_older_commit_that_lands_behind_a_newer_one_is_overwritten_again() {
    let mut core = core(&[(0, 1), (1, 2)]);
    let both: Vec<Ticket> = std::iter::from_fn(|| core.next(1)).map(|b| b.items[0].0).collect();
    core.done(both[0]);
    assert_eq!(core.to_commit(), [(0, 1)]);
    core.done(both[1]);
    core.committed(&[(0, 2)]);
    assert!(core.to_commit().is_empty());
    core.committed(&[(0, 1)]);
    assert_eq!(core.to_commit(), [(0, 2)]);
}

#[test]
fn drained_means_at_the_end_of_every_partition_with_nothing_held() {
    let mut core = core(&[(0, 1)]);
    core.assign(1);
    core.end_of_partition(0, 1);
    assert!(!core.is_drained());
    core.end_of_partition(1, 40);
    let batch = core.next(1).unwrap();
    assert!(!core.is_drained());
    core.done(batch.items[0].0);
    assert!(core.is_drained());
    assert_eq!(core.to_commit(), [(0, 1), (1, 40)]);
    core.fetching_again();
    assert!(!core.is_drained());
}

#[test]
fn the_oldest_unfinished_message_keeps_its_age_while_its_neighbours_come_and_go() {
    let mut core = Core::new();
    core.assign(0);
    let begun = Instant::now();
    assert_eq!(core.behind(begun), Behind::default());
    assert!((0..3).all(|offset| core.record(0, offset, offset as u64, ()) == Taken::Ready));
    assert_eq!(core.behind(begun).messages, 3);
    let tickets: Vec<Ticket> = std::iter::from_fn(|| core.next(1)).map(|b| b.items[0].0).collect();
    core.done(tickets[1]);
    let later = begun + Duration::from_secs(5);
    let stuck = Behind {
        messages: 3,
        oldest: Some(begun),
    };
    assert_eq!(
        core.behind(later),
        stuck,
        "a finished message behind an unfinished one waits for its commit"
    );
    core.done(tickets[0]);
    let last = Behind {
        messages: 1,
        oldest: Some(later),
    };
    assert_eq!(core.behind(later), last);
    core.done(tickets[2]);
    assert_eq!(core.behind(later), Behind::default());
}
