//! How a run of the pool ends, and what must be true then.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use messages::{AssetMinted, Message as _, topics};

use crate::{Pool, Scaler, UNITS};

/// The workers on an asset's way, in its order.
pub const WORKERS: [&str; 3] = ["ingestion", "valuation", "minting"];
/// How often is looked.
const EVERY: Duration = Duration::from_millis(500);

impl Pool {
    /// Whether an asset is minted, as the intake says.
    pub async fn is_minted(&self, asset: &str) -> bool {
        self.asset(asset).await["state"] == "minted"
    }

    /// Waits until the assets are minted, every lag is 0 and no worker runs.
    ///
    /// # Panics
    /// When a process of the pool ends, or that has not come about in time; the logs are kept then.
    pub async fn settled(&mut self, scaler: &mut Scaler, assets: &[String], at_most: Duration) {
        let deadline = Instant::now() + at_most;
        loop {
            assert!(scaler.runs() && self.intake_runs(), "a process of the pool has ended");
            let mut left = Vec::new();
            for asset in assets {
                let record = self.asset(asset).await;
                if record["state"] != "minted" {
                    left.push(format!("{asset} is {}", record["state"]));
                }
            }
            for worker in WORKERS {
                let (lag, running) = (self.corner.lag(worker).await, scaler.running(worker).len());
                if lag != 0 || running != 0 {
                    left.push(format!("{worker} has a lag of {lag} and {running} jobs"));
                }
            }
            if left.is_empty() {
                return;
            }
            if Instant::now() >= deadline {
                self.keep_logs();
                panic!("not done after {} s: {left:?}", at_most.as_secs());
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Each asset has one log of its mint on the chain, the right balance and one event by its id; nobody has dead letters.
    ///
    /// # Panics
    /// When that is not so.
    #[allow(clippy::expect_used)]
    pub async fn assert_minted_once(&self, assets: &[String]) {
        let events = self.corner.events(topics::ASSET_EVENTS).await;
        for asset in assets {
            let record = self.asset(asset).await;
            let token_id = record["mint"]["token_id"].as_str().expect("a minted asset has a token");
            assert_eq!(self.minted(token_id).await, (1, UNITS), "{asset}: {record}");
            let told = events.iter().filter(|e| e.value["asset_id"] == **asset);
            let minted: Vec<_> = told.filter(|e| e.envelope().event_type == AssetMinted::TYPE).collect();
            let ids: BTreeSet<_> = minted.iter().map(|e| e.envelope().id).collect();
            assert_eq!(ids.len(), 1, "{asset} has events {ids:?}");
            for event in minted {
                assert_eq!(event.value["token_id"], record["mint"]["token_id"], "{asset}");
                assert_eq!(event.value["tx"], record["mint"]["tx"], "{asset}");
            }
        }
        for worker in WORKERS {
            let dead = self.corner.events(&topics::dead(worker)).await;
            assert!(dead.is_empty(), "{worker} has dead letters: {dead:?}");
        }
    }
}
