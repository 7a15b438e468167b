//! One worker as the scaler sees it: its file, its pod's limits, and how its jobs have been doing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::sync::watch;

use super::Event;
use super::jobs::Jobs as Processes;
use super::limits::PodLimits;
use super::table::Row;
use crate::engine::{Jobs, Memory, Version};
use crate::simulate::{Decided, Seen, decide};
use crate::spec::{Scaler, Trigger, read};

/// A worker's own part of the loop.
pub struct Pool {
    pub scaler: Scaler,
    /// For jobs that are created from now on.
    pub limits: Arc<PodLimits>,
    /// The scaler file, and the pod's.
    files: [PathBuf; 2],
    /// What they held. Their times would not do: while somebody writes one it is empty for a moment, and a clock's tick
    /// later not newer than that.
    held: [Option<Vec<u8>>; 2],
    memories: Vec<Memory>,
    /// Tells who looks how often to.
    every: watch::Sender<Duration>,
    poll: Option<Duration>,
    /// Failed jobs since the last one that succeeded.
    pub failures: u32,
    /// Jobs that have ended: those that succeeded, and the others.
    pub ended: (u64, u64),
    pub not_before: Option<Instant>,
    pub last_poll: Option<Event>,
    pub blind: bool,
}

impl Pool {
    /// # Errors
    /// When the scaler is not one that can run here, or its pod is not understood.
    pub fn new(scaler: Scaler, scalers: &Path, pods: &Path, poll: Option<Duration>) -> anyhow::Result<Self> {
        runnable(&scaler)?;
        let files = [scalers, pods].map(|folder| folder.join(format!("{}.yaml", scaler.worker)));
        Ok(Self {
            held: files.each_ref().map(|file| std::fs::read(file).ok()),
            limits: Arc::new(PodLimits::read(&files[1])?),
            files,
            memories: vec![Memory::default(); scaler.triggers.len()],
            every: watch::Sender::new(poll.unwrap_or(scaler.polling_interval)),
            poll,
            scaler,
            failures: 0,
            ended: (0, 0),
            not_before: None,
            last_poll: None,
            blind: false,
        })
    }

    /// How often to look, now and after every edit of the file.
    pub fn every(&self) -> watch::Receiver<Duration> {
        self.every.subscribe()
    }

    pub fn decide(&mut self, seen: &[Seen], jobs: Jobs) -> Decided {
        decide(&self.scaler, seen, jobs, &mut self.memories)
    }

    /// The lag that the last look saw.
    pub fn lag(&self) -> i64 {
        match &self.last_poll {
            Some(Event::Poll { lag, .. }) => *lag,
            _ => 0,
        }
    }

    /// How it is doing.
    pub fn row(&self, jobs: &Processes) -> Row {
        let (lag, wanted) = match &self.last_poll {
            Some(Event::Poll { lag, wanted, .. }) if !self.blind => (Some(*lag), *wanted),
            _ => (None, 0),
        };
        let worker = &self.scaler.worker;
        Row {
            worker: worker.clone(),
            lag,
            wanted,
            running: jobs.running(worker),
            starting: jobs.pending(worker),
            retrying: jobs.waiting(worker),
            succeeded: self.ended.0,
            failed: self.ended.1,
        }
    }

    /// Reads the files again when one has changed. Running jobs go on as they began, as with `rollout.strategy: gradual`.
    pub fn reload(&mut self) -> Option<Event> {
        let now = self.files.each_ref().map(|file| std::fs::read(file).ok());
        if now == self.held {
            return None;
        }
        self.held = now;
        let worker = self.scaler.worker.clone();
        let [file, pod] = &self.files;
        let changed = read(file, Version::DEFAULT).and_then(|new| {
            let limits = PodLimits::read(pod)?;
            runnable(&new)?;
            ensure!(
                new.worker == self.scaler.worker && same_sights(&new.triggers, &self.scaler.triggers),
                "name and triggers (topic, group, query) can only change with a restart; their thresholds at any time"
            );
            Ok((new, limits))
        });
        Some(match changed {
            Ok((new, limits)) => {
                self.limits = Arc::new(limits);
                self.memories = vec![Memory::default(); new.triggers.len()];
                self.scaler = new;
                let every = self.poll.unwrap_or(self.scaler.polling_interval);
                self.every.send_if_modified(|now| std::mem::replace(now, every) != every);
                Event::Reloaded { worker }
            }
            Err(e) => Event::ReloadFailed {
                worker,
                error: format!("{e:#}"),
            },
        })
    }
}

/// Whether the loop can run what the file names.
fn runnable(scaler: &Scaler) -> anyhow::Result<()> {
    ensure!(scaler.job().is_some(), "{}: only ScaledJobs run as processes", scaler.worker);
    Ok(())
}

/// Whether what is looked at is the same, whatever it is worth.
fn same_sights(a: &[Trigger], b: &[Trigger]) -> bool {
    let same = |(a, b): (&Trigger, &Trigger)| match (a, b) {
        (
            Trigger::Kafka {
                topic,
                group,
                brokers_from,
                ..
            },
            Trigger::Kafka {
                topic: other,
                group: others,
                brokers_from: from,
                ..
            },
        ) => (topic, group, brokers_from) == (other, others, from),
        (Trigger::Mongodb { documents, .. }, Trigger::Mongodb { documents: other, .. }) => documents == other,
        _ => false,
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_that_is_seen_half_written_is_seen_again_though_its_time_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ingestion.yaml");
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ingestion.yaml");
        let text = std::fs::read_to_string(ours).unwrap();
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_782_000_000);
        let write = |text: &str| {
            std::fs::write(&file, text).unwrap();
            std::fs::File::options()
                .append(true)
                .open(&file)
                .unwrap()
                .set_modified(time)
                .unwrap();
        };
        write(&text);
        let no_pods = dir.path().join("pods");
        let mut pool = Pool::new(read(&file, Version::DEFAULT).unwrap(), dir.path(), &no_pods, None).unwrap();
        assert_eq!(pool.reload(), None);
        write("");
        assert!(matches!(pool.reload(), Some(Event::ReloadFailed { .. })));
        assert_eq!(pool.reload(), None);
        // As long as before, too.
        write(&text.replace("pollingInterval: 10", "pollingInterval: 20"));
        assert!(matches!(pool.reload(), Some(Event::Reloaded { .. })));
        assert_eq!(pool.scaler.polling_interval, Duration::from_secs(20));
    }
}
