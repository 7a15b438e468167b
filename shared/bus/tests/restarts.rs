//! Workers that live on while their broker is restarted again and again: some of librdkafka's clients stay without any
//! connection after their only broker was away, as long as they live, and a worker's must not be among them (case 9).
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use bus::{KafkaConfig, Producer};
use common::event;
use common::processes::{PATIENCE, Steered};
use messages::topics;
use testkit::{Corner, OwnStack, Program, until};

const RESTARTS: usize = 3;
/// Workers of each protocol.
const WORKERS: usize = 4;
/// Messages after each restart, for each worker.
const MESSAGES: usize = 4;
/// How long the broker is away at the last restart: longer than a member that has lost its partitions is waited for otherwise.
const LONG: Duration = Duration::from_secs(25);

/// A worker that has its group to itself: of one that stands still nobody takes over what it leaves.
struct Alone {
    protocol: &'static str,
    corner: Corner,
    workers: Steered,
    process: Program,
}

impl Alone {
    async fn start(stack: &OwnStack, protocol: &'static str) -> Self {
        let corner = stack.corner();
        corner.create_topics().await;
        let mut workers = Steered::new(corner.clone_for_process());
        workers.corner.set("KAFKA_GROUP_PROTOCOL", protocol);
        workers.corner.set("WORKER_MODE", "service");
        let process = workers.start();
        Self {
            protocol,
            corner,
            workers,
            process,
        }
    }

    /// What is sent now is done, told and committed.
    async fn works(&mut self, round: usize) {
        let producer = Producer::new(&self.corner.read(KafkaConfig::read), "test").unwrap();
        let assets: Vec<_> = (0..MESSAGES).map(|n| format!("m-{round}-{n}")).collect();
        for asset in &assets {
            producer.send(&event(asset)).await.unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.has_done(&assets) {
            assert!(Instant::now() < deadline, "round {round}: {self}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let what = format!("by {}, round {round} is committed", self.protocol);
        until(&what, PATIENCE, async || self.corner.lag(topics::INGESTION).await == 0).await;
    }

    fn has_done(&mut self, assets: &[String]) -> bool {
        assert!(self.process.ended().is_none(), "it has ended; {self}");
        let done = self.workers.done();
        assets.iter().all(|asset| done.contains(asset))
    }
}

impl std::fmt::Display for Alone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "by {}: {}", self.protocol, self.workers.read("steered.log"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_worker_stands_still_after_restarts_of_its_broker() {
    let stack = OwnStack::start().await;
    let mut all = Vec::new();
    for n in 0..2 * WORKERS {
        all.push(Alone::start(&stack, ["classic", "consumer"][n % 2]).await);
    }
    for round in 0..=RESTARTS {
        if round > 0 {
            stack.stop("kafka").await;
            if round == RESTARTS {
                tokio::time::sleep(LONG).await;
            }
            stack.begin("kafka").await;
        }
        let begun = Instant::now();
        futures::future::join_all(all.iter_mut().map(|one| one.works(round))).await;
        eprintln!("round {round}: all has been done after {:.1?}", begun.elapsed());
    }
    for one in &mut all {
        let status = one.process.end(Duration::from_secs(30)).await;
        assert_eq!(status.code(), Some(0), "{one}");
    }
}
