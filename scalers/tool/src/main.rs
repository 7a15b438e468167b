use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    scalers::run_cli(scalers::Cli::parse())
}
