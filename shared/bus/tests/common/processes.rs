//! Worker processes on the real broker, with the real ledger.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::time::Duration;

use testkit::{Corner, Program, start_program, until};

use super::Bench;

/// A killed process keeps its place in the group until its session is over.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Workers of `examples/steered.rs`, and what they have written.
pub struct Steered {
    /// Their settings.
    pub corner: Corner,
    folder: tempfile::TempDir,
}

impl Steered {
    pub fn new(mut corner: Corner) -> Self {
        let folder = tempfile::tempdir().unwrap();
        corner.set("STEERED_EFFECTS", folder.path().join("effects").to_string_lossy());
        corner.set("IDLE_EXIT_MS", "0");
        Self { corner, folder }
    }

    /// What `needs-…` needs is there from now on.
    pub fn mend(&self) {
        std::fs::write(self.folder.path().join("mended"), "").unwrap();
    }

    pub fn start(&self) -> Program {
        start_program(&self.corner, "examples/steered", &[], self.folder.path())
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
        ends(&mut self.start()).await
    }

    /// The same under settings of its own.
    pub async fn run_with(&self, settings: &[(&str, &str)]) -> Option<i32> {
        let mut corner = self.corner.clone_for_process();
        settings.iter().for_each(|(name, value)| corner.set(name, *value));
        ends(&mut start_program(&corner, "examples/steered", &[], self.folder.path())).await
    }
}

async fn ends(worker: &mut Program) -> Option<i32> {
    until("the worker ends", PATIENCE, async || worker.ended().is_some()).await;
    worker.ended().unwrap().code()
}

/// Workers in a corner of their own.
pub struct Processes {
    pub bench: Bench,
    workers: Steered,
}

impl Processes {
    pub async fn new(settings: &[(&str, &str)]) -> Self {
        let bench = Bench::new().await;
        let mut workers = Steered::new(bench.corner.clone_for_process());
        settings.iter().for_each(|(name, value)| workers.corner.set(name, *value));
        Self { bench, workers }
    }

    pub async fn send(&self, assets: impl Iterator<Item = String>) -> BTreeSet<String> {
        let assets: BTreeSet<String> = assets.collect();
        futures::future::join_all(assets.iter().map(|asset| self.bench.send(asset))).await;
        assets
    }
}

impl Deref for Processes {
    type Target = Steered;
    fn deref(&self) -> &Steered {
        &self.workers
    }
}
