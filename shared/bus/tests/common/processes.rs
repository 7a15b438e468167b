//! Worker processes on the real broker, with the real ledger.

use std::collections::BTreeSet;
use std::time::Duration;

use testkit::{Program, start_program, until};

use super::Bench;

/// A killed process keeps its place in the group until its session is over.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Workers of `examples/steered.rs` in a corner, and what they have written.
pub struct Processes {
    pub bench: Bench,
    folder: tempfile::TempDir,
}

impl Processes {
    pub async fn new(settings: &[(&str, &str)]) -> Self {
        let mut bench = Bench::new().await;
        let folder = tempfile::tempdir().unwrap();
        bench.corner.set("STEERED_EFFECTS", folder.path().join("effects").to_string_lossy());
        bench.corner.set("IDLE_EXIT_MS", "0");
        settings.iter().for_each(|(name, value)| bench.corner.set(name, *value));
        Self { bench, folder }
    }

    pub async fn send(&self, assets: impl Iterator<Item = String>) -> BTreeSet<String> {
        let assets: BTreeSet<String> = assets.collect();
        futures::future::join_all(assets.iter().map(|asset| self.bench.send(asset))).await;
        assets
    }

    /// What `needs-…` needs is there from now on.
    pub fn mend(&self) {
        std::fs::write(self.folder.path().join("mended"), "").unwrap();
    }

    pub fn start(&self) -> Program {
        start_program(&self.bench.corner, "examples/steered", &[], self.folder.path())
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    /// What was written, in its order: the word, and the asset.
    pub fn effects(&self) -> Vec<(String, String)> {
        let line = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            Some((words.next()?, words.nth(1)?))
        };
        self.read("effects").lines().filter_map(line).collect()
    }

    pub fn done(&self) -> BTreeSet<String> {
        let done = self.effects().into_iter().filter(|(word, _)| word == "done");
        done.map(|(_, asset)| asset).collect()
    }

    /// Starts a worker and waits until it has ended; its code, `None` when a signal ended it.
    pub async fn run(&self) -> Option<i32> {
        let mut worker = self.start();
        until("the worker ends", PATIENCE, async || worker.ended().is_some()).await;
        worker.ended().unwrap().code()
    }
}
