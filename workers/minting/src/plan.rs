//! From items to a transaction of the next free nonce: simulate, sign, write ahead, and only then send.

use std::collections::VecDeque;

use alloy::consensus::TxEip1559;
use alloy::network::TransactionBuilder as _;
use alloy::primitives::{B256, Bytes, TxKind, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{BlockNumberOrTag, Filter, Log, TransactionRequest};
use alloy::sol_types::{SolCall as _, SolEvent as _};
use jiff::Timestamp;
use stores::records::Reason;
use tracing::{info, warn};

use crate::contract::{AssetToken, Outcome, mint_call};
use crate::desk::Desk;
use crate::error::Error;
use crate::fees::Fees;
use crate::keys::digest;
use crate::ledger::{Allocation, UsedNonce};
use crate::records::{Attempt, AttemptState, ItemState, MintItem, MintedIn, RawTx};

/// Items in one transaction; a hundred need 5.9 M gas.
pub const BATCH: usize = 100;
/// A transaction may take 16,777,216 gas (EIP-7825), and nodes do not say so when they estimate.
const GAS_LIMIT: u64 = 16_000_000;
/// Undecided transactions that a signer may have; beyond that new ones wait.
const OPEN_LIMIT: usize = 16;
/// How often a nonce is chosen anew before the others are given a moment.
const CHOICES: u32 = 32;
/// Blocks in one look for an event, at a node that does not search all of them.
const LOG_WINDOW: u64 = 10_000;

impl Desk {
    /// Plans items that no attempt carries: mints what is not on the chain, settles what is.
    pub async fn plan(&self, items: &[MintItem], now: Timestamp) -> Result<(), Error> {
        let mut fresh = Vec::new();
        for (item, outcome) in items.iter().zip(self.simulate(items).await?) {
            match outcome {
                Outcome::Minted | Outcome::Failed => fresh.push(item),
                Outcome::AlreadyMinted | Outcome::KeyConflict => self.settle_used(item, now).await?,
            }
        }
        let Some(tries) = fresh.iter().map(|item| item.tries).max() else {
            return Ok(());
        };
        let size = BATCH >> tries.clamp(0, 6);
        let mut parts: VecDeque<&[&MintItem]> = fresh.chunks(size.max(1)).collect();
        while let Some(part) = parts.pop_front() {
            match self.plan_part(part, now).await? {
                Planned::Done => {}
                Planned::TooLarge => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.push_front(second);
                    parts.push_front(first);
                }
                Planned::Later => return Ok(()),
            }
        }
        Ok(())
    }

    /// What the contract would do with these items now.
    async fn simulate(&self, items: &[MintItem]) -> Result<Vec<Outcome>, Error> {
        let call = mint_call(&items.iter().collect::<Vec<_>>()).map_err(Error::Fault)?;
        let codes = self.office.chain.view("a simulated mint", Some(self.signer), call).await?;
        let outcomes: Option<Vec<_>> = codes.into_iter().map(Outcome::from_code).collect();
        let odd = || Error::Refused {
            what: "a simulated mint",
            why: "an outcome has no meaning: check ASSET_TOKEN_ADDRESS".to_owned(),
        };
        outcomes.filter(|o| o.len() == items.len()).ok_or_else(odd)
    }

    async fn plan_part(&self, items: &[&MintItem], now: Timestamp) -> Result<Planned, Error> {
        let chain = &self.office.chain;
        let data = Bytes::from(mint_call(items).map_err(Error::Fault)?.abi_encode());
        let (head, market) = tokio::try_join!(chain.head(), chain.market())?;
        let limit = GAS_LIMIT.min(head.gas_limit);
        let gas = match self.estimate(&data).await {
            Ok(gas) if gas <= limit => gas.saturating_mul(115) / 100 + 20_000,
            Ok(_) | Err(Error::Refused { .. }) if items.len() > 1 => return Ok(Planned::TooLarge),
            Ok(gas) => gas,
            Err(e) => return Err(e),
        };
        let fees = Fees::first(market, self.office.mint.max_fee);
        let tx = self.transaction(data, gas.min(limit), fees);
        self.check_funds(&tx).await?;
        let keys: Vec<String> = items.iter().map(|item| item.key.clone()).collect();
        for _ in 0..CHOICES {
            let Some(nonce) = self.free_nonce().await? else {
                return Ok(Planned::Later);
            };
            let attempt = self.attempt(tx.clone(), nonce, &keys, head.number, now).await?;
            match self.office.ledger.allocate(&attempt).await? {
                Allocation::Done => {
                    self.send_first(&attempt).await?;
                    return Ok(Planned::Done);
                }
                Allocation::Contended => {}
                Allocation::ItemsTaken => return Ok(Planned::Later),
            }
        }
        Ok(Planned::Later)
    }

    /// Takes a nonce that nobody will take, so that those after it can be mined: an empty batch.
    pub(crate) async fn fill_gap(&self, nonce: u64, head: u64, now: Timestamp) -> Result<(), Error> {
        warn!(signer = %self.signer, nonce, "a nonce was lost, filling the gap with an empty batch");
        let data = Bytes::from(mint_call(&[]).map_err(Error::Fault)?.abi_encode());
        let gas = self.estimate(&data).await?.saturating_mul(115) / 100 + 20_000;
        let fees = Fees::first(self.office.chain.market().await?, self.office.mint.max_fee);
        let attempt = self.attempt(self.transaction(data, gas, fees), nonce, &[], head, now).await?;
        match self.office.ledger.allocate(&attempt).await? {
            Allocation::Done => self.send_first(&attempt).await,
            Allocation::Contended | Allocation::ItemsTaken => Ok(()),
        }
    }

    fn transaction(&self, data: Bytes, gas_limit: u64, fees: Fees) -> TxEip1559 {
        TxEip1559 {
            chain_id: self.office.chain.chain_id,
            nonce: 0,
            gas_limit,
            max_fee_per_gas: fees.max_fee,
            max_priority_fee_per_gas: fees.tip,
            to: TxKind::Call(self.office.chain.contract),
            value: U256::ZERO,
            access_list: Default::default(),
            input: data,
        }
    }

    async fn estimate(&self, data: &Bytes) -> Result<u64, Error> {
        let request = TransactionRequest::default()
            .with_from(self.signer)
            .with_to(self.office.chain.contract)
            .with_input(data.clone());
        let ask = |p: alloy::providers::DynProvider| {
            let request = request.clone();
            async move { p.estimate_gas(request).block(BlockNumberOrTag::Latest.into()).await }
        };
        self.office.chain.read("a gas estimate", ask).await
    }

    async fn check_funds(&self, tx: &TxEip1559) -> Result<(), Error> {
        let needed = U256::from(tx.gas_limit) * U256::from(tx.max_fee_per_gas);
        let balance = self.office.chain.balance(self.signer).await?;
        if balance >= needed {
            return Ok(());
        }
        Err(Error::Funds {
            signer: self.signer,
            balance,
            needed,
        })
    }

    /// The smallest nonce that the chain has not used and no attempt has. `None` when too much is undecided.
    async fn free_nonce(&self) -> Result<Option<u64>, Error> {
        let next = self.office.chain.nonce(self.signer).await?;
        let from = i64::try_from(next).map_err(|e| Error::Fault(e.into()))?;
        let used = self.office.ledger.used_nonces(self.chain_id(), self.signer_name(), from).await?;
        if let Some(lost) = used
            .iter()
            .find(|u| matches!(u.state, AttemptState::Final | AttemptState::Reverted))
        {
            return Err(Error::ChainLost(Attempt::id_of(self.chain_id(), self.signer_name(), lost.nonce)));
        }
        if used.iter().filter(|u| u.state == AttemptState::Open).count() >= OPEN_LIMIT {
            return Ok(None);
        }
        u64::try_from(smallest_free(from, &used))
            .map(Some)
            .map_err(|e| Error::Fault(e.into()))
    }

    async fn attempt(&self, mut tx: TxEip1559, nonce: u64, keys: &[String], head: u64, now: Timestamp) -> Result<Attempt, Error> {
        tx.nonce = nonce;
        let raw = self.sign(tx, 0, now).await?;
        let nonce = i64::try_from(nonce).map_err(|e| Error::Fault(e.into()))?;
        Ok(Attempt {
            id: Attempt::id_of(self.chain_id(), self.signer_name(), nonce),
            chain_id: self.chain_id(),
            signer: self.signer_name(),
            nonce,
            contract: self.office.mint.contract,
            items: keys.to_vec(),
            raws: vec![raw],
            bump_seq: 0,
            state: AttemptState::Open,
            sent_block: i64::try_from(head).unwrap_or(i64::MAX),
            planned_at: now,
            receipt: None,
        })
    }

    /// Signs a variant.
    pub(crate) async fn sign(&self, tx: TxEip1559, seq: i64, now: Timestamp) -> Result<RawTx, Error> {
        let (max_fee, tip) = (tx.max_fee_per_gas.to_string(), tx.max_priority_fee_per_gas.to_string());
        let signed = self.office.signers.sign(self.partition, tx).await?;
        Ok(RawTx {
            seq,
            hash: signed.hash.to_string(),
            raw: signed.raw.to_string(),
            max_fee,
            tip,
            at: now,
        })
    }

    async fn send_first(&self, attempt: &Attempt) -> Result<(), Error> {
        let hash = attempt.raws.first().map(|raw| raw.hash.as_str());
        info!(
            attempt.id,
            items = attempt.items.len(),
            tx = hash,
            "transaction written ahead, sending it"
        );
        self.send_newest(attempt).await.map(|_| ())
    }

    /// Settles an item whose key the chain says is used, once the block that used it is final everywhere.
    async fn settle_used(&self, item: &MintItem, now: Timestamp) -> Result<(), Error> {
        let key: B256 = item
            .key
            .parse()
            .map_err(|_| Error::Fault(anyhow::anyhow!("{} is no key", item.key)))?;
        let finalized = self.office.chain.finalized().await?;
        let Some(log) = self.mint_event(key, finalized).await? else {
            return Ok(());
        };
        let (Ok(event), Some(place)) = (AssetToken::AssetMinted::decode_log(&log.inner), place(&log)) else {
            return Ok(());
        };
        let minted = digest(event.key, event.to, event.amount, event.evidence);
        if minted.to_string() == item.digest {
            info!(key = item.key, tx = place.tx, "found minted on the chain");
            return self.office.ledger.settle_found(&item.key, &place, now).await;
        }
        let reason = Reason {
            code: "key-conflict".to_owned(),
            text: format!("the chain has another mint of this asset, in transaction {}", place.tx),
        };
        self.office
            .ledger
            .settle_unminted(None, &item.key, ItemState::Rejected, &reason, now)
            .await
    }

    /// The event that minted a key, when every endpoint has the same one at or below `finalized`.
    async fn mint_event(&self, key: B256, finalized: u64) -> Result<Option<Log>, Error> {
        let from = self.office.chain.contract_block.min(finalized);
        let mut windows = vec![(from, finalized)];
        let found = match self.logs(key, from, finalized).await {
            Err(Error::Refused { .. }) => {
                windows = (from..=finalized)
                    .step_by(LOG_WINDOW as usize)
                    .map(|at| (at, (at + LOG_WINDOW - 1).min(finalized)))
                    .collect();
                None
            }
            other => Some(other?),
        };
        let mut answers = found.unwrap_or_default();
        while answers.is_empty() {
            // Mints that are looked for are recent ones: their records were lost, not their years.
            let Some((from, to)) = windows.pop() else { return Ok(None) };
            answers = self.logs(key, from, to).await?;
        }
        let first = answers.first().cloned();
        Ok(first.filter(|first| answers.len() == self.office.chain.endpoints() && answers.iter().all(|log| same_place(log, first))))
    }

    /// The event of a key in these blocks, once for each endpoint that has it.
    async fn logs(&self, key: B256, from: u64, to: u64) -> Result<Vec<Log>, Error> {
        let filter = Filter::new()
            .address(self.office.chain.contract)
            .event_signature(AssetToken::AssetMinted::SIGNATURE_HASH)
            .topic1(key)
            .from_block(from)
            .to_block(to);
        let ask = |p: alloy::providers::DynProvider| {
            let filter = filter.clone();
            async move { p.get_logs(&filter).await }
        };
        Ok(self
            .office
            .chain
            .read_all("a mint's event", ask)
            .await?
            .into_iter()
            .filter_map(|logs| logs.into_iter().next())
            .collect())
    }
}

enum Planned {
    Done,
    /// More than one transaction can hold.
    TooLarge,
    /// Somebody else has them, or too much is undecided: look again later.
    Later,
}

fn place(log: &Log) -> Option<MintedIn> {
    Some(MintedIn {
        tx: log.transaction_hash?.to_string(),
        block: i64::try_from(log.block_number?).ok()?,
        block_hash: log.block_hash?.to_string(),
    })
}

fn same_place(a: &Log, b: &Log) -> bool {
    a.transaction_hash == b.transaction_hash && a.block_hash == b.block_hash
}

/// The smallest number from `from` on that is not among `used`, which is in order.
fn smallest_free(from: i64, used: &[UsedNonce]) -> i64 {
    used.iter().fold(from, |free, u| if u.nonce == free { free + 1 } else { free })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_nonce_is_the_smallest_free_one_so_gaps_close_by_themselves() {
        let used = |nonces: &[i64]| -> Vec<_> {
            let state = AttemptState::Open;
            nonces.iter().map(|n| UsedNonce { nonce: *n, state }).collect()
        };
        assert_eq!(smallest_free(5, &used(&[])), 5);
        assert_eq!(smallest_free(5, &used(&[5, 6])), 7);
        assert_eq!(smallest_free(5, &used(&[6, 7])), 5);
        assert_eq!(smallest_free(5, &used(&[5, 7])), 6);
    }
}
