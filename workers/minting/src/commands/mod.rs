//! What people and scripts do with the worker's binary, besides its main job.

mod confirm;
mod deploy;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use bus::Worker as _;
use messages::{AssetId, Tenant};
use runtime::{ConfigError, Env, Exit, FromEnv, Reader};
use stores::RedisLedger;

use crate::Handler;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Deploy the asset token, or find the deployment that is there; prints {address,tx,block}
    Deploy(DeployArgs),
    /// Show the chain, the contract, and each signer's balance, nonces and open attempts
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the signers' addresses, one a line, in the order of the partitions
    Signers,
    /// List the dead letters of the topic, or put them back
    Redrive(Box<bus::redrive::Args>),
    /// Prove an asset's mint by asking the chain; exits with 70 when it does not hold
    Confirm {
        #[arg(long)]
        tenant: Tenant,
        #[arg(long)]
        asset: AssetId,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub struct DeployArgs {
    /// The account of the mnemonic that deploys, and that grants roles afterwards
    #[arg(long, default_value_t = 15)]
    admin_index: u32,
    /// How many accounts, from the first, may mint
    #[arg(long, default_value_t = 8)]
    signers: u32,
    /// Remembers the deployment, so that deploying again finds it
    #[arg(long)]
    state: Option<PathBuf>,
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
            eprintln!("minting: {error:#}");
            Exit::from_error(&error)
        });
        ExitCode::from(exit.code())
    }

    async fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Deploy(args) => deploy::run(&load()?, &args).await,
            Self::Status { json } => status::run(&load()?, json).await,
            Self::Signers => status::signers(&load()?).await,
            Self::Redrive(args) => bus::redrive::command(Handler::NAME, *args, RedisLedger::of_process).await,
            Self::Confirm { tenant, asset, json } => confirm::run(&load()?, &tenant, &asset, json).await,
        }
    }
}

fn load<C: FromEnv>() -> Result<C, ConfigError> {
    let mut r = Reader::default();
    let config = C::read(&Env::of_process(), &mut r);
    r.finish(config)
}

pub use deploy::{Deployment, deploy};
