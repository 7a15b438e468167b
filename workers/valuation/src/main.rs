use std::process::ExitCode;

use bus::Worker as _;
use clap::Parser as _;
use runtime::{CommonArgs, Exit, Process, Service};
use stores::{Mongo, RedisLedger};
use valuation::command::{self, AppraiseArgs};
use valuation::{Config, Valuation, prepare};

/// Values assets from their facts: every request on the topic, then ends; or one fact sheet, by hand
#[derive(Debug, clap::Parser)]
#[command(version, about)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    /// Create what this worker owns in the database, then end
    #[arg(long)]
    prepare: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Value the asset of a fact sheet and print the report; needs no server
    Appraise(AppraiseArgs),
    /// List the dead letters of the topic, or put them back
    Redrive(Box<bus::redrive::Args>),
}

const SERVICE: Service = Service {
    name: Valuation::NAME,
    version: env!("CARGO_PKG_VERSION"),
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Appraise(args)) => command::run(&args),
        Some(Command::Redrive(args)) => bus::redrive::main(Valuation::NAME, *args, RedisLedger::of_process),
        None => runtime::run(SERVICE, move |process| work(process, cli.common, cli.prepare)),
    }
}

async fn work(process: Process, common: CommonArgs, prepare_only: bool) -> anyhow::Result<Exit> {
    if common.check_config {
        return process.check_config::<Config>();
    }
    let config: Config = process.load()?;
    if prepare_only {
        prepare(&Mongo::new(&config.mongo).await?).await?;
        return Ok(Exit::Drained);
    }
    bus::run(&process, &config.run, RedisLedger::new(&config.cache)?, Valuation::connect(&config)).await
}
