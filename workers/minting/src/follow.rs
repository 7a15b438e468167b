//! Follows a signer's open attempts to finality. Whoever holds a desk of the signer may do this, for its own
//! attempts and for those of processes that died; an unknown outcome is answered by sending the same bytes again.

use std::time::{Duration, Instant};

use alloy::consensus::{Transaction as _, TxEnvelope};
use alloy::eips::eip2718::Decodable2718 as _;
use alloy::primitives::{B256, Bytes};
use alloy::providers::Provider as _;
use alloy::rpc::types::TransactionReceipt;
use anyhow::Context as _;
use jiff::Timestamp;
use tracing::{debug, info, warn};

use crate::desk::{Desk, Following, Seen};
use crate::error::Error;
use crate::fees::Fees;
use crate::records::{Attempt, AttemptState, MintItem, RawTx};
use crate::refusal::Refusal;
use crate::rpc::Head;
use crate::settle::{Said, place_of, record_of, said_of};

/// Bytes are sent again at every block, and after this long when there are no blocks.
const SEND_AGAIN: Duration = Duration::from_secs(15);
/// Variants of one attempt; the fee cap is reached long before.
const VARIANTS: usize = 64;

/// The chain at one moment.
struct View {
    head: Head,
    finalized: u64,
    /// The signer's next nonce at the newest block.
    nonce: u64,
}

impl Desk {
    /// Looks at the signer's open attempts, unless that was done a moment ago.
    pub async fn follow(&self, now: Timestamp) -> Result<(), Error> {
        let mut following = self.following.lock().await;
        let pause = following.pace.poll() / 2;
        if following.last.is_some_and(|last| last.elapsed() < pause) {
            return Ok(());
        }
        let result = self.follow_all(&mut following, now).await;
        following.last = Some(Instant::now());
        result
    }

    async fn follow_all(&self, following: &mut Following, now: Timestamp) -> Result<(), Error> {
        let attempts = self.office.ledger.open_attempts(self.chain_id(), self.signer_name()).await?;
        following.seen.retain(|id, _| attempts.iter().any(|a| a.id == *id));
        if attempts.is_empty() {
            return Ok(());
        }
        let chain = &self.office.chain;
        let (head, finalized, nonce) = tokio::try_join!(chain.head(), chain.finalized(), chain.nonce(self.signer))?;
        following.pace.observe(head);
        let view = View { head, finalized, nonce };
        for attempt in &attempts {
            let seen = following.seen.entry(attempt.id.clone()).or_insert(Seen {
                since: head.number,
                sent: None,
            });
            self.follow_one(seen, attempt, &view, now).await?;
        }
        self.look_for_gap(&attempts, following, &view, now).await
    }

    async fn follow_one(&self, seen: &mut Seen, attempt: &Attempt, view: &View, now: Timestamp) -> Result<(), Error> {
        match self.receipt(attempt).await? {
            Some(receipt) if receipt.block_number.is_some_and(|block| block <= view.finalized) => {
                self.settle(attempt, receipt.transaction_hash, now).await
            }
            Some(_) => Ok(()),
            None if nonce_of(attempt) < view.nonce => self.supersede(attempt, view).await,
            None => self.keep_sent(seen, attempt, view, now).await,
        }
    }

    /// The receipt of whichever variant was mined, at the first endpoint that answers.
    async fn receipt(&self, attempt: &Attempt) -> Result<Option<TransactionReceipt>, Error> {
        for hash in hashes(attempt).into_iter().rev() {
            let ask = |p: alloy::providers::DynProvider| async move { p.get_transaction_receipt(hash).await };
            if let Some(receipt) = self.office.chain.read("a receipt", ask).await? {
                return Ok(Some(receipt));
            }
        }
        Ok(None)
    }

    /// Settles an attempt, if every endpoint has the transaction in the same block and that block on its chain.
    async fn settle(&self, attempt: &Attempt, hash: B256, now: Timestamp) -> Result<(), Error> {
        let chain = &self.office.chain;
        let ask = |p: alloy::providers::DynProvider| async move { p.get_transaction_receipt(hash).await };
        let receipts: Option<Vec<_>> = chain.read_all("a final receipt", ask).await?.into_iter().collect();
        let Some(receipt) = receipts.as_ref().and_then(|all| all.first()) else {
            return Ok(());
        };
        let Some(number) = receipt.block_number else { return Ok(()) };
        let ask = |p: alloy::providers::DynProvider| async move { p.get_block_by_number(number.into()).await };
        let blocks = chain.read_all("a final block", ask).await?;
        let agreed = receipts.iter().flatten().all(|r| r.block_hash == receipt.block_hash)
            && blocks.iter().all(|b| b.as_ref().map(|b| b.header.hash) == receipt.block_hash);
        let Some(record) = record_of(receipt).filter(|_| agreed) else {
            warn!(attempt.id, "endpoints do not agree on a final receipt yet");
            return Ok(());
        };
        let ledger = &self.office.ledger;
        if !record.succeeded {
            warn!(
                attempt.id,
                tx = record.hash,
                "the whole batch reverted, planning it anew in smaller parts"
            );
            ledger.release(&attempt.id, true).await?;
            return ledger.close(&attempt.id, AttemptState::Reverted, Some(&record)).await;
        }
        self.settle_items(attempt, receipt, &place_of(&record), now).await?;
        info!(
            attempt.id,
            tx = record.hash,
            block = record.block,
            gas_used = record.gas_used,
            "transaction is final"
        );
        ledger.close(&attempt.id, AttemptState::Final, Some(&record)).await
    }

    async fn settle_items(
        &self,
        attempt: &Attempt,
        receipt: &TransactionReceipt,
        place: &crate::records::MintedIn,
        now: Timestamp,
    ) -> Result<(), Error> {
        let ledger = &self.office.ledger;
        let said = said_of(receipt, self.office.chain.contract);
        let mut minted = Vec::new();
        for item in ledger.load(&attempt.items).await? {
            match said_to(&said, &item) {
                Some(Said::Minted(digest)) if digest.to_string() == item.digest => minted.push(item.key),
                Some(Said::Unminted(state, reason)) => {
                    ledger.settle_unminted(Some(&attempt.id), &item.key, *state, reason, now).await?;
                }
                // Used before: planning it anew finds where.
                Some(Said::Minted(_) | Said::UsedBefore) | None => {}
            }
        }
        ledger.settle_minted(&attempt.id, &minted, place, now).await?;
        ledger.release(&attempt.id, false).await
    }

    /// Gives up an attempt whose nonce another transaction has used for good.
    async fn supersede(&self, attempt: &Attempt, view: &View) -> Result<(), Error> {
        let chain = &self.office.chain;
        let (signer, at) = (self.signer, view.finalized);
        let ask = |p: alloy::providers::DynProvider| async move { p.get_transaction_count(signer).number(at).await };
        let final_nonces = chain.read_all("a final nonce", ask).await?;
        if final_nonces.iter().any(|n| *n <= nonce_of(attempt)) {
            return Ok(());
        }
        // Only now: a receipt that is missing after the nonce is final everywhere will never come.
        for hash in hashes(attempt) {
            let ask = |p: alloy::providers::DynProvider| async move { p.get_transaction_receipt(hash).await };
            if chain.read_all("a receipt", ask).await?.iter().any(Option::is_some) {
                return Ok(());
            }
        }
        warn!(
            attempt.id,
            "its nonce was used by a transaction that is not ours, planning its items anew"
        );
        self.office.ledger.release(&attempt.id, false).await?;
        self.office.ledger.close(&attempt.id, AttemptState::Superseded, None).await
    }

    /// Sends the bytes once more at every block; offers more for the lowest nonce when it has waited too long.
    async fn keep_sent(&self, seen: &mut Seen, attempt: &Attempt, view: &View, now: Timestamp) -> Result<(), Error> {
        let lowest = nonce_of(attempt) == view.nonce;
        let since = seen.since.max(u64::try_from(attempt.sent_block).unwrap_or(0));
        let overdue = view.head.number >= since.saturating_add(self.office.mint.bump_blocks);
        let mut attempt = attempt.clone();
        let mut bumped = false;
        if lowest && overdue && seen.sent.is_some() {
            bumped = self.bump(&mut attempt, view, now).await?;
            seen.since = view.head.number;
        }
        let due = seen
            .sent
            .is_none_or(|(at, block)| block != view.head.number || at.elapsed() >= SEND_AGAIN);
        if !due && !bumped {
            return Ok(());
        }
        seen.sent = Some((Instant::now(), view.head.number));
        let too_low = self.send_newest(&attempt).await?;
        if too_low && lowest && !bumped && self.bump(&mut attempt, view, now).await? {
            self.send_newest(&attempt).await?;
        }
        Ok(())
    }

    /// Sends the newest variant. True when the node says that it offers too little.
    pub(crate) async fn send_newest(&self, attempt: &Attempt) -> Result<bool, Error> {
        let raw = newest(attempt)?;
        let bytes: Bytes = raw.raw.parse().map_err(|_| corrupt(attempt))?;
        let (refusal, why) = self.office.chain.broadcast(&bytes).await;
        debug!(attempt.id, tx = raw.hash, answer = ?refusal, why, "transaction sent");
        match refusal {
            Refusal::Known | Refusal::NonceTooLow | Refusal::Replacement | Refusal::TooFarAhead => Ok(false),
            Refusal::Unknown => {
                warn!(
                    attempt.id,
                    tx = raw.hash,
                    why,
                    "it is unknown whether the transaction was taken, it will be sent again"
                );
                Ok(false)
            }
            Refusal::FeeTooLow => Ok(true),
            Refusal::Funds => Err(Error::NodeSaysFunds(self.signer)),
            Refusal::Never => Err(Error::Unacceptable {
                attempt: attempt.id.clone(),
                why,
            }),
        }
    }

    /// Adds a variant that offers more and is otherwise the same. False when another process did, or at the cap.
    async fn bump(&self, attempt: &mut Attempt, view: &View, now: Timestamp) -> Result<bool, Error> {
        let raw = newest(attempt)?;
        let bytes: Bytes = raw.raw.parse().map_err(|_| corrupt(attempt))?;
        let envelope = TxEnvelope::decode_2718(&mut bytes.as_ref()).map_err(|_| corrupt(attempt))?;
        let Some(signed) = envelope.as_eip1559() else {
            return Err(corrupt(attempt));
        };
        let mut tx = signed.tx().clone();
        let old = Fees {
            max_fee: tx.max_fee_per_gas(),
            tip: tx.max_priority_fee_per_gas,
        };
        let market = self.office.chain.market().await?;
        let offer = old
            .bumped(market, self.office.mint.max_fee)
            .filter(|_| attempt.raws.len() < VARIANTS);
        let Some(offer) = offer else {
            warn!(
                attempt.id,
                max_fee = old.max_fee,
                "the fee is at its limit, waiting: raise EVM_MAX_FEE_GWEI to go on"
            );
            return Ok(false);
        };
        tx.max_fee_per_gas = offer.max_fee;
        tx.max_priority_fee_per_gas = offer.tip;
        let raw = self.sign(tx, attempt.bump_seq + 1, now).await?;
        let block = i64::try_from(view.head.number).unwrap_or(i64::MAX);
        if !self.office.ledger.push_variant(attempt, &raw, block).await? {
            return Ok(false);
        }
        info!(attempt.id, tx = raw.hash, max_fee = offer.max_fee, tip = offer.tip, "offering more");
        attempt.bump_seq = raw.seq;
        attempt.raws.push(raw);
        Ok(true)
    }

    /// A lost record can leave a nonce that nobody will use, and those after it would wait for ever.
    async fn look_for_gap(&self, attempts: &[Attempt], following: &Following, view: &View, now: Timestamp) -> Result<(), Error> {
        let Some(lowest) = attempts.first() else { return Ok(()) };
        let waited = following
            .seen
            .get(&lowest.id)
            .map_or(0, |seen| view.head.number.saturating_sub(seen.since));
        if nonce_of(lowest) <= view.nonce || waited < self.office.mint.bump_blocks {
            return Ok(());
        }
        self.fill_gap(view.nonce, view.head.number, now).await
    }
}

fn said_to<'s>(said: &'s std::collections::HashMap<B256, Said>, item: &MintItem) -> Option<&'s Said> {
    item.key.parse().ok().and_then(|key: B256| said.get(&key))
}

fn hashes(attempt: &Attempt) -> Vec<B256> {
    attempt.raws.iter().filter_map(|raw| raw.hash.parse().ok()).collect()
}

fn nonce_of(attempt: &Attempt) -> u64 {
    u64::try_from(attempt.nonce).unwrap_or(0)
}

fn newest(attempt: &Attempt) -> Result<&RawTx, Error> {
    attempt
        .raws
        .last()
        .with_context(|| format!("attempt {} has no bytes", attempt.id))
        .map_err(Error::Fault)
}

fn corrupt(attempt: &Attempt) -> Error {
    Error::Fault(anyhow::anyhow!("the bytes of attempt {} cannot be read", attempt.id))
}
