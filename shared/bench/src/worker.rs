//! The worker that is measured: real in all but its handler, which does nothing, or waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bus::{Burial, Context, Emit, Failure, LoopConfig, Worker};
use messages::{DecodeError, Event, Payload};
use runtime::{Env, FromEnv, Process, Reader, Service};
use stores::{CacheConfig, RedisLedger};

use crate::child::{Said, now_ns, peak_kib};

#[derive(clap::Args)]
pub struct Args {
    /// With every message, wait as many microseconds as its value begins with
    #[arg(long)]
    wait: bool,
    /// With every message, wait so many microseconds
    #[arg(long, default_value_t = 0)]
    wait_us: u64,
    /// Note the longest time between two messages
    #[arg(long)]
    gaps: bool,
    /// So many messages come: look at the clock after the last one, as the bare loop does, and not after each
    #[arg(long)]
    messages: Option<u64>,
}

const SERVICE: Service = Service {
    name: Bench::NAME,
    version: env!("CARGO_PKG_VERSION"),
};

/// When the first message came to the handler, when the last one left it, and how many there were.
#[derive(Default)]
struct Stamps {
    first_ns: AtomicU64,
    last_ns: AtomicU64,
    messages: AtomicU64,
    longest_gap_ns: AtomicU64,
}

pub struct Bench {
    stamps: Arc<Stamps>,
    args: Args,
}

/// How long the message wants to be waited for: so many microseconds as its value begins with. The loop has copied the value
/// once by then, as the one that this is compared with does.
pub struct Wait(Duration);

impl Payload for Wait {
    fn decode(_: &str, value: &[u8]) -> Result<Self, DecodeError> {
        let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
        Ok(Self(Duration::from_micros(
            digits.fold(0, |n, digit| n * 10 + u64::from(digit - b'0')),
        )))
    }
}

impl Worker for Bench {
    const NAME: &'static str = "bench";
    type Payload = Wait;

    async fn handle(&self, event: &Event<Wait>, _: &Context) -> Result<Emit, Failure> {
        let before = self.stamps.messages.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            self.stamps.first_ns.store(now_ns(), Ordering::Relaxed);
        }
        if self.args.gaps {
            let (now, last) = (now_ns(), self.stamps.last_ns.load(Ordering::Relaxed));
            if last > 0 {
                self.stamps.longest_gap_ns.fetch_max(now.saturating_sub(last), Ordering::Relaxed);
            }
        }
        if self.args.wait {
            tokio::time::sleep(event.payload.0).await;
        } else if self.args.wait_us > 0 {
            tokio::time::sleep(Duration::from_micros(self.args.wait_us)).await;
        }
        if self.args.messages.is_none_or(|messages| messages == before + 1) {
            self.stamps.last_ns.fetch_max(now_ns(), Ordering::Relaxed);
        }
        Ok(Emit::none())
    }

    async fn buried(&self, _: &Event<Wait>, _: &Burial, _: &Context) -> Result<Emit, Failure> {
        Ok(Emit::none())
    }
}

struct Config {
    run: LoopConfig,
    cache: CacheConfig,
}

impl FromEnv for Config {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let run = LoopConfig::read(env, r);
        let cache = CacheConfig::read(env, r);
        Some(Self { run: run?, cache: cache? })
    }
}

pub fn run(args: Args, main_ns: u64) -> ! {
    runtime::run(SERVICE, async move |process: Process| {
        let config: Config = process.load()?;
        let stamps = Arc::new(Stamps::default());
        let worker = Bench {
            stamps: stamps.clone(),
            args,
        };
        let exit = bus::run(&process, &config.run, RedisLedger::new(&config.cache)?, async { Ok(worker) }).await?;
        let said = Said {
            main_ns,
            first_ns: stamps.first_ns.load(Ordering::Relaxed),
            last_ns: stamps.last_ns.load(Ordering::Relaxed),
            messages: stamps.messages.load(Ordering::Relaxed),
            longest_gap_ns: stamps.longest_gap_ns.load(Ordering::Relaxed),
            peak_kib: peak_kib()?,
        };
        said.say()?;
        Ok(exit)
    })
}
