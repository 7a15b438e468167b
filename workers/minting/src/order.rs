//! A request as the worker sees it: the item that it asks for, and what follows from the item that is there.

use alloy::primitives::Address;
use bus::{Context, Emit, Failure};
use jiff::Timestamp;
use messages::{AssetMinted, Envelope, Event, Message as _, MintRejected, MintVerdict, MintingPayload, Outgoing, caused_id};
use stores::records::Reason;

use crate::keys::{mint_digest, mint_key};
use crate::records::{ItemState, MintItem};

/// Where the mint happens.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub chain_id: u64,
    pub contract: messages::Address,
}

/// The item that a request asks for. Nothing in it is random, so the same request always asks for the same.
pub fn wanted(event: &Event<MintingPayload>, place: Place, now: Timestamp) -> MintItem {
    let MintingPayload::Requested(request) = &event.payload;
    let key = mint_key(&event.envelope.tenant, &request.asset_id);
    let digest = mint_digest(key, request.recipient, request.units, request.evidence);
    MintItem {
        key: key.to_string(),
        tenant: event.envelope.tenant.clone(),
        asset_id: request.asset_id.clone(),
        digest: digest.to_string(),
        recipient: request.recipient,
        units: i64::try_from(request.units).unwrap_or(i64::MAX),
        evidence: request.evidence,
        valuation_id: request.valuation_id.clone(),
        chain_id: i64::try_from(place.chain_id).unwrap_or(i64::MAX),
        contract: place.contract,
        state: ItemState::Planned,
        open_attempt: None,
        tries: 0,
        reason: None,
        minted: None,
        cause: event.envelope.id,
        trace_id: event.envelope.trace.trace_id(),
        first_seen: now,
        settled_at: None,
    }
}

/// What is wrong with a request by itself: the contract would refuse it, at the price of the gas.
pub fn problem(event: &Event<MintingPayload>) -> Option<Reason> {
    let MintingPayload::Requested(request) = &event.payload;
    let (code, text) = if request.units == 0 {
        ("zero-units", "the number of units is zero")
    } else if i64::try_from(request.units).is_err() {
        ("too-many-units", "the number of units is beyond 9223372036854775807")
    } else if request.recipient.0 == Address::ZERO.into_array() {
        ("zero-recipient", "the recipient is the zero address")
    } else if request.evidence.0 == [0; 32] {
        ("zero-evidence", "the hash of the valuation report is zero")
    } else {
        return None;
    };
    Some(Reason {
        code: code.to_owned(),
        text: text.to_owned(),
    })
}

/// What an item that is there means for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is on its way.
    Wait,
    Minted,
    Rejected(Reason),
    Failed(Reason),
    /// It ended unminted, for another request or in an earlier try: it is ours now.
    Reopen,
}

/// Judges. `fresh` on the first look at a request in this try: a failure from before is tried again, one that
/// happens under our eyes is reported.
pub fn judge(stored: &MintItem, wanted: &MintItem, fresh: bool) -> Verdict {
    let reason = || {
        stored.reason.clone().unwrap_or(Reason {
            code: "mint-failed".to_owned(),
            text: "no reason was kept".to_owned(),
        })
    };
    if (stored.chain_id, stored.contract) != (wanted.chain_id, wanted.contract) {
        return Verdict::Failed(Reason {
            code: "other-contract".to_owned(),
            text: format!(
                "the asset belongs to contract {} on chain {}: a contract is not replaced under its records",
                stored.contract, stored.chain_id
            ),
        });
    }
    let same = stored.digest == wanted.digest;
    match stored.state {
        ItemState::Planned if same => Verdict::Wait,
        ItemState::Minted if same => Verdict::Minted,
        ItemState::Planned | ItemState::Minted => Verdict::Rejected(conflict(stored)),
        ItemState::Rejected if same && (stored.cause == wanted.cause || !fresh) => Verdict::Rejected(reason()),
        ItemState::Failed if same && !fresh => Verdict::Failed(reason()),
        ItemState::Rejected | ItemState::Failed => Verdict::Reopen,
    }
}

fn conflict(stored: &MintItem) -> Reason {
    Reason {
        code: "key-conflict".to_owned(),
        text: format!(
            "the asset has another issuance already: {} units to {} for valuation {}",
            stored.units, stored.recipient, stored.valuation_id
        ),
    }
}

/// The event of a mint that is final: the same for every request that asked for it, so that it counts once.
pub fn minted(ctx: &Context, cause: &Envelope, item: &MintItem) -> Result<Emit, Failure> {
    let Some(place) = &item.minted else {
        return Err(Failure::Failed(anyhow::anyhow!(
            "item {} is minted but does not say where",
            item.key
        )));
    };
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let message = AssetMinted {
        asset_id: item.asset_id.clone(),
        chain_id: number(item.chain_id),
        contract: item.contract,
        token_id: item.key.clone(),
        recipient: item.recipient,
        units: number(item.units),
        evidence: item.evidence,
        tx: place.tx.clone(),
        block: number(place.block),
        block_hash: place.block_hash.clone(),
    };
    let mut event = ctx.caused(cause, subject(item), &message);
    event.envelope.id = caused_id(item.cause, AssetMinted::TYPE, &subject(item));
    event.envelope.time = item.settled_at.unwrap_or(event.envelope.time);
    Ok(event.into())
}

/// The end of a request that is wrong.
pub fn rejected(ctx: &Context, cause: &Envelope, item: &MintItem, reason: &Reason) -> Failure {
    let message = MintRejected(verdict_on(item, reason));
    let event: Outgoing = ctx.caused(cause, subject(item), &message);
    Failure::Rejected {
        emit: event.into(),
        reason: format!("{}: {}", reason.code, reason.text),
    }
}

pub fn verdict_on(item: &MintItem, reason: &Reason) -> MintVerdict {
    MintVerdict {
        asset_id: item.asset_id.clone(),
        valuation_id: item.valuation_id.clone(),
        code: reason.code.clone(),
        reason: reason.text.clone(),
    }
}

/// The CloudEvents subject of an item's events.
pub fn subject(item: &MintItem) -> String {
    format!("assets/{}", item.asset_id)
}

#[cfg(test)]
mod tests {
    use messages::{AssetKey, Hash32, MintRequested, TraceParent};

    use super::*;

    fn event(units: u64) -> Event<MintingPayload> {
        let asset = AssetKey::new("acme".parse().unwrap(), "madrid-1".parse().unwrap());
        let request = MintRequested {
            asset_id: asset.asset_id.clone(),
            valuation_id: "acme/v".to_owned(),
            evidence: Hash32([1; 32]),
            recipient: messages::Address([2; 20]),
            units,
            requested_by: "ana".to_owned(),
        };
        let out = Outgoing::first(
            messages::new_id(),
            "/t",
            "s".to_owned(),
            &asset,
            Timestamp::UNIX_EPOCH,
            TraceParent::root(),
            &request,
        );
        Event {
            envelope: out.envelope,
            payload: MintingPayload::Requested(request),
        }
    }

    fn item(units: u64) -> MintItem {
        let place = Place {
            chain_id: 1,
            contract: messages::Address([3; 20]),
        };
        wanted(&event(units), place, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn one_issuance_an_asset_whoever_asks() {
        let ours = item(7);
        let with = |state| MintItem { state, ..ours.clone() };
        let other = item(8);
        for fresh in [true, false] {
            assert_eq!(judge(&with(ItemState::Planned), &ours, fresh), Verdict::Wait);
            assert_eq!(judge(&with(ItemState::Minted), &ours, fresh), Verdict::Minted);
            for state in [ItemState::Planned, ItemState::Minted] {
                let verdict = judge(&with(state), &other, fresh);
                assert!(matches!(verdict, Verdict::Rejected(r) if r.code == "key-conflict"), "{state:?}");
            }
            for state in [ItemState::Rejected, ItemState::Failed] {
                assert_eq!(judge(&with(state), &other, fresh), Verdict::Reopen, "an unminted key is free");
            }
        }
    }

    #[test]
    fn a_failure_is_tried_again_and_a_rejection_only_for_a_new_request() {
        let ours = item(7);
        let failed = MintItem {
            state: ItemState::Failed,
            ..ours.clone()
        };
        assert_eq!(judge(&failed, &ours, true), Verdict::Reopen);
        assert!(matches!(judge(&failed, &ours, false), Verdict::Failed(_)));
        let rejected = MintItem {
            state: ItemState::Rejected,
            ..ours.clone()
        };
        assert!(matches!(judge(&rejected, &ours, true), Verdict::Rejected(_)));
        assert_eq!(judge(&rejected, &item(7), true), Verdict::Reopen);
    }

    #[test]
    fn another_contract_is_never_minted_on_under_the_old_records() {
        let ours = item(7);
        let moved = MintItem {
            contract: messages::Address([9; 20]),
            state: ItemState::Minted,
            ..ours.clone()
        };
        assert!(matches!(judge(&moved, &ours, true), Verdict::Failed(r) if r.code == "other-contract"));
    }

    #[test]
    fn what_the_contract_would_refuse_costs_no_gas() {
        assert_eq!(problem(&event(1)), None);
        assert_eq!(problem(&event(0)).unwrap().code, "zero-units");
        assert_eq!(problem(&event(u64::MAX)).unwrap().code, "too-many-units");
    }
}
