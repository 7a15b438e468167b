#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]
mod common;
use std::time::Instant;
use bus::{KafkaConfig, Producer};
use common::event;
use testkit::Corner;

#[tokio::test(flavor = "multi_thread")]
async fn look() {
    let corner = Corner::new();
    corner.create_topics().await;
    let kafka = corner.read(KafkaConfig::read);
    for _ in 0..5 {
        let begun = Instant::now();
        let p = Producer::new(&kafka, "x").unwrap();
        p.send(&event("a")).await.unwrap();
        println!("FIRST {:?}", begun.elapsed());
        let begun = Instant::now();
        drop(p);
        println!("DROP {:?}", begun.elapsed());
    }
}
