//! Proves a mint: recomputes key and digest from the records, and asks the chain.

use alloy::primitives::{Address, B256, U256};
use bson::doc;
use messages::{AssetId, AssetKey, Hash32, Tenant};
use runtime::Exit;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use stores::Mongo;

use crate::config::ChainAndRecords;
use crate::contract::AssetToken;
use crate::keys::{mint_digest, mint_key};
use crate::ledger::Ledger;
use crate::rpc::Chain;

/// What was found, and whether it all fits.
#[derive(Debug, Serialize)]
struct Confirmation {
    asset: String,
    state: Option<String>,
    contract: messages::Address,
    token_id: String,
    tx: Option<String>,
    block: Option<i64>,
    /// The digest that the records give, and the one that the contract keeps.
    digest: Option<String>,
    digest_on_chain: String,
    units: Option<i64>,
    /// What the recipient holds now; a recipient that has passed units on holds less.
    balance: Option<String>,
    /// Whether the hash of the stored valuation report is the evidence; `None` when there is no such report.
    report_is_evidence: Option<bool>,
    confirmed: bool,
    problems: Vec<String>,
}

pub(super) async fn run(config: &ChainAndRecords, tenant: &Tenant, asset: &AssetId, json: bool) -> anyhow::Result<Exit> {
    let found = confirm(config, tenant, asset).await?;
    if json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        println!("{} token {} on contract {}", found.asset, found.token_id, found.contract);
        for problem in &found.problems {
            println!("  {problem}");
        }
        println!("{}", if found.confirmed { "confirmed" } else { "not confirmed" });
    }
    Ok(if found.confirmed { Exit::Drained } else { Exit::Internal })
}

async fn confirm(config: &ChainAndRecords, tenant: &Tenant, asset_id: &AssetId) -> anyhow::Result<Confirmation> {
    let mongo = Mongo::new(&config.mongo).await?;
    let chain = Chain::new(&config.rpc, &config.mint)?;
    let asset = AssetKey::new(tenant.clone(), asset_id.clone());
    let key = mint_key(tenant, asset_id);
    let stored = Ledger::new(mongo.clone()).load(&[key.to_string()]).await?.pop();
    let record = mongo
        .call(async { mongo.assets().find_one(doc! { "_id": asset.to_string() }).await })
        .await?;
    let section = record.and_then(|record| record.0.mint);
    let on_chain = chain.mint_digest(key).await?;
    let mut found = Confirmation {
        asset: asset.to_string(),
        state: section
            .as_ref()
            .and_then(|s| serde_json::to_value(s.state).ok()?.as_str().map(str::to_owned)),
        contract: config.mint.contract,
        token_id: key.to_string(),
        tx: None,
        block: None,
        digest: None,
        digest_on_chain: on_chain.to_string(),
        units: None,
        balance: None,
        report_is_evidence: None,
        confirmed: false,
        problems: Vec::new(),
    };
    let Some(item) = stored else {
        found
            .problems
            .push("there is no mint item of this asset: nothing was requested, or its record is lost".to_owned());
        return Ok(found);
    };
    let units = u64::try_from(item.units)?;
    let digest = mint_digest(key, item.recipient, units, item.evidence);
    let balance = balance(&chain, item.recipient, key).await?;
    found.digest = Some(digest.to_string());
    found.units = Some(item.units);
    found.balance = Some(balance.to_string());
    found.tx = item.minted.as_ref().map(|m| m.tx.clone());
    found.block = item.minted.as_ref().map(|m| m.block);
    found.report_is_evidence = report_is(&mongo, &item.valuation_id, item.evidence).await?;
    let checks = [
        (
            digest == on_chain,
            "the contract keeps another digest under the key than the records give",
        ),
        (digest.to_string() == item.digest, "the item's digest is not that of its own fields"),
        (
            balance == U256::from(units),
            "the recipient does not hold the units that were issued",
        ),
        (
            found.report_is_evidence != Some(false),
            "the stored valuation report has another hash than the evidence",
        ),
        (
            section
                .as_ref()
                .is_some_and(|s| s.evidence == item.evidence && s.token_id == found.token_id && s.tx == found.tx),
            "the asset's record does not say what the mint item says",
        ),
        (found.state.as_deref() == Some("minted"), "the asset's record does not say minted"),
    ];
    found
        .problems
        .extend(checks.iter().filter(|(fits, _)| !fits).map(|(_, problem)| (*problem).to_owned()));
    found.confirmed = found.problems.is_empty();
    Ok(found)
}

async fn balance(chain: &Chain, holder: messages::Address, key: B256) -> anyhow::Result<U256> {
    let call = AssetToken::balanceOfCall {
        account: Address::from(holder.0),
        id: U256::from_be_bytes(key.0),
    };
    Ok(chain.view("balanceOf", None, call).await?)
}

async fn report_is(mongo: &Mongo, valuation_id: &str, evidence: Hash32) -> anyhow::Result<Option<bool>> {
    let valuation = mongo
        .call(async { mongo.valuations().find_one(doc! { "_id": valuation_id }).await })
        .await?;
    Ok(valuation.map(|v| <[u8; 32]>::from(Sha256::digest(v.0.report.as_bytes())) == evidence.0))
}
