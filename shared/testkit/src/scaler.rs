//! The pool's scaler, as in production: it starts workers on lag, and does so again after one that failed.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program::{binary, repository, spawn};
use crate::{Corner, Program};

/// How long it may take to stop, its workers included.
const STOP: Duration = Duration::from_secs(40);

/// A running `scalers run`.
pub struct Scaler {
    program: Program,
    events: PathBuf,
    /// Where the jobs' logs are.
    pub log_dir: PathBuf,
}

/// A worker's process. A job that is tried again keeps its name and gets another one.
#[derive(Debug, Clone)]
pub struct Job {
    pub name: String,
    pub pid: Pid,
    /// Which of the job's processes it is, from 1 on.
    attempt: usize,
    log: PathBuf,
}

impl Job {
    fn of(started: &Value) -> Option<Self> {
        Some(Self {
            name: started["job"].as_str()?.to_owned(),
            pid: i32::try_from(started["pid"].as_i64()?).ok().and_then(Pid::from_raw)?,
            attempt: usize::try_from(started["attempt"].as_u64()?).ok()?,
            log: PathBuf::from(started["log"].as_str()?),
        })
    }

    /// What it has logged; its job's earlier processes wrote to the same file.
    pub fn log(&self) -> String {
        let all = std::fs::read_to_string(&self.log).unwrap_or_default();
        let begin = if self.attempt > 1 {
            all.find(&format!("(attempt {}, process {})", self.attempt, self.pid.as_raw_nonzero()))
        } else {
            Some(0)
        };
        begin.and_then(|begin| all.get(begin..)).unwrap_or_default().to_owned()
    }

    /// Ends it as a power cut would. False when it had ended already.
    pub fn kill_dash_nine(&self) -> bool {
        kill_process(self.pid, Signal::KILL).is_ok()
    }
}

impl Scaler {
    #[allow(clippy::expect_used)]
    pub(crate) fn start(corner: &Corner, folder: &Path) -> Self {
        let (events, log_dir) = (folder.join("events.jsonl"), folder.join("jobs"));
        let bin_dir = binary("scalers");
        let bin_dir = bin_dir.parent().expect("a program lies in a folder");
        let text = |path: &Path| path.to_str().expect("the paths of tests are text").to_owned();
        let (files, bin_dir) = (text(&repository("scalers")), text(bin_dir));
        let (events_arg, log_arg) = (text(&events), text(&log_dir));
        let mut args = vec![
            "run",
            "--poll",
            "500ms",
            "--backoff",
            "1s",
            "--scalers",
            &files,
            "--bin-dir",
            &bin_dir,
        ];
        args.extend(["--events", &events_arg, "--log-dir", &log_arg]);
        for worker in ["ingestion", "valuation", "minting"] {
            args.extend(["--worker", worker]);
        }
        Self {
            program: spawn(corner, "scalers", &args, folder),
            events,
            log_dir,
        }
    }

    /// What it has told so far, in order.
    pub fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.events).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// A worker's jobs that run now.
    pub fn running(&self, worker: &str) -> Vec<Job> {
        let events = self.events();
        let of = |kind: &'static str| events.iter().filter(move |e| e["worker"] == worker && e["event"] == kind);
        // The system may give a number again, but hardly to the same job.
        let same = |a: &Value, b: &Value| (&a["job"], &a["pid"]) == (&b["job"], &b["pid"]);
        of("started")
            .filter(|started| !of("ended").any(|ended| same(ended, started)))
            .filter_map(Job::of)
            .collect()
    }

    /// How the processes ended that did not end with 0: the worker and the exit code, or the signal.
    pub fn failures(&self) -> Vec<String> {
        let events = self.events();
        let failed = events.iter().filter(|e| e["event"] == "ended" && e["exit_code"] != 0);
        failed
            .map(|e| format!("{}: exit {} signal {}", e["worker"], e["exit_code"], e["signal"]))
            .collect()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.program.ended().is_none()
    }

    /// Stops it with its workers.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn stop(&mut self) -> ExitStatus {
        self.program.end(STOP).await
    }
}
