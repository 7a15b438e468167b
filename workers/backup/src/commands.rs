//! What people and CronJobs do with the worker's binary, besides its main job.

use std::convert::Infallible;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::{Clock, Context, Producer, Worker as _};
use jiff::Timestamp;
use messages::{BackupRequested, Outgoing, TraceParent};
use runtime::{ConfigError, Env, Exit, FromEnv, Reader, Secret};
use serde_json::json;
use stores::{Blobs, RedisLedger};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{RequestConfig, StoreConfig};
use crate::dump::Progress;
use crate::manifest::Manifest;
use crate::take::Taker;
use crate::tools::Tools;
use crate::{Backup, Config, catalogue, restore};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Ask the worker for a backup, by Kafka; a slot is backed up once, however often it is asked for
    Request {
        /// The planned time (RFC 3339), or auto: the hour that has begun
        #[arg(long, default_value = "auto")]
        slot: Slot,
        /// Who asks
        #[arg(long, default_value = "cron")]
        requested_by: String,
    },
    /// Take a backup here and now, without Kafka, and print its manifest
    Run {
        /// The planned time (RFC 3339), or auto: the hour that has begun; else now
        #[arg(long)]
        slot: Option<Slot>,
        /// Who asks
        #[arg(long, default_value = "console")]
        requested_by: String,
    },
    /// Show the backups that are whole, oldest first
    List {
        /// Print a JSON array of the manifests
        #[arg(long)]
        json: bool,
    },
    /// List the dead letters of the topic, or put them back
    Redrive(Box<bus::redrive::Args>),
    /// Restore a backup into another database, which must be empty
    Restore {
        /// As backup list shows it
        id: String,
        /// The target's connection string; in the variable other users of the machine cannot read it
        #[arg(long, env = "BACKUP_RESTORE_TO", hide_env_values = true)]
        to: String,
        /// Replace the collections that the backup has
        #[arg(long)]
        drop: bool,
    },
}

/// For which time a backup is planned, to the second.
#[derive(Debug, Clone, Copy)]
pub enum Slot {
    At(Timestamp),
    /// The hour that has begun.
    Auto,
}

impl FromStr for Slot {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse()
            .map(Self::At)
            .map_err(|e: jiff::Error| format!("neither auto nor a time such as 2026-11-22T02:00:00Z: {e}"))
    }
}

impl Slot {
    fn time(self, now: Timestamp) -> Timestamp {
        let (time, step) = match self {
            Self::At(time) => (time, 1),
            Self::Auto => (now, 3600),
        };
        let seconds = time.as_second();
        Timestamp::from_second(seconds - seconds.rem_euclid(step)).unwrap_or(time)
    }
}

impl Command {
    /// Runs the command: the answer goes to the standard output, and nothing else does.
    pub fn main(self) -> ExitCode {
        // The worker's process does the same; these commands reach https endpoints and TLS databases too.
        if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
            // It is installed already, by whoever runs this twice.
        }
        let ended = tokio::runtime::Runtime::new()
            .map_err(anyhow::Error::from)
            .and_then(|rt| rt.block_on(self.run()));
        let exit = ended.unwrap_or_else(|error| {
            eprintln!("backup: {error:#}");
            error
                .downcast_ref::<crate::Error>()
                .map_or_else(|| Exit::from_error(&error), crate::Error::exit)
        });
        ExitCode::from(exit.code())
    }

    async fn run(self) -> anyhow::Result<Exit> {
        let stop = stop()?;
        match self {
            Self::Request { slot, requested_by } => request(&load()?, slot, requested_by).await?,
            Self::Run { slot, requested_by } => run(&load()?, slot, requested_by, stop).await?,
            Self::Redrive(args) => return bus::redrive::command(Backup::NAME, *args, RedisLedger::of_process).await,
            Self::List { json } => list(&load()?, json).await?,
            Self::Restore { id, to, drop } => {
                let config = load()?;
                tokio::select! {
                    done = bring_back(&config, &id, to, drop) => done?,
                    () = stop.cancelled() => return Err(crate::Error::Cancelled.into()),
                }
            }
        }
        Ok(Exit::Drained)
    }
}

async fn request(config: &RequestConfig, slot: Slot, requested_by: String) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let request = BackupRequested {
        cluster: config.cluster.clone(),
        slot: slot.time(now),
        requested_by,
    };
    let event = Outgoing::backup("/libertum/backup-request", now, TraceParent::root(), &request);
    Producer::new(&config.kafka, "backup-request")?.send(&event).await?;
    println!(
        "{}",
        json!({ "backup_id": request.backup_id(), "event_id": event.envelope.id, "cluster": request.cluster })
    );
    Ok(())
}

async fn run(config: &Config, slot: Option<Slot>, requested_by: String, stop: CancellationToken) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let request = BackupRequested {
        cluster: config.cluster.clone(),
        slot: slot.unwrap_or(Slot::At(now)).time(now),
        requested_by,
    };
    let mut ctx = Context::new(Backup::NAME, Clock::system(), 0);
    ctx.cancel = stop;
    let taker = Taker::new(config).await?;
    crate::prepare(&taker.blobs).await.map_err(crate::Error::from)?;
    let progress = Progress::default();
    let manifest = tokio::select! {
        taken = taker.take(&request, &ctx, progress.clone()) => taken?,
        never = show(&progress) => match never {},
    };
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    println!("{}", serde_json::to_string(&manifest)?);
    Ok(())
}

/// Shows how much has passed, to people only.
async fn show(progress: &Progress) -> Infallible {
    let terminal = std::io::stderr().is_terminal();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        if terminal {
            eprint!("\r{:>10.1} MB stored ", progress.load(Ordering::Relaxed) as f64 / 1e6);
        }
    }
}

async fn list(config: &StoreConfig, json: bool) -> anyhow::Result<()> {
    let manifests = catalogue::list(&Blobs::new(&config.blob)?, &config.cluster).await?;
    if json {
        println!("{}", serde_json::to_string(&manifests)?);
        return Ok(());
    }
    println!(
        "{:<18} {:<21} {:>12} {:>12} {:>12}  archive",
        "backup", "finished", "bytes", "documents", "at"
    );
    for Manifest {
        backup_id,
        finished_at,
        archive,
        documents,
        consistent_at,
        ..
    } in &manifests
    {
        let finished = finished_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        println!(
            "{backup_id:<18} {finished:<21} {:>12} {documents:>12} {:>12}  {}",
            archive.size, consistent_at.t, archive.name
        );
    }
    Ok(())
}

async fn bring_back(config: &StoreConfig, id: &str, to: String, drop: bool) -> anyhow::Result<()> {
    let blobs = Blobs::new(&config.blob)?;
    let manifest = catalogue::find(&blobs, &config.cluster, id).await?;
    let tools = Tools {
        folder: config.tools.clone(),
    };
    let restored = restore::restore(&manifest, &blobs, &tools, &Secret::new(to), drop).await?;
    println!("{}", serde_json::to_string(&restored)?);
    Ok(())
}

/// Cancelled at the first SIGTERM or SIGINT: what is half done is given up, in order.
fn stop() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        stop.cancel();
    });
    Ok(token)
}

fn load<C: FromEnv>() -> Result<C, ConfigError> {
    let mut r = Reader::default();
    let config = C::read(&Env::of_process(), &mut r);
    r.finish(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_started_again_within_the_hour_asks_for_the_same_slot() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap_or_default();
        let slot = Slot::Auto.time(at("2026-11-22T02:00:07.5Z"));
        assert_eq!(slot, at("2026-11-22T02:00:00Z"));
        assert_eq!(slot, Slot::Auto.time(at("2026-11-22T02:59:59Z")));
        assert_eq!(Slot::At(at("2026-11-22T02:10:07.5Z")).time(slot), at("2026-11-22T02:10:07Z"));
        assert!("tomorrow".parse::<Slot>().is_err());
    }
}
