//! What a Job's manifest says of processes that fail, or take too long.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::yaml::{Node, parse};

/// What a Job's manifest says that processes can be held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLimits {
    pub deadline: Option<Duration>,
    pub grace: Duration,
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
            // Kubernetes' own.
            deadline: None,
            grace: Duration::from_secs(30),
            backoff_limit: 6,
            rules: Vec::new(),
        }
    }
}

impl PodLimits {
    /// Reads a pod's file; without it there is what Kubernetes takes by itself.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        Self::of(&text).with_context(|| file.display().to_string())
    }

    fn of(text: &str) -> anyhow::Result<Self> {
        let roots = parse(text)?;
        let job = roots.iter().find_map(|r| r.at("spec.jobTargetRef"));
        let job = job.context("it has no spec.jobTargetRef")?;
        let number = |path: &str| job.at(path).and_then(Node::int).and_then(|n| u64::try_from(n).ok());
        let rules = job.at("podFailurePolicy.rules").map(Node::list).unwrap_or_default();
        let rules = rules.iter().filter_map(|rule| Some((rule, rule.get("onExitCodes")?)));
        let default = Self::default();
        Ok(Self {
            deadline: number("activeDeadlineSeconds").map(Duration::from_secs),
            grace: number("template.spec.terminationGracePeriodSeconds").map_or(default.grace, Duration::from_secs),
            backoff_limit: number("backoffLimit").map_or(default.backoff_limit, |n| u32::try_from(n).unwrap_or(u32::MAX)),
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
