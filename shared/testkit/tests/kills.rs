//! `kill -9` at random moments: every asset ends minted exactly once, and its event goes out.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::time::Duration;

use rand::RngExt as _;
use testkit::{Job, Pool, Program, WORKERS, until};

const ASSETS: [&str; 3] = ["casa-1", "casa-2", "casa-3"];
/// How often a worker is killed at random moments.
const RANDOM_KILLS: usize = 10;
/// How often it is killed at the worst moment, before it is left in peace.
///
/// Each kill leaves a ghost in the group, which the broker holds for the session timeout of 10 s.
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

/// The scaler runs the pool. A dossier is sent for each kill, which falls while the victim holds partitions; the next
/// follows when that dossier is minted, because the scaler waits longer after each failure in a row.
async fn killed_at_random(victim: &str) {
    let mut pool = Pool::start().await;
    let mut scaler = pool.scaler();
    let mut assets = Vec::new();
    let mut killed = HashSet::new();
    while killed.len() < RANDOM_KILLS {
        assert!(assets.len() < 2 * RANDOM_KILLS, "the victim mostly ends before it can be killed");
        let asset = format!("casa-{}", assets.len());
        pool.submit_dossier(&asset).await;
        assets.push(asset);
        let mut found = None;
        until("a victim is at work", Duration::from_secs(60), async || {
            let at_work = |job: &Job| !killed.contains(&(job.name.clone(), job.pid)) && holds_partitions(&job.log());
            found = scaler.running(victim).into_iter().find(at_work);
            found.is_some()
        })
        .await;
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..500))).await;
        let job = found.unwrap();
        // It may have ended meanwhile; then the next one has to serve.
        if job.kill_dash_nine() {
            killed.insert((job.name, job.pid));
        }
        until("the dossier is minted all the same", PATIENCE, async || {
            pool.is_minted(&format!("casa-{}", assets.len() - 1)).await
        })
        .await;
    }
    pool.settled(&mut scaler, &assets, PATIENCE).await;
    pool.assert_minted_once(&assets).await;
    let failures = scaler.failures();
    assert_eq!(failures.len(), killed.len(), "only those that were killed may fail: {failures:?}");
}

/// Whether the last that a worker has said of its partitions is that it has some.
fn holds_partitions(log: &str) -> bool {
    let mut told = log.lines().rev();
    let last = told.find(|l| l.contains("\"partitions assigned\"") || l.contains("\"partitions revoked\""));
    last.is_some_and(|l| l.contains("\"partitions assigned\"") && !l.contains("\"partitions\":\"[]\""))
}

/// Mostly they wait for the sessions of the killed to end, so they do that at one time.
#[tokio::test(flavor = "multi_thread")]
async fn each_worker_killed_ten_times_at_random_moments_mints_every_asset_once() {
    tokio::join!(
        killed_at_random("ingestion"),
        killed_at_random("valuation"),
        killed_at_random("minting")
    );
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
    pool.assert_minted_once(&ASSETS.map(str::to_owned)).await;
    assert!(pool.intake_runs());
}
