//! The `kafka` trigger: from offsets to a number.

use super::{Feature, Measured, Version};

/// What a group does where it has committed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    Earliest,
    Latest,
}

/// What the trigger's metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// Messages a job is meant for; 1 or more.
    pub lag_threshold: i64,
    /// The trigger is active only while the lag is more than this.
    pub activation_lag_threshold: i64,
    pub offset_reset: OffsetReset,
    /// Lets jobs exceed the partitions.
    pub allow_idle_consumers: bool,
    /// Caps jobs at the partitions that have lag.
    pub limit_to_partitions_with_lag: bool,
    /// Rounds jobs up to a divisor of the partitions.
    pub ensure_even_distribution: bool,
    /// A partition without a committed offset counts as having no lag.
    pub scale_to_zero_on_invalid_offset: bool,
    /// A partition whose committed offset stands still since the last look does not count.
    pub exclude_persistent_lag: bool,
    /// Only these partitions; all when there are none.
    pub partition_limitation: Vec<i32>,
}

impl Default for Kafka {
    /// KEDA's own defaults.
    fn default() -> Self {
        Self {
            lag_threshold: 10,
            activation_lag_threshold: 0,
            offset_reset: OffsetReset::Latest,
            allow_idle_consumers: false,
            limit_to_partitions_with_lag: false,
            ensure_even_distribution: false,
            scale_to_zero_on_invalid_offset: false,
            exclude_persistent_lag: false,
            partition_limitation: Vec::new(),
        }
    }
}

/// A partition as the brokers report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Partition {
    /// The group's committed offset; `None` when there is none.
    pub committed: Option<i64>,
    /// The high watermark; `None` when it is missing in the brokers' answer. One with an error there fails the trigger.
    pub end: Option<i64>,
    /// The first offset that the log holds; `None` when it was not asked.
    pub start: Option<i64>,
}

/// The committed offsets of the last look, by partition: what `excludePersistentLag` compares with.
#[derive(Debug, Clone, Default)]
pub struct Memory(Vec<Option<i64>>);

/// What cut the number, or raised it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Nothing.
    None,
    /// One job a partition.
    Partitions,
    /// One job a partition with lag.
    PartitionsWithLag,
    /// The next divisor of the partitions.
    Even,
    /// Between P and P+1 times the threshold: whole-number division lets one job too many through.
    OneTooMany,
}

/// What a trigger concluded from one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The sum over the partitions, standing lag included; may be negative when a topic was created anew.
    pub lag: i64,
    /// The sum as it counts, bounded.
    pub metric: i64,
    pub active: bool,
    pub bound: Bound,
}

impl Kafka {
    /// What one look at the partitions is worth. `memory` is this trigger's own, from look to look.
    pub fn read(&self, keda: Version, partitions: &[Partition], memory: &mut Memory) -> Reading {
        let (mut total, mut lag, mut count, mut lagging) = (0i64, 0i64, 0i64, 0i64);
        for (id, partition) in partitions.iter().enumerate().filter(|(id, _)| self.heeds(*id)) {
            // KEDA goes through the brokers' answer, not through the topic's partitions (`getTotalLag`, line 792 of
            // pkg/scalers/kafka_scaler.go in v2.20.2, and alike in the versions before): what is missing there is no lag,
            // not even the one that `latest` gives, and none of the partitions that cap. `getLagForPartition` has a rule
            // for it since 2.19 (#7414), but is never asked.
            let Some(end) = partition.end else { continue };
            let (counted, standing) = self.lag_of(keda, *partition, end, id, memory);
            total = total.saturating_add(counted);
            lag = lag.saturating_add(standing);
            count += 1;
            lagging += i64::from(counted > 0);
        }
        let (metric, bound) = self.bounded(total, count, lagging);
        let metric = if keda.has(Feature::ClampedMetric) { metric.max(0) } else { metric };
        let active = lag > self.activation_lag_threshold;
        Reading {
            lag,
            metric,
            active,
            bound,
        }
    }

    fn heeds(&self, id: usize) -> bool {
        self.partition_limitation.is_empty() || i32::try_from(id).is_ok_and(|id| self.partition_limitation.contains(&id))
    }

    /// The lag of one partition: as it counts, and with standing lag. Not clamped, so a partition that was created anew
    /// takes from the others.
    fn lag_of(&self, keda: Version, partition: Partition, end: i64, id: usize, memory: &mut Memory) -> (i64, i64) {
        let same = |lag: i64| (lag, lag);
        let Some(committed) = partition.committed else {
            let earliest = self.offset_reset == OffsetReset::Earliest;
            if self.scale_to_zero_on_invalid_offset && (!earliest || keda.has(Feature::ZeroOnInvalidEarliest)) {
                return (0, 0);
            }
            return same(match partition.start {
                _ if !earliest => 1,
                Some(start) if keda.has(Feature::EarliestFromStart) => end.saturating_sub(start),
                // The end, not the end less the start: what retention has deleted counts.
                _ => end,
            });
        };
        let lag = end.saturating_sub(committed);
        if self.exclude_persistent_lag && memory.swap(id, committed) == Some(committed) {
            return (0, lag);
        }
        same(lag)
    }

    fn bounded(&self, lag: i64, partitions: i64, lagging: i64) -> (i64, Bound) {
        if self.allow_idle_consumers && !self.limit_to_partitions_with_lag && !self.ensure_even_distribution {
            return (lag, Bound::None);
        }
        let threshold = self.lag_threshold.max(1);
        let (mut total, mut cap, mut bound) = (lag, partitions, Bound::None);
        if self.ensure_even_distribution {
            let enough = |divisor: &i64| partitions % divisor == 0 && divisor.saturating_mul(threshold) >= lag;
            total = (1..=partitions).find(enough).unwrap_or(partitions).saturating_mul(threshold);
            bound = Bound::Even;
        }
        if self.limit_to_partitions_with_lag {
            cap = lagging;
        }
        let by = if self.limit_to_partitions_with_lag {
            Bound::PartitionsWithLag
        } else {
            Bound::Partitions
        };
        // Whole numbers: between cap·threshold and (cap + 1)·threshold nothing is cut, and rounding up gives one more.
        if total / threshold > cap {
            return (cap.saturating_mul(threshold), by);
        }
        if total > cap.saturating_mul(threshold) {
            bound = Bound::OneTooMany;
        }
        (total, bound)
    }
}

impl Reading {
    /// As the other kinds of trigger give it.
    pub fn measured(&self, trigger: &Kafka) -> Measured {
        Measured {
            queue: self.metric as f64,
            target: trigger.lag_threshold as f64,
            active: self.active,
        }
    }
}

impl Memory {
    /// Remembers, and gives what was remembered. Bounded by the partitions of a topic.
    fn swap(&mut self, id: usize, committed: i64) -> Option<i64> {
        if self.0.len() <= id {
            self.0.resize(id + 1, None);
        }
        self.0.get_mut(id).and_then(|known| known.replace(committed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(committed: i64, end: i64) -> Partition {
        Partition {
            committed: (committed >= 0).then_some(committed),
            end: Some(end),
            start: Some(30),
        }
    }

    fn read(trigger: &Kafka, keda: &str, partitions: &[Partition]) -> Reading {
        trigger.read(keda.parse().unwrap(), partitions, &mut Memory::default())
    }

    #[test]
    fn what_retention_deleted_counts_until_2_20_and_no_longer() {
        let trigger = Kafka {
            offset_reset: OffsetReset::Earliest,
            ..Kafka::default()
        };
        assert_eq!(read(&trigger, "2.20.2", &[at(-1, 40); 2]).lag, 80);
        assert_eq!(read(&trigger, "2.21", &[at(-1, 40); 2]).lag, 20);
        let unasked = Partition { start: None, ..at(-1, 40) };
        assert_eq!(read(&trigger, "2.21", &[unasked]).lag, 40);
    }

    #[test]
    fn invalid_offsets_under_earliest_are_zero_from_2_15() {
        let trigger = Kafka {
            offset_reset: OffsetReset::Earliest,
            scale_to_zero_on_invalid_offset: true,
            ..Kafka::default()
        };
        assert_eq!(read(&trigger, "2.14.1", &[at(-1, 40)]).lag, 40);
        assert_eq!(read(&trigger, "2.15", &[at(-1, 40)]).lag, 0);
    }

    #[test]
    fn a_partition_that_is_missing_in_the_answer_is_no_lag_and_none_of_those_that_cap() {
        let missing = |committed| Partition {
            committed,
            ..Partition::default()
        };
        for keda in ["2.18.3", "2.20.2"] {
            let reading = read(&Kafka::default(), keda, &[missing(Some(100)), missing(None), at(0, 30)]);
            assert_eq!((reading.lag, reading.metric, reading.bound), (30, 10, Bound::Partitions), "{keda}");
        }
    }

    #[test]
    fn a_negative_sum_stays_negative_before_2_20_2() {
        assert_eq!(read(&Kafka::default(), "2.20.1", &[at(100, 60)]).metric, -40);
        assert_eq!(read(&Kafka::default(), "2.20.2", &[at(100, 60)]).metric, 0);
    }

    #[test]
    fn only_the_partitions_named_count_for_lag_and_for_the_cap() {
        let trigger = Kafka {
            partition_limitation: vec![1, 2],
            ..Kafka::default()
        };
        let reading = read(&trigger, "2.20.2", &[at(0, 500), at(0, 40), at(0, 2)]);
        assert_eq!((reading.lag, reading.metric, reading.bound), (42, 20, Bound::Partitions));
    }

    #[test]
    fn standing_lag_does_not_count_but_activates() {
        let trigger = Kafka {
            exclude_persistent_lag: true,
            ..Kafka::default()
        };
        let mut memory = Memory::default();
        let mut poll = |p: Partition| {
            let r = trigger.read(Version::DEFAULT, &[p], &mut memory);
            (r.metric, r.lag, r.active)
        };
        assert_eq!(poll(at(100, 105)), (5, 5, true));
        assert_eq!(poll(at(100, 107)), (0, 7, true));
        assert_eq!(poll(at(101, 107)), (6, 6, true));
        // Nothing committed is never standing.
        assert_eq!(poll(at(-1, 107)), (1, 1, true));
        assert_eq!(poll(at(-1, 107)), (1, 1, true));
    }

    #[test]
    fn absurd_offsets_do_not_overflow() {
        let absurd = Partition {
            committed: Some(i64::MIN),
            end: Some(i64::MAX),
            start: None,
        };
        assert_eq!(read(&Kafka::default(), "2.20.2", &[absurd; 3]).metric, 30);
        assert_eq!(read(&Kafka::default(), "2.20.2", &[]).metric, 0);
    }
}
