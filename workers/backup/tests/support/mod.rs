//! A replica set of the test's own to back up, and the tools to do it with.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use backup::manifest::{BACKUPS, Manifest};
use backup::{Backup, Config, catalogue, prepare};
use bson::{Document, doc};
use bus::{Clock, Context, Worker as _};
use jiff::Timestamp;
use messages::{BackupPayload, BackupRequested, Event, Outgoing, TraceParent};
use tempfile::TempDir;
use testkit::{Corner, Mongod};

pub struct Bench {
    pub corner: Corner,
    pub source: Mongod,
    folder: TempDir,
}

/// Where the stand-ins for the MongoDB Database Tools are, built with the tests.
pub fn stand_ins() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_backup")).parent().unwrap().join("examples");
    assert!(
        folder.join("mongodump").exists(),
        "cargo test builds the examples: {}",
        folder.display()
    );
    folder
}

/// The real tools where this machine has them, else the stand-ins, and says so.
pub fn tools() -> PathBuf {
    if let Some(folder) = std::env::var_os("MONGO_TOOLS_DIR") {
        return folder.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find(|f| f.join("mongodump").exists() && f.join("mongorestore").exists());
    on_path.unwrap_or_else(|| {
        eprintln!("neither MONGO_TOOLS_DIR nor mongodump on PATH: this test uses stand-ins for the MongoDB Database Tools");
        stand_ins()
    })
}

impl Bench {
    pub async fn new() -> Self {
        let mut corner = Corner::new();
        let source = Mongod::start().await;
        let folder = tempfile::tempdir().unwrap();
        corner.set("MONGODB_URI", &source.uri);
        corner.set("MONGO_TOOLS_DIR", tools().to_str().unwrap());
        corner.set("BACKUP_LEASE_SECONDS", "15");
        corner.set("IDLE_EXIT_MS", "500");
        prepare(&corner.blobs()).await.unwrap();
        Self { corner, source, folder }
    }

    /// `count` documents of about `size` bytes that do not compress well.
    pub async fn fill(&self, count: usize, size: usize) {
        let collection = self.source.client.database("app").collection::<Document>("ballast");
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for begin in (0..count).step_by(500) {
            let documents = (begin..count.min(begin + 500)).map(|n| {
                let text: String = (0..size / 16)
                    .map(|_| {
                        state = state
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        format!("{state:016x}")
                    })
                    .collect();
                doc! { "_id": n as i64, "text": text }
            });
            collection.insert_many(documents).await.unwrap();
        }
    }

    /// A mongodump that writes its pid and then is the stand-in, pausing after every hundred documents.
    pub fn slow_dump(&mut self, pause_ms: u64) -> PathBuf {
        let pid = self.folder.path().join("pid");
        let stand_in = stand_ins().join("mongodump");
        let script = format!(
            "#!/bin/sh\necho $$ >{pid}.new && mv {pid}.new {pid}\nexec {} --pause-ms {pause_ms} \"$@\"\n",
            stand_in.display(),
            pid = pid.display()
        );
        self.dump_script(&script);
        pid
    }

    /// A mongodump of the test's own.
    pub fn dump_script(&mut self, script: &str) {
        let path = self.folder.path().join("mongodump");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        self.corner.set("MONGO_TOOLS_DIR", self.folder.path().to_str().unwrap());
    }

    pub fn honest_tools(&mut self) {
        self.corner.set("MONGO_TOOLS_DIR", tools().to_str().unwrap());
    }

    pub async fn worker(&self) -> Backup {
        Backup::connect(&self.corner.config::<Config>()).await.unwrap()
    }

    /// The names of all blobs in the container of backups.
    pub async fn stored(&self) -> Vec<String> {
        self.corner.blobs().names(BACKUPS, "").await.unwrap()
    }

    /// The manifests of all backups that are whole, oldest first.
    pub async fn manifests(&self) -> Vec<Manifest> {
        catalogue::list(&self.corner.blobs(), &"libertum".parse().unwrap()).await.unwrap()
    }

    pub async fn manifest(&self, request: &BackupRequested) -> Option<Manifest> {
        Manifest::read(&self.corner.blobs(), &request.cluster, &request.backup_id())
            .await
            .unwrap()
    }
}

pub fn request(slot: &str) -> BackupRequested {
    BackupRequested {
        cluster: "libertum".parse().unwrap(),
        slot: slot.parse().unwrap(),
        requested_by: "test".to_owned(),
    }
}

pub fn event(request: &BackupRequested) -> Event<BackupPayload> {
    let out = Outgoing::backup("/test", Timestamp::now(), TraceParent::root(), request);
    Event {
        envelope: out.envelope,
        payload: BackupPayload::Requested(request.clone()),
    }
}

pub fn context() -> Context {
    Context::new(Backup::NAME, Clock::system(), 0)
}

/// Sends a signal to a process that the test started.
pub fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

pub fn pid_in(file: &Path) -> Option<u32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}
