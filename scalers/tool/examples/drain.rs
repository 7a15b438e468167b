//! The smallest worker: takes what lies on `ingestion` and is done with it. The tests of `scalers run` start it.
//! With `FAIL` it ends with 70 instead, or with 64 when it says so; with `WORK_MS` a message takes so long.

use std::time::Duration;

use anyhow::Result;
use bus::{Burial, Context, Emit, Failure, LoopConfig, Worker};
use messages::{Event, IngestionPayload, topics};
use runtime::{Env, Exit, FromEnv, Reader, Service};
use serde::Deserialize;
use testkit::MemoryLedger;

struct Drain {
    work: Duration,
}

impl Worker for Drain {
    const NAME: &'static str = topics::INGESTION;
    type Payload = IngestionPayload;

    async fn handle(&self, _: &Event<IngestionPayload>, _: &Context) -> Result<Emit, Failure> {
        tokio::time::sleep(self.work).await;
        Ok(Emit::none())
    }

    async fn buried(&self, _: &Event<IngestionPayload>, _: &Burial, _: &Context) -> Result<Emit, Failure> {
        Ok(Emit::none())
    }
}

struct Config {
    looping: LoopConfig,
    work: Duration,
}

#[derive(Deserialize)]
struct RawWork {
    work_ms: Option<String>,
}

impl FromEnv for Config {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let work = r.with_default::<u64>("WORK_MS", env.raw::<RawWork>().work_ms, "0");
        let (looping, work) = LoopConfig::read(env, r).zip(work)?;
        Some(Self {
            looping,
            work: Duration::from_millis(work),
        })
    }
}

fn main() {
    let service = Service {
        name: Drain::NAME,
        version: "0.0.0",
    };
    runtime::run(service, |process| async move {
        if let Some(code) = std::env::var_os("FAIL") {
            return Ok(if code == "64" { Exit::Config } else { Exit::Internal });
        }
        let config: Config = process.load()?;
        let drain = Drain { work: config.work };
        bus::run(&process, &config.looping, MemoryLedger::default(), async move { Ok(drain) }).await
    })
}
