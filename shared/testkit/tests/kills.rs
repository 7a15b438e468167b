//! `kill -9` at random moments: every asset ends minted exactly once, and its event goes out.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use messages::{AssetMinted, Message as _, topics};
use rand::RngExt as _;
use serde_json::Value;
use testkit::{Pool, Program, UNITS, until};

const ASSETS: [&str; 3] = ["casa-1", "casa-2", "casa-3"];
const WORKERS: [&str; 3] = ["ingestion", "valuation", "minting"];
/// How often the victim is killed before it is left in peace. Each kill leaves a ghost in the group, which the broker
/// holds for the session timeout of 10 s.
const KILLS: usize = 3;
/// How long the whole way may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the workers one after the other, as the scaler would, until every asset is minted. `strike` may kill the victim.
async fn run_pool(pool: &Pool, victim: &str, mut strike: impl AsyncFnMut(&mut Program) -> bool) -> usize {
    let mut kills = 0;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !all_minted(pool).await {
        assert!(tokio::time::Instant::now() < deadline, "not minted in time:\n{}", pool.log(victim));
        for name in WORKERS {
            let mut worker = pool.worker(name);
            if name == victim && kills < KILLS {
                kills += usize::from(strike(&mut worker).await);
            } else {
                until("the worker ends by itself", Duration::from_secs(60), async || {
                    worker.ended().is_some()
                })
                .await;
                let status = worker.ended().unwrap();
                assert!(status.success(), "{name} ended with {status}:\n{}", pool.log(name));
            }
        }
    }
    kills
}

async fn all_minted(pool: &Pool) -> bool {
    for asset in ASSETS {
        if pool.asset(asset).await["state"] != "minted" {
            return false;
        }
    }
    true
}

/// One log of the mint, the right balance, one event by its id, and nobody's document among the dead.
async fn assert_minted_once(pool: &mut Pool) {
    let events = pool.corner.events(topics::ASSET_EVENTS).await;
    for asset in ASSETS {
        let record = pool.asset(asset).await;
        let token_id = record["mint"]["token_id"].as_str().unwrap();
        assert_eq!(pool.minted(token_id).await, (1, UNITS), "{asset}: {record}");
        let mut minted = events
            .iter()
            .filter(|e| e.envelope().event_type == AssetMinted::TYPE && e.value["asset_id"] == asset);
        let ids: BTreeSet<_> = minted.clone().map(|e| e.envelope().id).collect();
        assert_eq!(ids.len(), 1, "{asset} has events {ids:?}");
        let told: Value = minted.next_back().unwrap().value.clone();
        assert_eq!(
            (&told["token_id"], &told["tx"]),
            (&record["mint"]["token_id"], &record["mint"]["tx"])
        );
    }
    for worker in WORKERS {
        let dead = pool.corner.events(&topics::dead(worker)).await;
        assert!(dead.is_empty(), "{worker} has dead letters: {dead:?}");
    }
    assert!(pool.intake_runs());
}

async fn killed_at_random(victim: &str) {
    let mut pool = Pool::start().await;
    for asset in ASSETS {
        pool.submit_dossier(asset).await;
    }
    let at_work = || pool.log(victim).matches("partitions assigned").count();
    let mut seen = 0;
    let kills = run_pool(&pool, victim, async |worker| {
        until("the victim is at work, or has ended", Duration::from_secs(60), async || {
            at_work() > seen || worker.ended().is_some()
        })
        .await;
        seen = at_work();
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..500))).await;
        let alive = worker.ended().is_none();
        worker.kill_dash_nine();
        alive
    })
    .await;
    assert!(kills > 0, "the victim was never alive when it was to be killed");
    assert_minted_once(&mut pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ingestion_killed_at_random_moments_loses_no_document() {
    killed_at_random("ingestion").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn valuation_killed_at_random_moments_values_every_asset() {
    killed_at_random("valuation").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn minting_killed_at_random_moments_mints_every_asset_once() {
    killed_at_random("minting").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn minting_killed_between_broadcast_and_commit_mints_every_asset_once() {
    let mut pool = Pool::start().await;
    for asset in ASSETS {
        pool.submit_dossier(asset).await;
    }
    let chain = &pool.anvil;
    let sent = async || {
        let latest = chain
            .call("eth_getBlockTransactionCountByNumber", serde_json::json!(["pending"]))
            .await;
        let pool = chain.call("txpool_status", serde_json::json!([])).await;
        latest != "0x0" || pool["pending"] != "0x0"
    };
    let kills = run_pool(&pool, "minting", async |worker| {
        // A transaction is in the node's pool, and its block is not final: the offset cannot be committed yet.
        let caught = loop {
            if worker.ended().is_some() {
                break false;
            }
            if sent().await {
                break true;
            }
        };
        worker.kill_dash_nine();
        caught
    })
    .await;
    assert!(kills > 0, "no transaction was ever seen on its way");
    assert_minted_once(&mut pool).await;
}
