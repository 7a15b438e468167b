//! What the tests of the loop share: a worker that follows a script, and a corner of the real broker to run it in.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

pub mod load;
pub mod mock;
pub mod processes;
pub mod raw;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bus::{Burial, Context, Emit, Failure, KafkaConfig, LoopConfig, Mode, Producer, Worker};
use jiff::Timestamp;
use messages::{AssetKey, DossierClosed, Event, IngestionPayload, MissingFacts, Outgoing, TraceParent, new_id, topics};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::{Offset, TopicPartitionList};
use runtime::{Env, Exit, Process, Service};
use testkit::{Corner, MemoryLedger};
use tokio::sync::Semaphore;
use uuid::Uuid;

pub const SERVICE: Service = Service {
    name: "ingestion",
    version: "0.0.0-test",
};

/// What the handler has seen: asset, event id, attempt; in the order in which it finished.
pub type Log = Arc<Mutex<Vec<(String, Uuid, u32)>>>;
pub type Script = Arc<dyn Fn(&str, u32) -> Step + Send + Sync>;

/// What the handler does with a message.
pub enum Step {
    Do,
    DoSlowly(Duration),
    /// Waits for a permit, and keeps it.
    DoOnceAllowed(Arc<Semaphore>),
    /// Waits this long, and gives up when it is told that the work is not wanted here.
    DoUnlessCancelled(Duration),
    Fail,
    Panic,
    Unavailable,
    Reject,
    /// Done, but its event has this many bytes that cannot be compressed much.
    Lead(usize),
}

pub struct Scripted {
    pub log: Log,
    pub script: Script,
}

impl Worker for Scripted {
    const NAME: &'static str = topics::INGESTION;
    type Payload = IngestionPayload;

    async fn handle(&self, event: &Event<IngestionPayload>, ctx: &Context) -> Result<Emit, Failure> {
        let IngestionPayload::DossierClosed(closed) = &event.payload else {
            return Err(Failure::Failed(anyhow::anyhow!("only closings are sent here")));
        };
        let asset = closed.asset_id.to_string();
        let outcome = || Emit::from(ctx.caused(&event.envelope, format!("assets/{asset}"), &incomplete(&closed.asset_id)));
        match (self.script)(&asset, ctx.attempt) {
            Step::Do => {}
            Step::Lead(bytes) => {
                let mut large = incomplete(&closed.asset_id);
                let noise = (0..bytes).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
                large.approaches.push(MissingFacts {
                    approach: messages::facts::Approach::Income,
                    missing: vec![noise],
                });
                return Ok(ctx.caused(&event.envelope, format!("assets/{asset}"), &large).into());
            }
            Step::DoSlowly(time) => tokio::time::sleep(time).await,
            Step::DoOnceAllowed(permits) => permits.acquire().await.unwrap().forget(),
            Step::DoUnlessCancelled(time) => tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = ctx.cancel.cancelled() => return Err(Failure::Cancelled),
            },
            Step::Fail => return Err(Failure::Failed(anyhow::anyhow!("it always fails"))),
            Step::Panic => panic!("a bug"),
            Step::Unavailable => return Err(Failure::Unavailable(anyhow::anyhow!("down for now"))),
            Step::Reject => {
                return Err(Failure::Rejected {
                    emit: outcome(),
                    reason: "not what we take".to_owned(),
                });
            }
        }
        self.log.lock().unwrap().push((asset.clone(), event.envelope.id, ctx.attempt));
        Ok(outcome())
    }

    async fn buried(&self, event: &Event<IngestionPayload>, _: &Burial, ctx: &Context) -> Result<Emit, Failure> {
        let asset_id = event.envelope.subject.trim_start_matches("assets/").parse().unwrap();
        Ok(ctx.caused(&event.envelope, "buried", &incomplete(&asset_id)).into())
    }
}

pub fn incomplete(asset_id: &messages::AssetId) -> messages::AssetIncomplete {
    messages::AssetIncomplete {
        asset_id: asset_id.clone(),
        facts_version: 1,
        approaches: Vec::<MissingFacts>::new(),
    }
}

/// An event of an asset, with an id of its own.
pub fn event(asset: &str) -> Outgoing {
    let key = AssetKey::new("demo".parse().unwrap(), asset.parse().unwrap());
    let message = DossierClosed {
        asset_id: key.asset_id.clone(),
        requested_by: "test".to_owned(),
        valuation_date: None,
    };
    Outgoing::first(
        new_id(),
        "/test",
        format!("assets/{asset}"),
        &key,
        Timestamp::now(),
        TraceParent::root(),
        &message,
    )
}

/// An event's headers, for those who write it without [`Producer`].
pub fn headers(event: &Outgoing) -> OwnedHeaders {
    let all = event.headers();
    all.iter()
        .fold(OwnedHeaders::new(), |h, (key, value)| h.insert(Header { key, value: Some(value) }))
}

/// Brokers to run the loop on, and what its handler has seen.
pub struct Ground {
    pub env: Env,
    pub kafka: KafkaConfig,
    pub producer: Producer,
    pub log: Log,
    /// What outlives a run.
    pub ledger: MemoryLedger,
}

/// A corner of the real broker to run the loop in.
pub struct Bench {
    pub corner: Corner,
    ground: Ground,
}

impl Bench {
    pub async fn new() -> Self {
        let corner = Corner::new();
        corner.create_topics().await;
        let ground = Ground::new(corner.env(), corner.read(KafkaConfig::read));
        Self { corner, ground }
    }
}

impl Deref for Bench {
    type Target = Ground;
    fn deref(&self) -> &Ground {
        &self.ground
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut Ground {
        &mut self.ground
    }
}

impl Ground {
    pub fn new(env: Env, kafka: KafkaConfig) -> Self {
        let mut r = runtime::Reader::default();
        runtime::telemetry::start_logs(&runtime::telemetry::Config::read(&env, &mut r).unwrap());
        let producer = Producer::new(&kafka, "test").unwrap();
        Self {
            env,
            kafka,
            producer,
            log: Log::default(),
            ledger: MemoryLedger::default(),
        }
    }

    pub async fn send(&self, asset: &str) -> Uuid {
        let event = event(asset);
        self.producer.send(&event).await.unwrap();
        event.envelope.id
    }

    pub fn process(&self) -> Process {
        let mut process = Process::new(SERVICE, self.env.clone()).unwrap();
        process.grace = Duration::from_secs(10);
        process
    }

    pub fn config(&self) -> LoopConfig {
        LoopConfig {
            kafka: self.kafka.clone(),
            mode: Mode::Job { idle_exit: Duration::ZERO },
            max_run: None,
            max_in_flight: 64,
            stuck_after: None,
            retry: bus::RetryPolicy::default(),
        }
    }

    pub async fn run_with(
        &self,
        process: &Process,
        config: &LoopConfig,
        script: impl Fn(&str, u32) -> Step + Send + Sync + 'static,
    ) -> Exit {
        let worker = Scripted {
            log: self.log.clone(),
            script: Arc::new(script),
        };
        self.run_worker(process, config, worker).await
    }

    pub async fn run_worker(&self, process: &Process, config: &LoopConfig, worker: impl Worker) -> Exit {
        let run = bus::run(process, config, self.ledger.clone(), async { Ok(worker) });
        tokio::time::timeout(Duration::from_secs(60), run)
            .await
            .expect("the loop ends by itself")
            .unwrap()
    }

    pub async fn run(&self, script: impl Fn(&str, u32) -> Step + Send + Sync + 'static) -> Exit {
        self.run_with(&self.process(), &self.config(), script).await
    }

    pub fn handled(&self) -> Vec<String> {
        self.log.lock().unwrap().iter().map(|(asset, ..)| asset.clone()).collect()
    }

    /// KEDA's lag: a partition without a committed offset counts whole.
    pub async fn lag(&self) -> BTreeMap<i32, i64> {
        let (kafka, topic) = (self.kafka.clone(), self.kafka.name(topics::INGESTION));
        let look = move || {
            let timeout = Duration::from_secs(10);
            let consumer: BaseConsumer = kafka.client("lag").set("group.id", &topic).create().unwrap();
            let metadata = consumer.fetch_metadata(Some(&topic), timeout).unwrap();
            let mut asked = TopicPartitionList::new();
            for p in metadata.topics()[0].partitions() {
                asked.add_partition(&topic, p.id());
            }
            let committed = consumer.committed_offsets(asked, timeout).unwrap();
            let lag = |e: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
                let high = end_of(&consumer, &topic, e.partition());
                match e.offset() {
                    Offset::Offset(offset) => high - offset,
                    _ => 1 + high,
                }
            };
            committed.elements().into_iter().map(|e| (e.partition(), lag(e))).collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap()
    }

    pub async fn assert_no_lag(&self) {
        let lag = self.lag().await;
        assert!(!lag.is_empty() && lag.values().all(|l| *l == 0), "{lag:?}");
    }
}

/// Where a partition ends. A topic that was made just now may not have its leaders everywhere yet.
fn end_of(consumer: &BaseConsumer, topic: &str, partition: i32) -> i64 {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match consumer.fetch_watermarks(topic, partition, Duration::from_secs(10)) {
            Ok((_, high)) => return high,
            Err(e) => assert!(Instant::now() < deadline, "partition {partition}: {e}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for a condition, at most half a minute.
pub async fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come about within half a minute");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The value of a metric without labels of interest, when there is one.
pub fn metric(process: &Process, name: &str) -> Option<f64> {
    let text = process.metrics.render().unwrap();
    let line = text.lines().find(|l| l.starts_with(&format!("{name}{{")))?;
    line.rsplit(' ').next()?.parse().ok()
}
