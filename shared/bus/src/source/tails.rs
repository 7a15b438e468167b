//! Partitions whose end is known as soon as their last message is: librdkafka tells it only after an empty answer,
//! `fetch.wait.max.ms` later.

use rdkafka::consumer::{BaseConsumer, ConsumerContext};

use crate::sys;

/// The last messages taken, by partition, since the consumer's queue was last found empty. A partition that goes and
/// comes back may begin before its last message: a rebalance forgets them all.
#[derive(Default)]
pub(super) struct Tails(Vec<(i32, i64)>);

impl Tails {
    pub fn saw(&mut self, partition: i32, offset: i64) {
        // Messages of a partition come in runs.
        match self.0.iter_mut().rfind(|(p, _)| *p == partition) {
            Some((_, last)) => *last = offset,
            None => self.0.push((partition, offset)),
        }
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Partitions of which everything that the broker had at the last answer has been taken, and where they end.
    ///
    /// The cached high watermark is that of the answer which brought the message, or of a later one, so that nothing
    /// lies between the message and it when they meet. Where they do not, as behind transaction markers, the end is
    /// told by librdkafka, later.
    pub fn ended<C: ConsumerContext>(self, consumer: &BaseConsumer<C>, topic: &str) -> Vec<(i32, i64)> {
        let ends = self.0.into_iter().map(|(partition, last)| (partition, last + 1));
        ends.filter(|(partition, end)| sys::high_watermark(consumer, topic, *partition) == Some(*end))
            .collect()
    }
}
