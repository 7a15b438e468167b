//! Properties of the loop's state, whatever order things come in.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::world::{Answer, How, MEMBERS, PARTITIONS, Step, World};
use crate::core::*;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (p, m) = (|| 0..PARTITIONS, || 0..MEMBERS);
    let answer = || prop_oneof![4 => Just(Answer::Accepted), 1 => Just(Answer::Refused), 1 => Just(Answer::AcceptedUnheard)];
    let how = prop_oneof![
        8 => Just(How::Done),
        2 => (any::<bool>(), 0..50u64).prop_map(|(effect, millis)| How::Again { effect, millis }),
        1 => Just(How::Leave),
    ];
    let gap = prop_oneof![4 => Just(0), 1 => 1..4i64];
    let step = prop_oneof![
        12 => (p(), 0..4u64, gap).prop_map(|(partition, key, gap)| Step::Produce { partition, key, gap }),
        1 => p().prop_map(|partition| Step::Marker { partition }),
        10 => (m(), p(), 0..6usize).prop_map(|(member, partition, most)| Step::Fetch { member, partition, most }),
        10 => (m(), 1..8usize).prop_map(|(member, most)| Step::Take { member, most }),
        10 => (m(), 1..4usize).prop_map(|(member, most)| Step::Begin { member, most }),
        14 => (m(), 0..16usize, how).prop_map(|(member, which, how)| Step::Finish { member, which, how }),
        4 => (m(), 0..40u64).prop_map(|(member, millis)| Step::Wake { member, millis }),
        4 => (m(), answer()).prop_map(|(member, answer)| Step::Commit { member, answer }),
        3 => (p(), m(), any::<bool>(), answer())
            .prop_map(|(partition, to, waits, answer)| Step::Move { partition, to, waits, answer }),
        1 => m().prop_map(|member| Step::Lose { member }),
        1 => m().prop_map(|member| Step::Crash { member }),
        2 => m().prop_map(|member| Step::Resume { member }),
    ];
    prop::collection::vec(step, 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_lost_and_nothing_is_committed_before_its_effect(steps in steps()) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        world.until_the_end();
    }

    #[test]
    fn the_ring_is_a_set_of_offsets_with_a_smallest_one(
        steps in prop::collection::vec((any::<bool>(), 1..5i64, any::<prop::sample::Index>()), 0..200),
    ) {
        let mut ring = Ring::default();
        let (mut undone, mut handles, mut next) = (BTreeSet::new(), Vec::new(), 0);
        let mut highest_passed = None;
        for (push, gap, which) in steps {
            if push || handles.is_empty() {
                next += gap;
                handles.push((ring.push(next), next));
                undone.insert(next);
            } else {
                let (handle, offset) = handles.swap_remove(which.index(handles.len()));
                let was_first = undone.first() == Some(&offset);
                undone.remove(&offset);
                let moved = ring.done(handle);
                prop_assert_eq!(moved.is_some(), was_first);
                if let Some(frontier) = moved {
                    prop_assert!(frontier > offset && undone.first().is_none_or(|first| frontier <= *first));
                    prop_assert!(highest_passed < Some(frontier));
                    highest_passed = Some(frontier);
                }
            }
            prop_assert_eq!(ring.is_empty(), undone.is_empty());
            prop_assert!(ring.len() >= undone.len());
        }
    }
}
