//! One worker as the scaler sees it: its file, its pod's limits, and how its jobs have been doing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};

use super::Event;
use crate::engine::{Jobs, Memory, Partition, Version};
use crate::simulate::{Decided, decide};
use crate::spec::{Scaler, Trigger, read};
use crate::yaml::{Node, parse};

/// What a pod's manifest says that a process can be held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PodLimits {
    pub deadline: Option<Duration>,
    pub grace: Option<Duration>,
}

impl PodLimits {
    /// Reads `<pods>/<worker>.yaml`; without the file there are no limits.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn read(pods: &Path, worker: &str) -> anyhow::Result<Self> {
        let file = pods.join(format!("{worker}.yaml"));
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let roots = parse(&text).with_context(|| file.display().to_string())?;
        let job = roots.iter().find_map(|r| r.at("spec.jobTargetRef"));
        let job = job.with_context(|| format!("{} has no spec.jobTargetRef", file.display()))?;
        let seconds = |path: &str| {
            job.at(path)
                .and_then(Node::int)
                .and_then(|n| u64::try_from(n).ok())
                .map(Duration::from_secs)
        };
        Ok(Self {
            deadline: seconds("activeDeadlineSeconds"),
            grace: seconds("template.spec.terminationGracePeriodSeconds"),
        })
    }
}

pub struct Pool {
    pub scaler: Scaler,
    pub limits: PodLimits,
    file: PathBuf,
    modified: Option<SystemTime>,
    memories: Vec<Memory>,
    /// Failed jobs since the last one that ended with 0.
    pub failures: u32,
    pub not_before: Option<Instant>,
    pub last_poll: Option<Event>,
    pub blind: bool,
}

impl Pool {
    /// # Errors
    /// When the scaler is not one that can run here.
    pub fn new(scaler: Scaler, scalers: &Path, limits: PodLimits) -> anyhow::Result<Self> {
        runnable(&scaler)?;
        let file = scalers.join(format!("{}.yaml", scaler.worker));
        Ok(Self {
            modified: modified(&file),
            file,
            limits,
            memories: vec![Memory::default(); scaler.triggers.len()],
            scaler,
            failures: 0,
            not_before: None,
            last_poll: None,
            blind: false,
        })
    }

    pub fn decide(&mut self, partitions: &[Partition], jobs: Jobs) -> Decided {
        decide(&self.scaler, partitions, jobs, &mut self.memories)
    }

    /// Reads the file again when it has changed. Running jobs go on, as with `rollout.strategy: gradual`.
    pub fn reload(&mut self) -> Option<Event> {
        let now = modified(&self.file);
        if now == self.modified {
            return None;
        }
        self.modified = now;
        let worker = self.scaler.worker.clone();
        let changed = read(&self.file, Version::DEFAULT).and_then(|new| {
            runnable(&new)?;
            ensure!(
                new.worker == self.scaler.worker && new.topic() == self.scaler.topic(),
                "name, topic and group can only change with a restart"
            );
            Ok(new)
        });
        Some(match changed {
            Ok(new) => {
                self.memories = vec![Memory::default(); new.triggers.len()];
                self.scaler = new;
                Event::Reloaded { worker }
            }
            Err(e) => Event::ReloadFailed {
                worker,
                error: format!("{e:#}"),
            },
        })
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|m| m.modified()).ok()
}

/// Whether the loop can look at what the file names.
fn runnable(scaler: &Scaler) -> anyhow::Result<()> {
    let kafka = scaler.triggers.iter().filter(|t| matches!(t, Trigger::Kafka { .. })).count();
    ensure!(scaler.job().is_some(), "{}: only ScaledJobs run as processes", scaler.worker);
    ensure!(
        kafka == 1,
        "{}: it has {kafka} kafka triggers, here there must be one",
        scaler.worker
    );
    Ok(())
}
