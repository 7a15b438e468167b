//! The intake's process.

use anyhow::Context as _;
use clap::Parser;
use intake::{Config, SERVICE};
use runtime::{CommonArgs, Exit, Process};
use stores::Blobs;
use tokio::net::TcpListener;

/// Takes documents and commands over HTTP, stores the bytes and queues the work
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    /// Create what this worker owns (the container `inbox`), then end
    #[arg(long)]
    prepare: bool,
}

fn main() {
    let cli = Cli::parse();
    runtime::run(SERVICE, |process| main_of(process, cli))
}

async fn main_of(process: Process, cli: Cli) -> anyhow::Result<Exit> {
    if cli.common.check_config {
        return process.check_config::<Config>();
    }
    let config: Config = process.load()?;
    if cli.prepare {
        intake::prepare(&Blobs::new(&config.blob)?).await?;
        return Ok(Exit::Drained);
    }
    let listener = TcpListener::bind(config.http_addr).await;
    let listener = listener.with_context(|| format!("HTTP_ADDR {} cannot be had", config.http_addr))?;
    intake::serve(&process, &config, listener).await
}
