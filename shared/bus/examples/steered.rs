//! A worker that does what each message says, for tests of what happens to whole processes.
//!
//! The order is the first word of the asset's id: `sleep-MILLIS-…` takes its time, `block-MILLIS-…` the same without
//! giving its thread back, `once-…` never returns where it is handled for the first time, nor does `spin-…`, which keeps
//! its thread, `abort-…` ends the process, `panic-…` panics, `fail-…` fails, `needs-…` fails until there is a file `mended`
//! beside that of the effects; anything else is done at once. A line for each `begun`, `done` and `buried`, with the event's
//! id, the asset's and the attempt, is appended to the file that `STEERED_EFFECTS` names.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use bus::{Burial, Context, Emit, Failure, LoopConfig, Worker};
use messages::{AssetIncomplete, Event, IngestionPayload, topics};
use runtime::{Env, FromEnv, Process, Reader, Service};
use serde::Deserialize;
use stores::{CacheConfig, RedisLedger};

const SERVICE: Service = Service {
    name: "steered",
    version: env!("CARGO_PKG_VERSION"),
};

struct Steered {
    effects: PathBuf,
}

impl Steered {
    fn write(&self, what: &str, event: &Event<IngestionPayload>, asset: &str, attempt: u32) -> anyhow::Result<()> {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.effects)?;
        // One write, so that the lines of several processes do not mix.
        file.write_all(format!("{what} {} {asset} {attempt}\n", event.envelope.id).as_bytes())?;
        Ok(())
    }

    fn has_begun(&self, event: &Event<IngestionPayload>) -> bool {
        let effects = std::fs::read_to_string(&self.effects).unwrap_or_default();
        effects.contains(&format!("begun {}", event.envelope.id))
    }

    async fn obey(&self, asset: &str, known: bool) -> anyhow::Result<()> {
        let mut words = asset.split('-');
        match words.next() {
            Some("sleep") => {
                let millis = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
            Some("block") => {
                let millis = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                std::thread::sleep(Duration::from_millis(millis));
            }
            Some("once") if !known => std::future::pending().await,
            Some("spin") if !known => std::thread::sleep(Duration::from_secs(3600)),
            Some("abort") => std::process::abort(),
            Some("panic") => panic!("told to panic"),
            Some("fail") => anyhow::bail!("told to fail"),
            Some("needs") if !self.effects.with_file_name("mended").exists() => anyhow::bail!("something is broken"),
            _ => {}
        }
        Ok(())
    }
}

impl Worker for Steered {
    const NAME: &'static str = topics::INGESTION;
    type Payload = IngestionPayload;

    async fn handle(&self, event: &Event<IngestionPayload>, ctx: &Context) -> Result<Emit, Failure> {
        let IngestionPayload::DossierClosed(closed) = &event.payload else {
            return Err(Failure::Failed(anyhow::anyhow!("only closings are sent here")));
        };
        let asset = closed.asset_id.to_string();
        // Reading the file takes longer with every message: only for those that ask.
        let known = (asset.starts_with("once") || asset.starts_with("spin")) && self.has_begun(event);
        self.write("begun", event, &asset, ctx.attempt).map_err(Failure::Failed)?;
        self.obey(&asset, known).await.map_err(Failure::Failed)?;
        self.write("done", event, &asset, ctx.attempt).map_err(Failure::Failed)?;
        let outcome = AssetIncomplete {
            asset_id: closed.asset_id.clone(),
            facts_version: 1,
            approaches: Vec::new(),
        };
        Ok(ctx.caused(&event.envelope, format!("assets/{asset}"), &outcome).into())
    }

    async fn buried(&self, event: &Event<IngestionPayload>, _: &Burial, ctx: &Context) -> Result<Emit, Failure> {
        let asset = event.envelope.subject.trim_start_matches("assets/");
        self.write("buried", event, asset, ctx.attempt).map_err(Failure::Failed)?;
        Ok(Emit::none())
    }
}

struct Config {
    run: LoopConfig,
    cache: CacheConfig,
    effects: PathBuf,
}

#[derive(Deserialize)]
struct Raw {
    steered_effects: Option<String>,
}

impl FromEnv for Config {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let run = LoopConfig::read(env, r);
        let cache = CacheConfig::read(env, r);
        let effects = r.required("STEERED_EFFECTS", env.raw::<Raw>().steered_effects);
        Some(Self {
            run: run?,
            cache: cache?,
            effects: effects?,
        })
    }
}

fn main() {
    runtime::run(SERVICE, async |process: Process| {
        let config: Config = process.load()?;
        let ledger = RedisLedger::new(&config.cache)?;
        let effects = config.effects.clone();
        bus::run(&process, &config.run, ledger, async { Ok(Steered { effects }) }).await
    })
}
