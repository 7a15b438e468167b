//! What people and scripts do with the worker's binary, besides its main job.

mod confirm;
mod deploy;
mod status;

use std::path::PathBuf;

use messages::{AssetId, Tenant};
use runtime::{Exit, Process};

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
    /// Runs the command.
    ///
    /// # Errors
    /// Each says what to do.
    pub async fn run(self, process: &Process) -> anyhow::Result<Exit> {
        match self {
            Self::Deploy(args) => deploy::run(&process.load()?, &args).await,
            Self::Status { json } => status::run(&process.load()?, json).await,
            Self::Signers => status::signers(&process.load()?).await,
            Self::Confirm { tenant, asset, json } => confirm::run(&process.load()?, &tenant, &asset, json).await,
        }
    }
}

pub use deploy::{Deployment, deploy};
