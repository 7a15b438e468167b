//! One worker as the scaler sees it: its file, its pod's limits, and how its jobs have been doing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail, ensure};
use tokio::sync::watch;

use super::Event;
use super::jobs::Jobs as Processes;
use super::table::Row;
use crate::engine::{Jobs, Memory, Version};
use crate::simulate::{Decided, Seen, decide};
use crate::spec::{Scaler, Trigger, read};
use crate::yaml::{Node, parse};

/// What a Job's manifest says that processes can be held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLimits {
    pub deadline: Option<Duration>,
    pub grace: Option<Duration>,
    /// Failed processes that a job survives.
    pub backoff_limit: u32,
    rules: Vec<FailureRule>,
}

/// A rule of `podFailurePolicy` by exit codes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FailureRule {
    action: Action,
    /// The codes that it is for; with `NotIn`, those that it is not for.
    codes: Vec<i64>,
    others: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    FailJob,
    Ignore,
    Count,
}

/// What becomes of a job whose process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Succeeded,
    /// One more process, after a wait; so many have failed by now.
    Again {
        failures: u32,
    },
    /// The job has failed, for a reason.
    Failed(String),
}

impl Default for PodLimits {
    fn default() -> Self {
        Self {
            deadline: None,
            grace: None,
            // Kubernetes' own.
            backoff_limit: 6,
            rules: Vec::new(),
        }
    }
}

impl PodLimits {
    /// Reads `<pods>/<worker>.yaml`; without the file there is what Kubernetes takes by itself.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn read(pods: &Path, worker: &str) -> anyhow::Result<Self> {
        let file = pods.join(format!("{worker}.yaml"));
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        Self::of(&text).with_context(|| file.display().to_string())
    }

    fn of(text: &str) -> anyhow::Result<Self> {
        let roots = parse(text)?;
        let job = roots.iter().find_map(|r| r.at("spec.jobTargetRef"));
        let job = job.context("it has no spec.jobTargetRef")?;
        let number = |path: &str| job.at(path).and_then(Node::int).and_then(|n| u64::try_from(n).ok());
        let rules = job.at("podFailurePolicy.rules").map(Node::list).unwrap_or_default();
        let rules = rules.iter().filter_map(|rule| Some((rule, rule.get("onExitCodes")?)));
        let default = Self::default().backoff_limit;
        Ok(Self {
            deadline: number("activeDeadlineSeconds").map(Duration::from_secs),
            grace: number("template.spec.terminationGracePeriodSeconds").map(Duration::from_secs),
            backoff_limit: number("backoffLimit").map_or(default, |n| u32::try_from(n).unwrap_or(u32::MAX)),
            rules: rules.map(|(rule, on)| FailureRule::of(rule, on)).collect::<Result<_, _>>()?,
        })
    }

    /// What becomes of a job after a process of it ended, by the first rule that its exit code meets. A process that a
    /// signal ended has the code of a container: 128 and the signal.
    pub fn fate(&self, exit_code: Option<i32>, signal: Option<i32>, failures: u32) -> Fate {
        let code = exit_code.or(signal.map(|s| 128 + s)).map_or(-1, i64::from);
        if code == 0 {
            return Fate::Succeeded;
        }
        let rule = self.rules.iter().find(|rule| rule.codes.contains(&code) != rule.others);
        match rule.map_or(Action::Count, |rule| rule.action) {
            Action::FailJob => Fate::Failed(format!("podFailurePolicy fails the job at exit code {code}")),
            Action::Ignore => Fate::Again { failures },
            Action::Count if failures >= self.backoff_limit => {
                Fate::Failed(format!("{} processes failed, backoffLimit is {}", failures + 1, self.backoff_limit))
            }
            Action::Count => Fate::Again { failures: failures + 1 },
        }
    }
}

impl FailureRule {
    fn of(rule: &Node, on: &Node) -> anyhow::Result<Self> {
        let text = |node: &Node, key: &str| node.get(key).and_then(Node::text).map(str::to_owned).unwrap_or_default();
        Ok(Self {
            action: match text(rule, "action").as_str() {
                "FailJob" => Action::FailJob,
                "Ignore" => Action::Ignore,
                "Count" => Action::Count,
                other => bail!("podFailurePolicy: the action {other:?} is not understood here"),
            },
            codes: on
                .get("values")
                .map(Node::list)
                .unwrap_or_default()
                .iter()
                .filter_map(Node::int)
                .collect(),
            others: match text(on, "operator").as_str() {
                "In" => false,
                "NotIn" => true,
                other => bail!("podFailurePolicy: the operator {other:?} is not understood here"),
            },
        })
    }
}

pub struct Pool {
    pub scaler: Scaler,
    pub limits: PodLimits,
    file: PathBuf,
    modified: Option<SystemTime>,
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
    /// When the scaler is not one that can run here.
    pub fn new(scaler: Scaler, scalers: &Path, limits: PodLimits, poll: Option<Duration>) -> anyhow::Result<Self> {
        runnable(&scaler)?;
        let file = scalers.join(format!("{}.yaml", scaler.worker));
        Ok(Self {
            modified: modified(&file),
            file,
            limits,
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
                new.worker == self.scaler.worker && same_sights(&new.triggers, &self.scaler.triggers),
                "name and triggers (topic, group, query) can only change with a restart; their thresholds at any time"
            );
            Ok(new)
        });
        Some(match changed {
            Ok(new) => {
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

fn modified(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|m| m.modified()).ok()
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

    const JOB: &str = "spec:
  jobTargetRef:
    backoffLimit: 2
    activeDeadlineSeconds: 1800
    podFailurePolicy:
      rules:
        - action: Ignore
          onPodConditions: [{ type: DisruptionTarget, status: 'True' }]
        - action: Ignore
          onExitCodes: { operator: In, values: [75] }
        - action: FailJob
          onExitCodes: { operator: In, values: [64, 78] }
        - action: Count
          onExitCodes: { operator: NotIn, values: [137] }
";

    #[test]
    fn a_process_that_failed_is_tried_again_as_often_as_the_job_allows() {
        let limits = PodLimits::of(JOB).unwrap();
        assert_eq!((limits.deadline, limits.backoff_limit), (Some(Duration::from_secs(1800)), 2));
        let fate = |code, failures| limits.fate(Some(code), None, failures);
        assert_eq!(fate(0, 2), Fate::Succeeded);
        assert_eq!(fate(70, 0), Fate::Again { failures: 1 });
        assert_eq!(fate(70, 1), Fate::Again { failures: 2 });
        assert!(matches!(fate(70, 2), Fate::Failed(why) if why.contains("backoffLimit is 2")));
        assert_eq!(fate(75, 2), Fate::Again { failures: 2 });
        assert!(matches!(fate(64, 0), Fate::Failed(why) if why.contains("exit code 64")));
        assert_eq!(limits.fate(None, Some(9), 0), Fate::Again { failures: 1 });
        assert_eq!(PodLimits::default().backoff_limit, 6);
        let wrong = PodLimits::of(&JOB.replace("FailJob", "FailIndex")).unwrap_err();
        assert!(format!("{wrong:#}").contains("FailIndex"));
    }
}
