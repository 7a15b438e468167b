//! Offsets that are no messages: what transactions and compaction leave behind must not stay as lag.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{Bench, Step, event, headers};
use messages::topics;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use runtime::Exit;

const PATIENCE: Duration = Duration::from_secs(20);

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Commit,
    Abort,
}

impl Bench {
    /// Writes a message for each asset in one transaction.
    async fn transaction(&self, assets: &[&str], end: End) {
        let mut c = self.kafka.client("test");
        c.set("transactional.id", &self.corner.name);
        let producer: BaseProducer = c.create().unwrap();
        let topic = self.kafka.name(topics::INGESTION);
        let events: Vec<_> = assets.iter().map(|asset| event(asset)).collect();
        let write = move || {
            producer.init_transactions(PATIENCE).unwrap();
            producer.begin_transaction().unwrap();
            for event in &events {
                let record = BaseRecord::to(&topic).key(event.key().as_bytes()).payload(event.value.as_slice());
                producer.send(record.headers(headers(event))).map_err(|(e, _)| e).unwrap();
            }
            producer.flush(PATIENCE).unwrap();
            match end {
                End::Commit => producer.commit_transaction(PATIENCE).unwrap(),
                End::Abort => producer.abort_transaction(PATIENCE).unwrap(),
            }
        };
        tokio::task::spawn_blocking(write).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_marker_of_a_committed_transaction_is_no_lag() {
    let bench = Bench::new().await;
    bench.transaction(&["a", "b", "c", "d"], End::Commit).await;
    assert_eq!(bench.run(|_, _| Step::Do).await, Exit::Drained);
    assert_eq!(bench.handled().len(), 4);
    bench.assert_no_lag().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_transaction_is_neither_handled_nor_lag() {
    let bench = Bench::new().await;
    bench.send("before").await;
    bench.transaction(&["a", "b", "c", "d"], End::Abort).await;
    // The second passes over what the first has committed, and both find the end.
    for _ in 0..2 {
        assert_eq!(bench.run(|_, _| Step::DoSlowly(Duration::from_millis(200))).await, Exit::Drained);
        assert_eq!(bench.handled(), ["before"]);
        bench.assert_no_lag().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_has_deleted_is_no_lag_for_a_group_that_never_was() {
    let bench = Bench::new().await;
    for n in 0..20 {
        bench.send(&format!("d{n}")).await;
    }
    let topic = bench.kafka.name(topics::INGESTION);
    let mut all = TopicPartitionList::new();
    for partition in bench.lag().await.keys() {
        all.add_partition_offset(&topic, *partition, Offset::End).unwrap();
    }
    let admin: AdminClient<DefaultClientContext> = bench.kafka.client("test").create().unwrap();
    admin.delete_records(&all, &AdminOptions::new()).await.unwrap();
    assert_eq!(bench.run(|_, _| Step::Do).await, Exit::Drained);
    assert!(bench.handled().is_empty());
    bench.assert_no_lag().await;
}
