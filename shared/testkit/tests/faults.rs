//! Servers that fall while twenty dossiers run: each is accepted once, ends in one state, and is minted once.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use messages::{AssetMinted, Message as _, topics};
use testkit::{OwnStack, Pool, Scaler, Submitted, UNITS, until};

/// Dossiers sent before anything falls.
const BEFORE: usize = 2;
/// Dossiers sent around each fault: one before it, two while it lasts.
const EACH: usize = 3;
/// How long a client tries to have its dossier taken.
const CLIENT: Duration = Duration::from_secs(90);
/// How long the pool may take for what is left, once all servers are back.
const REST: Duration = Duration::from_secs(150);
const WORKERS: [&str; 3] = ["ingestion", "valuation", "minting"];

/// What falls, and which worker is at work when it does.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Stopped in order, away for so many seconds beyond the time that it takes to stop, started.
    Away(&'static str, u64),
    /// Stopped until a dossier sent meanwhile is minted without it, then started.
    Spared(&'static str),
    /// Stopped and started at once.
    Restart(&'static str),
    /// MongoDB's primary gives up its office.
    StepDown,
}

const FAULTS: [(Fault, &str); 6] = [
    // Longer than the intake waits for an acknowledgement.
    (Fault::Away("kafka", 12), "ingestion"),
    (Fault::Restart("mongodb"), "valuation"),
    (Fault::StepDown, "ingestion"),
    (Fault::Spared("redis"), "valuation"),
    (Fault::Away("azurite", 3), "ingestion"),
    // Long enough that jobs are started meanwhile.
    (Fault::Away("anvil", 10), "minting"),
];

/// Its parts end in this order: the servers last.
struct Run {
    scaler: Scaler,
    pool: Pool,
    stack: OwnStack,
    begun: Instant,
    accepted: Vec<(String, Submitted)>,
}

impl Run {
    fn say(&self, text: &str) {
        eprintln!("{:6.1} s  {text}", self.begun.elapsed().as_secs_f64());
    }

    async fn submit(&self, asset: String) -> (String, Submitted) {
        let told = self.pool.submit_dossier_patiently(&asset, CLIENT).await;
        (asset, told)
    }

    /// Sends a dossier, lets something fall while a worker has it in its hands, and sends more.
    async fn strike(&mut self, number: usize, fault: Fault, victim: &str) {
        let name = |n: usize| format!("casa-{number}-{n}");
        let first = self.submit(name(0)).await;
        until("the worker is at work", Duration::from_secs(60), async || {
            self.scaler.running(victim) > 0
        })
        .await;
        self.say(&format!("{fault:?} while {victim} works"));
        let meanwhile = join_all((1..EACH).map(|n| self.submit(name(n))));
        let told = match fault {
            Fault::Away(server, seconds) => {
                self.stack.stop(server).await;
                let back = async {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    self.stack.begin(server).await;
                };
                tokio::join!(meanwhile, back).0
            }
            Fault::Spared(server) => {
                self.stack.stop(server).await;
                let told = meanwhile.await;
                assert!(told.iter().all(|(_, t)| t.repeats == 0), "nobody should miss {server}: {told:?}");
                until("a dossier is minted without it", REST, async || self.minted(&name(1)).await).await;
                self.stack.begin(server).await;
                told
            }
            Fault::Restart(server) => {
                let back = async {
                    self.stack.stop(server).await;
                    self.stack.begin(server).await;
                };
                tokio::join!(meanwhile, back).0
            }
            Fault::StepDown => tokio::join!(meanwhile, self.stack.step_down(4)).0,
        };
        let repeats: usize = told.iter().map(|(_, t)| t.repeats).sum();
        self.say(&format!("{fault:?} is over, its dossiers are taken after {repeats} repeats"));
        self.accepted.push(first);
        self.accepted.extend(told);
    }

    async fn minted(&self, asset: &str) -> bool {
        self.pool.asset(asset).await["state"] == "minted"
    }

    async fn open(&self) -> Vec<String> {
        let mut open = Vec::new();
        for (asset, _) in &self.accepted {
            let record = self.pool.asset(asset).await;
            if record["state"] != "minted" {
                open.push(format!("{asset} is {}", record["state"]));
            }
        }
        open
    }

    async fn lags(&self) -> Vec<i64> {
        let mut lags = Vec::new();
        for worker in WORKERS {
            lags.push(self.pool.corner.lag(worker).await);
        }
        lags
    }

    /// Waits until everything is minted, every lag is 0 and no worker runs.
    async fn settle(&mut self) {
        let deadline = Instant::now() + REST;
        loop {
            assert!(self.scaler.runs() && self.pool.intake_runs(), "a process of the pool has ended");
            let (open, lags) = (self.open().await, self.lags().await);
            let running: usize = WORKERS.iter().map(|w| self.scaler.running(w)).sum();
            if open.is_empty() && lags.iter().all(|lag| *lag == 0) && running == 0 {
                return;
            }
            if Instant::now() >= deadline {
                self.pool.keep_logs();
                panic!(
                    "not done: {open:?}, lags {lags:?}, {running} workers; {:#?}",
                    self.scaler.events().iter().rev().take(20).collect::<Vec<_>>()
                );
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// What the chain, the records and the topics say at the end.
    async fn check(&self) {
        let events = self.pool.corner.events(topics::ASSET_EVENTS).await;
        for (asset, told) in &self.accepted {
            for id in &told.documents {
                let document = self.pool.document(id).await;
                assert_eq!(document["state"], "ingested", "{document}");
            }
            let record = self.pool.asset(asset).await;
            let token_id = record["mint"]["token_id"].as_str().unwrap();
            assert_eq!(self.pool.minted(token_id).await, (1, UNITS), "{asset}: {record}");
            let minted = events
                .iter()
                .filter(|e| e.envelope().event_type == AssetMinted::TYPE && e.value["asset_id"] == **asset);
            let ids: BTreeSet<_> = minted.map(|e| e.envelope().id).collect();
            assert_eq!(ids.len(), 1, "{asset} has events {ids:?}");
        }
        for worker in WORKERS {
            let dead = self.pool.corner.events(&topics::dead(worker)).await;
            assert!(dead.is_empty(), "{worker} has dead letters: {dead:?}");
        }
    }

    /// The exit codes of jobs that did not end with 0.
    fn exits(&self) -> Vec<String> {
        let events = self.scaler.events();
        let ended = events.iter().filter(|e| e["event"] == "ended" && e["exit_code"] != 0);
        ended.map(|e| format!("{} {}", e["worker"], e["exit_code"])).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_dossiers_outlive_the_fall_of_every_server() {
    let begun = Instant::now();
    let stack = OwnStack::start().await;
    let pool = Pool::start_on(&stack).await;
    let scaler = pool.scaler();
    let mut run = Run {
        scaler,
        pool,
        stack,
        begun,
        accepted: Vec::new(),
    };
    run.say("servers, intake and scaler run");
    let first = join_all((0..BEFORE).map(|n| run.submit(format!("casa-{n}")))).await;
    run.accepted.extend(first);
    for (number, (fault, victim)) in FAULTS.into_iter().enumerate() {
        run.strike(number, fault, victim).await;
    }
    assert_eq!(run.accepted.len(), 20);
    run.settle().await;
    run.say(&format!("all is minted; jobs that did not end with 0: {:?}", run.exits()));
    run.check().await;
    assert!(run.scaler.stop().await.success());
    run.say("checked");
}
