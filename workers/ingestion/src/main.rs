//! `ingestion`: takes documents in and closes dossiers, until there is nothing left to do.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use ingestion::{Config, Handler, NAME, PrepareConfig};
use runtime::{Exit, Process, Service};

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
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Inspect { files, valuation_date }) = cli.command {
        return ingestion::inspect::main(&files, valuation_date);
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
        bus::run(&process, &config.run, Handler::connect(&config)).await
    })
}
