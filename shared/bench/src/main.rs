//! Measures the loop beside what it stands on. `scripts/bench` runs it.

mod bare;
mod child;
mod cold_start;
mod corner;
mod figures;
mod groups;
mod lanes;
mod resources;
mod scalers;
mod throughput;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;

/// Measures the loop beside what it stands on
#[derive(clap::Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Throughput, concurrency, memory, and the processor while there is nothing to do
    Bus,
    /// From the start of a process to its first message, and from its last one to the end
    ColdStart,
    /// What members that come, go and die cost those who stay
    Groups,
    /// A simulation of up to a million looks: how fast, and in how much memory
    Scalers,
    /// A worker that is measured; it reads a worker's environment
    #[command(hide = true)]
    Worker(worker::Args),
    /// What a worker is compared with
    #[command(hide = true)]
    Bare(bare::Args),
}

fn main() -> ExitCode {
    let main_ns = child::now_ns();
    let done = match Cli::parse().command {
        Command::Bus => bus_figures().and_then(|figures| figures::tell("bus", &figures)),
        Command::ColdStart => cold_start::measure().and_then(|figures| figures::tell("cold-start", &figures)),
        Command::Groups => groups::measure().and_then(|figures| figures::tell("groups", &figures)),
        Command::Scalers => scalers::measure().and_then(|figures| figures::tell("scalers", &figures)),
        Command::Worker(args) => worker::run(args, main_ns),
        Command::Bare(args) => bare::run(&args, main_ns).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::from(70)
        }
    }
}

fn bus_figures() -> anyhow::Result<Vec<figures::Figure>> {
    let mut all = throughput::measure()?;
    all.extend(lanes::measure()?);
    all.extend(resources::measure()?);
    Ok(all)
}
