//! What the loop is compared with: the consumer that it stands on, and nothing else. It polls, copies the value, and
//! commits once a second.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bus::{KafkaConfig, Worker as _};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use runtime::{Env, Reader};

use crate::child::{Said, now_ns, peak_kib};
use crate::worker::Bench;

#[derive(clap::Args)]
pub struct Args {
    /// End after so many messages
    #[arg(long)]
    messages: u64,
    /// librdkafka's settings as they come, instead of the loop's
    #[arg(long)]
    default_settings: bool,
}

/// The group of these consumers, beside the worker's.
pub const GROUP: &str = "bare";
/// No run takes longer.
const DEADLINE: Duration = Duration::from_secs(100);

pub fn run(args: &Args, main_ns: u64) -> anyhow::Result<()> {
    let mut r = Reader::default();
    let kafka = KafkaConfig::read(&Env::of_process(), &mut r);
    let kafka = r.finish(kafka)?;
    let mut config = if args.default_settings {
        let mut config = rdkafka::ClientConfig::new();
        let protocol = match kafka.group_protocol {
            bus::GroupProtocol::Classic => "classic",
            bus::GroupProtocol::Consumer => "consumer",
        };
        config
            .set("bootstrap.servers", &kafka.brokers)
            .set("auto.offset.reset", "earliest")
            .set("group.protocol", protocol)
            .set("enable.auto.commit", "false");
        config
    } else {
        kafka.consumer(Bench::NAME, bus::Mode::Job { idle_exit: Duration::ZERO })
    };
    config.set("group.id", kafka.name(GROUP));
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[&kafka.name(Bench::NAME)])?;
    let said = consume(&consumer, args.messages, main_ns)?;
    said.say()?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "what a bare loop does is what is compared with")]
fn consume(consumer: &BaseConsumer, messages: u64, main_ns: u64) -> anyhow::Result<Said> {
    let mut said = Said {
        main_ns,
        ..Said::default()
    };
    let began = Instant::now();
    let mut committed = began;
    while said.messages < messages {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                black_box(message.payload().map(<[u8]>::to_vec));
                if said.messages == 0 {
                    said.first_ns = now_ns();
                }
                said.messages += 1;
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(e)) => return Err(e).context("the consumer failed"),
        }
        // Asking for the time with every message would be a cost of its own.
        if said.messages.is_multiple_of(1024) && committed.elapsed() >= Duration::from_secs(1) {
            anyhow::ensure!(began.elapsed() < DEADLINE, "{} of {messages} messages came", said.messages);
            committed = Instant::now();
            consumer.commit(&consumer.position()?, CommitMode::Async)?;
        }
    }
    said.last_ns = now_ns();
    said.peak_kib = peak_kib()?;
    consumer.commit(&consumer.position()?, CommitMode::Sync)?;
    Ok(said)
}
