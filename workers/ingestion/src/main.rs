//! `ingestion`: takes documents in and closes dossiers, until there is nothing left to do.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use ingestion::{Config, Handler, NAME, PrepareConfig};
use runtime::{Exit, Process, Service};
use stores::RedisLedger;

/// Takes documents in: verifies, stores and reads them, and closes dossiers
#[derive(clap::Parser)]
#[command(version, about)]
struct Cli {
    #[command(flatten)]
    common: runtime::CommonArgs,
    /// Create what this worker owns (collections, indexes, containers), then end
    #[arg(long)]
    prepare: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print as JSON what ingestion would conclude from files, and from all of them as one dossier; needs no server
    Inspect {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The date as of which to value, when the files do not name one; today otherwise
        #[arg(long)]
        valuation_date: Option<jiff::civil::Date>,
    },
    /// List the dead letters of the topic, or put them back
    Redrive(Box<bus::redrive::Args>),
    /// Read one document from standard input, within limits: what the worker starts for each document
    #[command(hide = true)]
    ReadChild {
        #[command(flatten)]
        limits: ingestion::Limits,
        /// Answer what stands in it besides facts that we know, for people
        #[arg(long)]
        seen: bool,
        /// What the bytes are, as JSON
        detected: String,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Inspect { files, valuation_date }) => return ingestion::inspect::main(&files, valuation_date),
        Some(Command::Redrive(args)) => return bus::redrive::main(NAME, *args, RedisLedger::of_process),
        Some(Command::ReadChild { limits, seen, detected }) => return ingestion::child::main(limits, seen, &detected),
        None => {}
    }
    let service = Service {
        name: NAME,
        version: env!("CARGO_PKG_VERSION"),
    };
    runtime::run(service, move |process: Process| async move {
        if cli.common.check_config {
            return process.check_config::<Config>();
        }
        if cli.prepare {
            ingestion::prepare(&process.load::<PrepareConfig>()?).await?;
            return Ok(Exit::Drained);
        }
        let config: Config = process.load()?;
        bus::run(
            &process,
            &config.run,
            RedisLedger::new(&config.cache)?,
            Handler::connect(&config, process.metrics.meter()),
        )
        .await
    })
}
