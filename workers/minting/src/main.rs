//! The minting worker, and what people do with it.

use std::process::ExitCode;

use clap::Parser;
use minting::commands::Command;
use minting::{Config, Handler, prepare};
use runtime::{CommonArgs, Service};
use stores::RedisLedger;

const SERVICE: Service = Service {
    name: "minting",
    version: env!("CARGO_PKG_VERSION"),
};

/// Mints the tokens of valued assets until there is nothing left to mint, and speaks only of what is final
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    /// Create what this worker owns and check the contract, then end
    #[arg(long)]
    prepare: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(command) = cli.command {
        return command.main();
    }
    runtime::run(SERVICE, |process| async move {
        if cli.common.check_config {
            return process.check_config::<Config>();
        }
        if cli.prepare {
            return prepare::prepare(&process.load()?).await;
        }
        let config: Config = process.load()?;
        bus::run(&process, &config.run, RedisLedger::new(&config.cache)?, Handler::connect(&config)).await
    })
}
