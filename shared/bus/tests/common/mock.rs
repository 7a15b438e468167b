//! The loop on the mock cluster.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bus::{GroupProtocol, Worker};
use messages::topics;
use runtime::{Env, Exit, Process};
use testkit::MockKafka;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{Ground, Scripted, Step, event};

pub const PARTITIONS: i32 = 3;

/// Topics on a mock cluster, and what was written to them.
pub struct Mock {
    pub cluster: Arc<MockKafka>,
    pub topic: String,
    /// Where each message lies, in the order in which they were written.
    pub sent: Mutex<Vec<(Uuid, String, i32, i64)>>,
    ground: Ground,
}

impl Mock {
    pub fn new(protocol: GroupProtocol) -> Self {
        Self::on(Arc::new(MockKafka::start()), protocol, "")
    }

    /// The prefix keeps apart what shares a cluster.
    pub fn on(cluster: Arc<MockKafka>, protocol: GroupProtocol, prefix: &str) -> Self {
        let kafka = cluster.config(protocol, prefix);
        let topic = kafka.name(topics::INGESTION);
        cluster.create_topic(&topic, PARTITIONS);
        cluster.create_topic(&kafka.name(&topics::dead(topics::INGESTION)), 1);
        cluster.create_topic(&kafka.name(topics::ASSET_EVENTS), 1);
        let env: Env = [("LOG_FORMAT", "json"), ("RUST_LOG", "error")].into_iter().collect();
        Self {
            cluster,
            topic,
            sent: Mutex::default(),
            ground: Ground::new(env, kafka),
        }
    }

    pub async fn write(&self, asset: &str) {
        let event = event(asset);
        let (partition, offset) = self.cluster.send(&self.topic, &event).await;
        self.sent
            .lock()
            .unwrap()
            .push((event.envelope.id, asset.to_owned(), partition, offset));
    }

    /// How often each message had its effect.
    pub fn effects(&self) -> BTreeMap<Uuid, u32> {
        let mut effects = BTreeMap::new();
        for (_, id, _) in self.log.lock().unwrap().iter() {
            *effects.entry(*id).or_default() += 1;
        }
        effects
    }

    /// Every message had its effect.
    pub fn nothing_is_missing(&self) -> bool {
        let effects = self.effects();
        self.sent.lock().unwrap().iter().all(|(id, ..)| effects.contains_key(id))
    }

    /// What was written is done and committed, in time.
    pub async fn settled(&self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        loop {
            let (done, lag) = (self.nothing_is_missing(), self.lag().await);
            if done && lag.values().all(|l| *l == 0) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not done within {at_most:?}: all effects {done}, lag {lag:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is_settled(&self) -> bool {
        self.nothing_is_missing() && self.lag().await.values().all(|l| *l == 0)
    }

    /// The effects of a key are in the order in which its messages were written, the first time each happens.
    pub fn assert_order(&self) {
        let place: BTreeMap<Uuid, usize> = self.sent.lock().unwrap().iter().enumerate().map(|(n, (id, ..))| (*id, n)).collect();
        let mut last: BTreeMap<String, usize> = BTreeMap::new();
        let mut seen = std::collections::BTreeSet::new();
        for (asset, id, _) in self.log.lock().unwrap().iter().filter(|(_, id, _)| place.contains_key(id)) {
            if seen.insert(*id) {
                let before = last.insert(asset.clone(), place[id]);
                assert!(before.is_none_or(|b| b < place[id]), "{asset}: {before:?} then {}", place[id]);
            }
        }
    }
}

impl Deref for Mock {
    type Target = Ground;
    fn deref(&self) -> &Ground {
        &self.ground
    }
}

/// A member that goes on until it is told to stop.
pub struct Member {
    pub process: Process,
    stop: tokio_util::sync::CancellationToken,
    running: JoinHandle<Exit>,
}

impl Member {
    pub fn start(mock: &Arc<Mock>, max_in_flight: usize, script: impl Fn(&str, u32) -> Step + Send + Sync + 'static) -> Self {
        let worker = Scripted {
            log: mock.log.clone(),
            script: Arc::new(script),
        };
        Self::of(mock, max_in_flight, worker)
    }

    /// One that takes this long for each message, and how many it has begun.
    pub fn counted(mock: &Arc<Mock>, max_in_flight: usize, millis: u64) -> (Self, Arc<AtomicUsize>) {
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = begun.clone();
        let member = Self::start(mock, max_in_flight, move |_: &str, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            Step::DoSlowly(Duration::from_millis(millis))
        });
        (member, begun)
    }

    pub fn of(mock: &Arc<Mock>, max_in_flight: usize, worker: impl Worker) -> Self {
        let (mock, process) = (mock.clone(), mock.process());
        let stop = process.stop.clone();
        let mut config = mock.config();
        config.mode = bus::Mode::Service;
        config.max_in_flight = max_in_flight;
        let its = process.clone();
        let running = tokio::spawn(async move { mock.run_worker(&its, &config, worker).await });
        Self { process, stop, running }
    }

    pub fn runs(&self) -> bool {
        !self.running.is_finished()
    }

    pub async fn stop(self) -> Exit {
        self.stop.cancel();
        self.running.await.unwrap()
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> Exit {
        self.running.await.unwrap()
    }

    /// Waits until all is done, or until the member has ended because its group does not take it back: then another follows
    /// it, as Kubernetes has it.
    pub async fn or_another(self, mock: &Mock, at_most: Duration, another: impl FnOnce() -> Self) -> Self {
        let deadline = Instant::now() + at_most;
        while self.runs() && !mock.is_settled().await {
            assert!(Instant::now() < deadline, "it neither does all within {at_most:?} nor ends");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if self.runs() {
            return self;
        }
        assert_eq!(self.ended().await, Exit::Unavailable);
        eprintln!("a member was thrown out and has ended, another follows");
        another()
    }
}

/// Tasks that write messages, each with keys of its own, until they are told to stop.
pub struct Writers {
    left: Arc<AtomicIsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    pub fn start(mock: &Arc<Mock>, tasks: usize, at_most: isize) -> Self {
        let left = Arc::new(AtomicIsize::new(at_most));
        let write = |task: usize| {
            let (mock, left) = (mock.clone(), left.clone());
            tokio::spawn(async move {
                while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                    mock.write(&format!("m{task}-{}", rand::random_range(0..50))).await;
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
            })
        };
        let tasks = (0..tasks).map(write).collect();
        Self { left, tasks }
    }

    pub async fn stop(self) {
        self.left.store(0, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}
