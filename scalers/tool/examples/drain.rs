//! The smallest worker: takes what lies on `ingestion` and is done with it. The tests of `scalers run` start it.
//! With `FAIL=1` it ends with 70 instead.

use anyhow::Result;
use bus::{Burial, Context, Emit, Failure, LoopConfig, Worker};
use messages::{Event, IngestionPayload, topics};
use runtime::{Env, Exit, FromEnv, Reader, Service};
use testkit::MemoryLedger;

struct Drain;

impl Worker for Drain {
    const NAME: &'static str = topics::INGESTION;
    type Payload = IngestionPayload;

    async fn handle(&self, _: &Event<IngestionPayload>, _: &Context) -> Result<Emit, Failure> {
        Ok(Emit::none())
    }

    async fn buried(&self, _: &Event<IngestionPayload>, _: &Burial, _: &Context) -> Result<Emit, Failure> {
        Ok(Emit::none())
    }
}

struct Config(LoopConfig);

impl FromEnv for Config {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        LoopConfig::read(env, r).map(Self)
    }
}

fn main() {
    let service = Service {
        name: Drain::NAME,
        version: "0.0.0",
    };
    runtime::run(service, |process| async move {
        if std::env::var_os("FAIL").is_some() {
            return Ok(Exit::Internal);
        }
        let config: Config = process.load()?;
        bus::run(&process, &config.0, MemoryLedger::default(), async { Ok(Drain) }).await
    })
}
