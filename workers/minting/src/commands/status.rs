//! What the chain and the ledger say of the signers.

use alloy::primitives::Address;
use runtime::Exit;
use serde::Serialize;
use stores::Mongo;

use crate::config::{KeysConfig, PrepareConfig};
use crate::contract::AssetToken;
use crate::ledger::Ledger;
use crate::rpc::Chain;
use crate::signers::Signers;

#[derive(Debug, Serialize)]
struct Status {
    chain_id: u64,
    block: u64,
    finalized: u64,
    contract: messages::Address,
    paused: bool,
    signers: Vec<SignerStatus>,
}

#[derive(Debug, Serialize)]
struct SignerStatus {
    partition: u32,
    address: messages::Address,
    minter: bool,
    /// Wei, a decimal as text.
    balance: String,
    nonce: u64,
    open_attempts: Vec<OpenAttempt>,
}

#[derive(Debug, Serialize)]
struct OpenAttempt {
    nonce: i64,
    items: usize,
    variants: usize,
    /// The newest variant.
    tx: Option<String>,
    planned_at: jiff::Timestamp,
}

pub(super) async fn run(config: &PrepareConfig, json: bool) -> anyhow::Result<Exit> {
    let status = status(config).await?;
    if json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        print(&status);
    }
    Ok(Exit::Drained)
}

/// Prints the signers' addresses.
pub(super) async fn signers(config: &KeysOnly) -> anyhow::Result<Exit> {
    for address in Signers::load(&config.0).await?.addresses() {
        println!("{address}");
    }
    Ok(Exit::Drained)
}

/// The keys, for a command that needs nothing else.
pub struct KeysOnly(KeysConfig);

impl runtime::FromEnv for KeysOnly {
    fn read(env: &runtime::Env, r: &mut runtime::Reader) -> Option<Self> {
        KeysConfig::read(env, r).map(Self)
    }
}

async fn status(config: &PrepareConfig) -> anyhow::Result<Status> {
    let ledger = Ledger::new(Mongo::new(&config.mongo).await?);
    let chain = Chain::new(&config.rpc, &config.mint)?;
    let keys = Signers::load(&config.keys).await?;
    let (head, finalized, paused) = tokio::try_join!(
        chain.head(),
        chain.finalized(),
        chain.view("paused", None, AssetToken::pausedCall {})
    )?;
    let mut signers = Vec::new();
    for (partition, address) in (0..).zip(keys.addresses()) {
        signers.push(signer(&ledger, &chain, partition, address).await?);
    }
    Ok(Status {
        chain_id: chain.chain_id,
        block: head.number,
        finalized,
        contract: config.mint.contract,
        paused,
        signers,
    })
}

async fn signer(ledger: &Ledger, chain: &Chain, partition: u32, address: Address) -> anyhow::Result<SignerStatus> {
    let name = messages::Address(address.into_array());
    let (minter, balance, nonce, open) = tokio::try_join!(
        chain.is_minter(address),
        chain.balance(address),
        chain.nonce(address),
        ledger.open_attempts(i64::try_from(chain.chain_id).unwrap_or(i64::MAX), name)
    )?;
    let open_attempts = open.into_iter().map(|attempt| OpenAttempt {
        nonce: attempt.nonce,
        items: attempt.items.len(),
        variants: attempt.raws.len(),
        tx: attempt.raws.last().map(|raw| raw.hash.clone()),
        planned_at: attempt.planned_at,
    });
    Ok(SignerStatus {
        partition,
        address: name,
        minter,
        balance: balance.to_string(),
        nonce,
        open_attempts: open_attempts.collect(),
    })
}

fn print(status: &Status) {
    println!(
        "chain {}: block {}, final up to {}",
        status.chain_id, status.block, status.finalized
    );
    println!("contract {}{}", status.contract, if status.paused { ", paused" } else { "" });
    println!(
        "{:>9}  {:42}  {:6}  {:>24}  {:>6}  {:>5}",
        "partition", "signer", "minter", "balance (wei)", "nonce", "open"
    );
    for s in &status.signers {
        let minter = if s.minter { "yes" } else { "NO" };
        let (address, open) = (s.address.to_string(), s.open_attempts.len());
        println!(
            "{:>9}  {address:42}  {minter:6}  {:>24}  {:>6}  {open:>5}",
            s.partition, s.balance, s.nonce
        );
        for a in &s.open_attempts {
            let tx = a.tx.as_deref().unwrap_or("-");
            println!(
                "           nonce {}: {} items, {} variants, since {}, {tx}",
                a.nonce, a.items, a.variants, a.planned_at
            );
        }
    }
}
