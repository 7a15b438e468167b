//! Messages and groups at the edge of what is usual (cases 18, 20, 24 and 26).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bus::{Clock, GroupProtocol, dead};
use common::mock::{Mock, PARTITIONS};
use common::raw::{self, Codec};
use common::{Bench, Scripted, Step, event, headers};
use jiff::{SignedDuration, Timestamp};
use messages::topics;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::Header;
use rdkafka::producer::{BaseProducer, BaseRecord, FutureRecord, Producer as _};
use runtime::Exit;
use testkit::{start_program, until};

#[tokio::test(flavor = "multi_thread")]
async fn more_jobs_than_partitions_all_end_by_themselves_and_leave_no_lag_in_a_group_that_never_was() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let mut bench = Bench::new().await;
        bench.kafka.group_protocol = protocol;
        assert!(bench.lag().await.values().all(|l| *l == 1), "KEDA counts what was never committed");
        let jobs = futures::future::join_all((0..5).map(|_| bench.run(|_, _| Step::Do))).await;
        assert!(jobs.iter().all(|exit| *exit == Exit::Drained), "{protocol:?}: {jobs:?}");
        bench.assert_no_lag().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_key_no_key_doubled_headers_almost_a_megabyte_and_no_value_each_have_one_outcome() {
    let bench = Bench::new().await;
    let topic = bench.kafka.name(topics::INGESTION);
    let record = || FutureRecord::to(&topic);
    for (name, key) in [("empty-key", Some(b"".as_slice())), ("no-key", None)] {
        let event = event(name);
        let mut record = record().payload(event.value.as_slice()).headers(headers(&event));
        record.key = key;
        bench.producer.send_record(record).await.unwrap();
    }
    let doubled = event("doubled");
    let twice = headers(&doubled).insert(Header {
        key: "ce_type",
        value: Some("another"),
    });
    let doubled = record().key(b"k".as_slice()).payload(doubled.value.as_slice()).headers(twice);
    bench.producer.send_record(doubled).await.unwrap();
    let large = event("large");
    let mut value: serde_json::Value = serde_json::from_slice(&large.value).unwrap();
    // Unknown fields are ignored, whatever their size. The producer takes a million bytes, headers included.
    value["padding"] = "x".repeat(900_000).into();
    let value = value.to_string();
    let large = record().key(b"k".as_slice()).payload(value.as_bytes()).headers(headers(&large));
    bench.producer.send_record(large).await.unwrap();
    // As large as an event of ours may be. Its dead letter is larger still.
    let largest = event("largest-bad");
    let mut value: serde_json::Value = serde_json::from_slice(&largest.value).unwrap();
    value["padding"] = "x".repeat(999_000).into();
    let value = value.to_string();
    let largest = record().key(b"k".as_slice()).payload(value.as_bytes()).headers(headers(&largest));
    bench.producer.send_record(largest).await.unwrap();
    let empty = event("tombstone");
    let empty = record().key(b"k".as_slice()).headers(headers(&empty));
    bench.producer.send_record(empty).await.unwrap();

    let script = |asset: &str, _| if asset.ends_with("bad") { Step::Fail } else { Step::Do };
    assert_eq!(bench.run(script).await, Exit::Drained);
    let mut handled = bench.handled();
    handled.sort();
    assert_eq!(
        handled,
        ["doubled", "empty-key", "large", "no-key"],
        "of a doubled header the first counts"
    );
    bench.assert_no_lag().await;
    let letters = raw::read(&bench.kafka, &bench.kafka.name(&topics::dead(topics::INGESTION)), 2).await;
    let mut classes: Vec<_> = letters
        .iter()
        .map(|l| (l["ce_subject"].as_str(), l[dead::header::CLASS].as_str()))
        .collect();
    classes.sort_unstable();
    assert_eq!(classes, [("assets/largest-bad", "handle"), ("assets/tombstone", "decode")]);
}

/// The topic of outcomes, which takes nothing of more bytes than these.
async fn limited(bench: &Bench, bytes: &str) -> String {
    let outcomes = bench.kafka.name(topics::ASSET_EVENTS);
    let admin: AdminClient<DefaultClientContext> = bench.kafka.client("test").create().unwrap();
    let limit = AlterConfig::new(ResourceSpecifier::Topic(&outcomes)).set("max.message.bytes", bytes);
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    for altered in admin.alter_configs(&[limit], &options).await.unwrap() {
        altered.unwrap();
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_travels_with_an_event_that_is_too_large_arrives() {
    let bench = Bench::new().await;
    let outcomes = limited(&bench, "60000").await;
    // Brokers measure what is compressed, and this cannot be.
    let large: Vec<u8> = std::iter::repeat_with(rand::random).take(200_000).collect();
    // All at once and of one partition, so that they are one batch, which the broker refuses as a whole.
    let small = event("small").value;
    let sent = (0..40).map(|n| (n, if n == 20 { &large } else { &small }));
    let sent = sent.map(async |(n, value)| {
        let record = rdkafka::producer::FutureRecord::to(&outcomes)
            .key(b"one".as_slice())
            .payload(value.as_slice());
        (n, bench.producer.send_record(record).await)
    });
    for (n, placed) in futures::future::join_all(sent).await {
        match placed {
            Ok(_) => assert_ne!(n, 20),
            Err(e) => assert!(n == 20 && e.is_too_large(), "{n}: {e}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_kafka_takes_for_too_large_sends_its_cause_to_the_dead_letters_and_stops_nobody() {
    let bench = Bench::new().await;
    let outcomes = limited(&bench, "60000").await;
    for n in 0..10 {
        bench.send(&format!("m{n}")).await;
        // One is more than the topic takes, one is more than the producer does; what comes after them has their keys.
        bench.send(if n % 2 == 0 { "more" } else { "most" }).await;
    }
    let script = |asset: &str, attempt| match asset {
        // Refused at first only: whatever was wrong, it is tried again.
        "more" if attempt == 0 => Step::Lead(200_000),
        "m5" => Step::Lead(200_000),
        "m6" => Step::Lead(1_100_000),
        _ => Step::Do,
    };
    assert_eq!(bench.run(script).await, Exit::Drained);
    bench.assert_no_lag().await;
    let letters = bench.corner.events(&topics::dead(topics::INGESTION)).await;
    let mut keys: Vec<_> = letters.iter().map(|l| l.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["demo/m5", "demo/m6"]);
    for letter in &letters {
        let header = |name| letter.header(name).unwrap();
        assert_eq!((header(dead::header::CLASS), header(dead::header::ATTEMPTS)), ("emit", "3"));
        let (error, least) = (
            header(dead::header::ERROR),
            if letter.key == "demo/m5" { 200_000 } else { 1_100_000 },
        );
        let (_, size) = error.split_once("it has ").unwrap();
        let bytes: usize = size.split(' ').next().unwrap().parse().unwrap();
        assert!((least..least + 2000).contains(&bytes), "{error}");
        assert!(
            error.contains(&outcomes) && error.contains("the limit is 1000000 or the topic's max.message.bytes"),
            "{error}"
        );
    }
    let told = bench.corner.events(topics::ASSET_EVENTS).await;
    assert_eq!(told.iter().filter(|e| e.envelope().subject == "buried").count(), 2);
    assert_eq!(told.len(), 18 + 2, "every other message has its event");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_too_long_is_given_up_and_tried_again_and_at_last_dead_lettered() {
    let mock = Mock::new(GroupProtocol::Consumer);
    for n in 0..2 {
        mock.write("stuck").await;
        mock.write("slow-once").await;
        mock.write(&format!("m{n}")).await;
    }
    let mut config = mock.config();
    config.stuck_after = Some(Duration::from_millis(700));
    let first = mock.sent.lock().unwrap()[0].0;
    let script = |asset: &str, attempt| match asset {
        "stuck" => Step::DoSlowly(Duration::from_secs(3600)),
        "slow-once" if attempt == 0 => Step::DoSlowly(Duration::from_secs(3600)),
        _ => Step::Do,
    };
    let begun = Instant::now();
    assert_eq!(mock.run_with(&mock.process(), &config, script).await, Exit::Drained);
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    mock.assert_order();
    mock.assert_no_lag().await;
    let handled = mock.handled();
    let count = |asset: &str| handled.iter().filter(|a| *a == asset).count();
    assert_eq!((count("stuck"), count("slow-once"), handled.len()), (0, 2, 4));
    let letters = raw::read(&mock.kafka, &mock.kafka.name(&topics::dead(topics::INGESTION)), 2).await;
    let of_first = letters.iter().find(|l| l["ce_id"] == first.to_string()).unwrap();
    assert!(
        letters
            .iter()
            .all(|l| l[dead::header::CLASS] == "timeout" && l[dead::header::ATTEMPTS] == "3")
    );
    assert!(of_first[dead::header::ERROR].contains("STUCK_SECONDS"), "{of_first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_by_years_changes_dates_and_nothing_else() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let mock = Mock::new(protocol);
        for n in 0..60 {
            mock.write(&format!("m{}", n % 9)).await;
        }
        // Two who wrote to the topic had such clocks, too.
        for (name, millis) in [("long-ago", 0), ("far-off", 4_102_444_800_000)] {
            raw::write_at(&mock, name, millis).await;
        }
        let reads = Arc::new(AtomicI64::new(0));
        let clock = {
            let (reads, began) = (reads.clone(), Timestamp::now());
            // Ten years ahead, ten years back, turn by turn.
            Clock::new(move || {
                let turn = reads.fetch_add(1, Ordering::Relaxed) % 2 * 2 - 1;
                began.saturating_add(SignedDuration::from_hours(turn * 24 * 3650)).unwrap()
            })
        };
        let bad = |asset: &str, attempt| match asset {
            "m3" => Step::Fail,
            "m4" if attempt < 2 => Step::Unavailable,
            _ => Step::Do,
        };
        let worker = Scripted {
            log: mock.log.clone(),
            script: Arc::new(bad),
        };
        let begun = Instant::now();
        let (process, config) = (mock.process(), mock.config());
        let run = bus::run_with_clock(&process, &config, mock.ledger.clone(), clock, async { Ok(worker) });
        let exit = tokio::time::timeout(Duration::from_secs(60), run).await.unwrap().unwrap();
        assert_eq!(exit, Exit::Drained, "{protocol:?}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{protocol:?}: {:?}", begun.elapsed());
        assert!(reads.load(Ordering::Relaxed) > 60, "nobody looked at the clock");
        mock.assert_order();
        mock.assert_no_lag().await;
        let handled = mock.handled();
        assert!(handled.contains(&"long-ago".to_owned()) && handled.contains(&"far-off".to_owned()));
        assert_eq!((handled.len(), handled.contains(&"m3".to_owned())), (62 - 7, false));
        let letters = raw::read(&mock.kafka, &mock.kafka.name(&topics::dead(topics::INGESTION)), 7).await;
        assert!(letters.iter().all(|l| l[dead::header::LAST_FAILURE].parse::<Timestamp>().is_ok()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compressed_in_an_unknown_way_or_damaged_stays_in_the_topic_and_the_process_says_so() {
    for (protocol, codec) in [
        (GroupProtocol::Classic, Codec::Unknown),
        (GroupProtocol::Consumer, Codec::Unknown),
        (GroupProtocol::Consumer, Codec::DamagedGzip),
    ] {
        let mock = Mock::new(protocol);
        (0..PARTITIONS).for_each(|p| mock.cluster.lead(&mock.topic, p, Some(1)));
        for n in 0..30 {
            mock.write(&format!("m{n}")).await;
        }
        let bad = raw::write_packed(&mock, 1, codec);
        for n in 0..30 {
            mock.write(&format!("n{n}")).await;
        }
        // However often it is started: nothing behind it is begun, and nothing of its partition is committed.
        for start in 0..2 {
            let begun = Instant::now();
            assert_eq!(mock.run(|_, _| Step::Do).await, Exit::Protocol, "{codec:?}, start {start}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        }
        let (effects, sent) = (mock.effects(), mock.sent.lock().unwrap().clone());
        let behind = sent
            .iter()
            .filter(|(_, _, partition, offset)| (*partition, *offset) > (1, bad) && *partition == 1);
        assert_eq!(behind.filter(|(id, ..)| effects.contains_key(id)).count(), 0);
        let behind = sent
            .iter()
            .filter(|(_, _, partition, offset)| *partition == 1 && *offset > bad)
            .count() as i64;
        assert!(
            mock.lag().await[&1] > behind,
            "{codec:?}: the offset has passed it, {:?}",
            mock.lag().await
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_whose_name_is_not_text_is_passed_over() {
    let mock = Mock::new(GroupProtocol::Consumer);
    (0..PARTITIONS).for_each(|p| mock.cluster.lead(&mock.topic, p, Some(1)));
    raw::write_with_header(&mock, 1, "odd", b"\xff\xfe");
    raw::write_with_header(&mock, 1, "nameless", b"");
    mock.write("after").await;
    assert_eq!(mock.run(|_, _| Step::Do).await, Exit::Drained);
    assert_eq!(mock.effects().len(), 3);
    assert!(mock.lag().await.values().all(|lag| *lag == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_far_beyond_what_is_held_costs_no_more_memory_than_the_bound() {
    const BACKLOG: usize = 40_000;
    let mut bench = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    bench.corner.set("STEERED_EFFECTS", folder.path().join("effects").to_string_lossy());
    bench.corner.set("RUST_LOG", "warn");
    let (kafka, topic) = (bench.kafka.clone(), bench.kafka.name(topics::INGESTION));
    let written = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = kafka.client("test").create().unwrap();
        for n in 0..BACKLOG {
            let event = event(&format!("sleep-20-{n}"));
            let mut value: serde_json::Value = serde_json::from_slice(&event.value).unwrap();
            value["padding"] = "x".repeat(4096).into();
            let value = value.to_string();
            let mut record = BaseRecord::to(&topic).key(event.key()).payload(&value).headers(headers(&event));
            while let Err((_, back)) = producer.send(record) {
                record = back;
                producer.poll(Duration::from_millis(20));
            }
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    });
    written.await.unwrap();
    let mut worker = start_program(&bench.corner, "examples/steered", &[], folder.path());
    let effects = folder.path().join("effects");
    until("much is done", Duration::from_secs(60), async || {
        std::fs::read_to_string(&effects).unwrap_or_default().lines().count() > 8_000
    })
    .await;
    let peak = worker.peak_memory();
    assert!(worker.end(Duration::from_secs(40)).await.success());
    let mib = peak / (1024 * 1024);
    eprintln!("{mib} MiB at most, with {} MiB waiting", BACKLOG * 4096 / (1024 * 1024));
    // Held are 2 MiB; librdkafka's own queue is 4 MiB; the rest is a debug build and its allocator.
    assert!(mib < 96, "{mib} MiB");
}
