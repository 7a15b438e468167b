//! Deploys the token once, however often it is asked to.

use std::path::Path;
use std::time::{Duration, Instant};

use alloy::consensus::TxEip1559;
use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::providers::{DynProvider, Provider as _};
use alloy::rpc::types::{BlockNumberOrTag, TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context as _, bail};
use runtime::Exit;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::DeployArgs;
use crate::config::{DeployConfig, KeysConfig};
use crate::contract::{creation_code, deployed_code};
use crate::error::Error;
use crate::fees::Fees;
use crate::refusal::Refusal;
use crate::rpc::Chain;
use crate::signers::{account, sign_with};

/// How long a deployment may take to be mined.
const MINED: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(250);

/// A token on a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub address: messages::Address,
    /// `None` for a contract that was deployed by somebody else.
    pub tx: Option<String>,
    pub block: Option<u64>,
}

/// The file that remembers a deployment. It is written before the transaction is sent: what follows a crash is the
/// same transaction again, not a second token.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    chain_id: u64,
    #[serde(flatten)]
    deployment: Deployment,
    nonce: u64,
    raw: Bytes,
}

pub(super) async fn run(config: &DeployConfig, args: &DeployArgs) -> anyhow::Result<Exit> {
    let deployment = deploy(config, args.admin_index, args.signers, args.state.as_deref()).await?;
    println!("{}", serde_json::to_string(&deployment)?);
    Ok(Exit::Drained)
}

/// Deploys the token, or finds the one of `ASSET_TOKEN_ADDRESS` or of the state file.
///
/// # Errors
/// When the address given is no asset token, the account lacks funds, or the chain is not reachable.
pub async fn deploy(config: &DeployConfig, admin_index: u32, minters: u32, state: Option<&Path>) -> anyhow::Result<Deployment> {
    let chain = Chain::bare(&config.rpc)?;
    let id = chain.read("its chain id", |p| async move { p.get_chain_id().await }).await?;
    if id != chain.chain_id {
        let text = format!("EVM_RPC_URLS leads to chain {id}, but EVM_CHAIN_ID is {}", chain.chain_id);
        return Err(Exit::Config.error()).context(text);
    }
    if let Some(address) = config.contract {
        return existing(&chain, address).await;
    }
    if let Some(remembered) = remembered(&chain, state).await? {
        return Ok(remembered);
    }
    let admin = account(&config.keys, admin_index).await?;
    let keys = KeysConfig {
        signers: minters,
        ..config.keys.clone()
    };
    let minters = crate::signers::Signers::load(&keys).await?.addresses();
    let code = creation_code(admin.address(), minters, &config.uri_template.0)?;
    let prepared = prepare(&chain, &admin, code, config.max_fee).await?;
    if let Some(path) = state {
        remember(path, &prepared).await?;
    }
    finish(&chain, prepared, state).await
}

async fn existing(chain: &Chain, address: messages::Address) -> anyhow::Result<Deployment> {
    if chain.code(Address::from(address.0)).await? != deployed_code()? {
        let text = format!("what is at ASSET_TOKEN_ADDRESS={address} is not the asset token of this version: unset it to deploy a new one");
        return Err(Exit::Config.error()).context(text);
    }
    Ok(Deployment {
        address,
        tx: None,
        block: None,
    })
}

/// The deployment that the state file remembers, brought to its end; `None` when it can never be mined.
async fn remembered(chain: &Chain, path: Option<&Path>) -> anyhow::Result<Option<Deployment>> {
    let Some(path) = path else { return Ok(None) };
    let text = match tokio::fs::read_to_string(path).await {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("{} cannot be read", path.display())),
    };
    let state: State = serde_json::from_str(&text).with_context(|| format!("{} is damaged: remove it to deploy anew", path.display()))?;
    if state.chain_id != chain.chain_id {
        bail!(
            "{} is of chain {}, not of {}: name another file",
            path.display(),
            state.chain_id,
            chain.chain_id
        );
    }
    let address = Address::from(state.deployment.address.0);
    let code = chain.code(address).await?;
    if code == deployed_code()? && state.deployment.block.is_some() {
        return Ok(Some(state.deployment));
    }
    if !code.is_empty() && code != deployed_code()? {
        let text = format!(
            "{} remembers another version of the token at {address}: move the file away to deploy this one",
            path.display()
        );
        return Err(Exit::Config.error()).context(text);
    }
    if state.deployment.block.is_some() {
        bail!(
            "{} remembers a token at {address} that is not on the chain any more: remove the file to deploy anew",
            path.display()
        );
    }
    finish(chain, state, Some(path)).await.map(Some)
}

async fn prepare(chain: &Chain, admin: &PrivateKeySigner, code: Bytes, max_fee: u128) -> anyhow::Result<State> {
    let from = admin.address();
    let request = TransactionRequest::default().with_from(from).with_deploy_code(code.clone());
    let estimate = |p: DynProvider| {
        let request = request.clone();
        async move { p.estimate_gas(request).block(BlockNumberOrTag::Latest.into()).await }
    };
    let (nonce, market, gas, balance) = tokio::try_join!(
        chain.nonce(from),
        chain.market(),
        chain.read("a gas estimate", estimate),
        chain.balance(from)
    )?;
    let fees = Fees::first(market, max_fee);
    let gas_limit = gas + gas / 5;
    let needed = U256::from(gas_limit) * U256::from(fees.max_fee);
    if balance < needed {
        return Err(Error::Funds {
            signer: from,
            balance,
            needed,
        }
        .into());
    }
    let tx = TxEip1559 {
        chain_id: chain.chain_id,
        nonce,
        gas_limit,
        max_fee_per_gas: fees.max_fee,
        max_priority_fee_per_gas: fees.tip,
        to: TxKind::Create,
        value: U256::ZERO,
        access_list: Default::default(),
        input: code,
    };
    let signed = sign_with(admin, tx)?;
    Ok(State {
        chain_id: chain.chain_id,
        deployment: Deployment {
            address: messages::Address(from.create(nonce).into_array()),
            tx: Some(signed.hash.to_string()),
            block: None,
        },
        nonce,
        raw: signed.raw,
    })
}

/// Sends the transaction until it is mined.
async fn finish(chain: &Chain, mut state: State, path: Option<&Path>) -> anyhow::Result<Deployment> {
    let hash: B256 = state.deployment.tx.as_deref().context("a deployment has a transaction")?.parse()?;
    let deadline = Instant::now() + MINED;
    loop {
        let (refusal, why) = chain.broadcast(&state.raw).await;
        if matches!(refusal, Refusal::Never | Refusal::Funds) {
            bail!("the node refuses the deployment: {why}");
        }
        if let Some(receipt) = mined(chain, hash).await? {
            if !receipt.status() {
                bail!("the deployment {hash} reverted: remove the state file to try again");
            }
            state.deployment.block = receipt.block_number;
            if let Some(path) = path {
                remember(path, &state).await?;
            }
            info!(contract = %state.deployment.address, tx = %hash, block = state.deployment.block, "asset token deployed");
            return Ok(state.deployment);
        }
        if refusal == Refusal::NonceTooLow && mined(chain, hash).await?.is_none() {
            bail!(
                "nonce {} of the admin was used by another transaction: remove the state file to deploy anew",
                state.nonce
            );
        }
        if Instant::now() >= deadline {
            bail!(
                "the deployment {hash} was not mined within {} s; deploying again goes on with it",
                MINED.as_secs()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn mined(chain: &Chain, hash: B256) -> Result<Option<TransactionReceipt>, Error> {
    chain
        .read("a receipt", |p| async move { p.get_transaction_receipt(hash).await })
        .await
}

/// Writes the state beside its place and moves it there, so that no half of it is ever read.
async fn remember(path: &Path, state: &State) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let what = || format!("{} cannot be written", path.display());
    tokio::fs::write(&partial, serde_json::to_vec_pretty(state)?)
        .await
        .with_context(what)?;
    tokio::fs::rename(&partial, path).await.with_context(what)
}
