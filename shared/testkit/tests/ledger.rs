//! One behaviour for every ledger.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::time::{Duration, Instant};

use runtime::{Ledger as _, Secret};
use stores::{CacheConfig, RedisLedger};
use testkit::{Corner, MemoryLedger, assert_keeps_books};

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_books() {
    let corner = Corner::new();
    let ledger = RedisLedger::new(&corner.read(CacheConfig::read)).unwrap();
    assert_keeps_books(ledger, &corner.name).await;
}

#[tokio::test]
async fn memory_keeps_books() {
    assert_keeps_books(MemoryLedger::default(), "book").await;
}

#[tokio::test]
async fn a_redis_that_accepts_and_says_nothing_costs_no_more_than_half_a_second() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let ledger = RedisLedger::new(&CacheConfig {
        url: Secret::new(url),
        ca_location: None,
    })
    .unwrap();
    let begun = Instant::now();
    assert!(ledger.change("book", &[]).await.is_err());
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    // It is left alone for a while: the next answer comes at once.
    let begun = Instant::now();
    assert!(ledger.change("book", &[]).await.is_err());
    assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
}
