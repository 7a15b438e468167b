//! A partition's messages: how many wait, and since when.

use std::collections::VecDeque;

/// So many batches are told apart; beyond it neighbours are joined, so that memory stays flat whatever waits.
const BATCHES: usize = 1024;

/// Latencies in buckets that grow by a twentieth, from a millisecond on.
#[derive(Debug, Clone)]
pub struct Latencies {
    buckets: Vec<f64>,
    count: f64,
}

const FIRST: f64 = 0.001;
const GROWTH: f64 = 1.05;

impl Default for Latencies {
    fn default() -> Self {
        // Up to some four months.
        Self {
            buckets: vec![0.0; 480],
            count: 0.0,
        }
    }
}

impl Latencies {
    fn add(&mut self, seconds: f64, messages: f64) {
        let at = (seconds.max(FIRST) / FIRST).ln() / GROWTH.ln();
        let last = self.buckets.len() - 1;
        if let Some(bucket) = self.buckets.get_mut((at as usize).min(last)) {
            *bucket += messages;
            self.count += messages;
        }
    }

    /// The latency that a share of the messages does not exceed; nothing when there were none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        if self.count <= 0.0 {
            return None;
        }
        let mut seen = 0.0;
        let at = self.buckets.iter().position(|n| {
            seen += n;
            seen >= share * self.count - 1e-9
        })?;
        Some(FIRST * GROWTH.powf(at as f64 + 0.5))
    }

    pub fn messages(&self) -> f64 {
        self.count
    }
}

/// One partition.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    pub end: i64,
    /// What has been worked off; in parts, since work goes on between looks.
    done: f64,
    committed: i64,
    batches: VecDeque<(f64, f64)>,
    /// When it was worked on last.
    pub touched: f64,
}

impl Queue {
    pub fn arrive(&mut self, at: f64, messages: u64) {
        self.end = self.end.saturating_add(i64::try_from(messages).unwrap_or(i64::MAX));
        self.batches.push_back((at, messages as f64));
        if self.batches.len() > BATCHES {
            let old = std::mem::take(&mut self.batches);
            let mut all = old.into_iter();
            while let Some((at, n)) = all.next() {
                let (later, more) = all.next().unwrap_or((at, 0.0));
                self.batches
                    .push_back(((at * n + later * more) / (n + more).max(f64::MIN_POSITIVE), n + more));
            }
        }
    }

    /// Messages that are not worked off.
    pub fn waiting(&self) -> f64 {
        (self.end as f64 - self.done).max(0.0)
    }

    /// Whether something waits that is worth working on.
    pub fn waits(&self) -> bool {
        self.waiting() > 1e-9
    }

    pub fn committed(&self) -> i64 {
        self.committed
    }

    /// Works off so many messages between two times, the oldest first. `commit` is the last time within at which what
    /// was done is committed.
    pub fn work(&mut self, amount: f64, (from, to): (f64, f64), commit: Option<f64>, latencies: &mut Latencies) {
        let amount = amount.min(self.waiting());
        self.touched = to;
        let before = self.done;
        let speed = (to - from) / amount.max(f64::MIN_POSITIVE);
        let mut left = amount;
        while left > 1e-9 {
            let Some((at, n)) = self.batches.front_mut() else { break };
            let taken = left.min(*n);
            let finished = from + (amount - left + taken / 2.0) * speed;
            latencies.add(finished - *at, taken);
            *n -= taken;
            left -= taken;
            if *n <= 1e-9 {
                self.batches.pop_front();
            }
        }
        self.done = (before + amount).min(self.end as f64);
        // What is within a hair of a whole message is one.
        if (self.done - self.done.round()).abs() < 1e-6 {
            self.done = self.done.round();
        }
        if let Some(commit) = commit {
            let share = if to > from { (commit - from) / (to - from) } else { 1.0 };
            self.committed = self.committed.max((before + (self.done - before) * share + 1e-6) as i64);
        }
    }

    /// Commits everything that was worked off, as a job does at its end.
    pub fn commit(&mut self) {
        self.committed = self.committed.max((self.done + 1e-6) as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_commits_come_in_steps() {
        let (mut queue, mut latencies) = (Queue::default(), Latencies::default());
        queue.arrive(0.0, 10);
        queue.work(4.0, (1.0, 2.0), Some(1.5), &mut latencies);
        assert_eq!((queue.waiting(), queue.committed()), (6.0, 2));
        queue.work(100.0, (2.0, 3.0), None, &mut latencies);
        assert_eq!((queue.waiting(), queue.committed()), (0.0, 2));
        queue.commit();
        assert_eq!(queue.committed(), 10);
        let p50 = latencies.quantile(0.5).unwrap();
        assert!((1.5..2.8).contains(&p50), "{p50}");
        assert_eq!(latencies.messages(), 10.0);
    }

    #[test]
    fn memory_stays_flat_whatever_waits() {
        let mut queue = Queue::default();
        for n in 0..100_000 {
            queue.arrive(f64::from(n), 1);
        }
        assert!(queue.batches.len() <= BATCHES);
        assert_eq!(queue.waiting(), 100_000.0);
        let all: f64 = queue.batches.iter().map(|(_, n)| n).sum();
        assert!((all - 100_000.0).abs() < 1e-6);
    }
}
