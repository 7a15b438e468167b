//! The pool's scaler, as in production: it starts workers on lag, and does so again after one that failed.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

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

impl Scaler {
    #[allow(clippy::expect_used)]
    pub(crate) fn start(corner: &Corner, folder: &Path) -> Self {
        let (events, log_dir) = (folder.join("events.jsonl"), folder.join("jobs"));
        let bin_dir = binary("scalers");
        let bin_dir = bin_dir.parent().expect("a program lies in a folder");
        let text = |path: &Path| path.to_str().expect("the paths of tests are text").to_owned();
        let (files, bin_dir) = (text(&repository("scalers")), text(bin_dir));
        let (events_arg, log_arg) = (text(&events), text(&log_dir));
        let mut args = vec!["run", "--poll", "500ms", "--scalers", &files, "--bin-dir", &bin_dir];
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

    /// How many jobs of a worker run now.
    pub fn running(&self, worker: &str) -> usize {
        let events = self.events();
        let of = |kind: &str| events.iter().filter(|e| e["worker"] == worker && e["event"] == kind).count();
        of("started").saturating_sub(of("ended"))
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
