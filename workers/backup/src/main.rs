//! The backup worker, and what people and CronJobs do with it.

use std::process::ExitCode;

use backup::commands::Command;
use backup::{Backup, Config, WorkerConfig, prepare};
use bus::Worker as _;
use clap::Parser;
use runtime::{CommonArgs, Exit, Process, Service};
use stores::{Blobs, RedisLedger};

/// Backs up the database until nobody asks for more: mongodump into Blob, one backup at a time
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    /// Create what this worker owns, then end
    #[arg(long)]
    prepare: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

const SERVICE: Service = Service {
    name: Backup::NAME,
    version: env!("CARGO_PKG_VERSION"),
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(command) => command.main(),
        None => runtime::run(SERVICE, move |process| work(process, cli.common, cli.prepare)),
    }
}

async fn work(process: Process, common: CommonArgs, prepare_only: bool) -> anyhow::Result<Exit> {
    if common.check_config {
        return process.check_config::<WorkerConfig>();
    }
    if prepare_only {
        let config: Config = process.load()?;
        prepare(&Blobs::new(&config.blob)?).await?;
        return Ok(Exit::Drained);
    }
    let config: WorkerConfig = process.load()?;
    let ledger = RedisLedger::new(&config.ledger)?;
    bus::run(&process, &config.run, ledger, Backup::connect(&config.backup)).await
}
