//! Messages and groups at the edge of what is usual (cases 20, 24 and 26).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use bus::GroupProtocol;
use common::{Bench, Step, event, headers};
use messages::topics;
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
    let empty = event("tombstone");
    let empty = record().key(b"k".as_slice()).headers(headers(&empty));
    bench.producer.send_record(empty).await.unwrap();

    assert_eq!(bench.run(|_, _| Step::Do).await, Exit::Drained);
    let mut handled = bench.handled();
    handled.sort();
    assert_eq!(
        handled,
        ["doubled", "empty-key", "large", "no-key"],
        "of a doubled header the first counts"
    );
    bench.assert_no_lag().await;
    let consumed = bench.corner.lag(topics::INGESTION).await;
    assert_eq!(consumed, 0, "the tombstone went to the dead letters");
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
    // Held are 1,024 messages; librdkafka's own queue is 16 MiB; the rest is a debug build and its allocator.
    assert!(mib < 96, "{mib} MiB");
}
