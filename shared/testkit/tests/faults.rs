//! Servers that fall while twenty dossiers run: each is accepted once, ends in one state, and is minted once.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use futures::future::join_all;
use testkit::{OwnStack, Pool, Scaler, Submitted, until};

/// Dossiers sent before anything falls.
const BEFORE: usize = 2;
/// Dossiers sent around each fault: one before it, two while it lasts.
const EACH: usize = 3;
/// How long a client tries to have its dossier taken.
const CLIENT: Duration = Duration::from_secs(90);
/// How long the pool may take for what is left, once all servers are back.
const REST: Duration = Duration::from_secs(150);

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
            !self.scaler.running(victim).is_empty()
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
                until("a dossier is minted without it", REST, async || self.pool.is_minted(&name(1)).await).await;
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

    /// What became of every document that was taken.
    async fn check_documents(&self) {
        for id in self.accepted.iter().flat_map(|(_, told)| &told.documents) {
            let document = self.pool.document(id).await;
            assert_eq!(document["state"], "ingested", "{document}");
        }
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
    let assets: Vec<String> = run.accepted.iter().map(|(asset, _)| asset.clone()).collect();
    run.pool.settled(&mut run.scaler, &assets, REST).await;
    run.say(&format!("all is minted; jobs that did not end with 0: {:?}", run.scaler.failures()));
    run.check_documents().await;
    run.pool.assert_minted_once(&assets).await;
    assert!(run.scaler.stop().await.success());
    run.say("checked");
}
