//! Messages that end the process, and processes that are ended: as processes on the real broker, with the real ledger.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use bus::dead;
use common::processes::{PATIENCE, Processes};
use messages::topics;
use rand::RngExt as _;
use testkit::until;

/// Mostly it waits for the sessions of the dead to end, so both are done at one time.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_ends_the_process_is_given_up_after_three_deaths_alone_and_its_partition_goes_on() {
    tokio::join!(given_up_behind(40), given_up_behind(0));
}

/// The message that ends the process has so many messages before it, in all partitions.
async fn given_up_behind(messages: usize) {
    let all = Processes::new(&[]).await;
    let first = all.send((0..messages).map(|n| format!("before-{n}"))).await;
    all.bench.send("abort-x").await;
    let rest = all.send((0..80).map(|n| format!("behind-{n}"))).await;
    let mut deaths = 0;
    loop {
        match all.run().await {
            None => deaths += 1,
            Some(code) => {
                assert_eq!(code, 0, "{}", all.read("steered.log"));
                break;
            }
        }
        assert!(deaths < 6, "it goes on for ever: {}", all.read("steered.log"));
    }
    // One at which nobody knew anything, and three alone.
    assert!((4..=5).contains(&deaths), "{deaths}");

    let letters = all.bench.corner.events(&topics::dead(topics::INGESTION)).await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter.key, "demo/abort-x");
    assert_eq!(letter.header(dead::header::CLASS), Some("poison"));
    assert_eq!(letter.header(dead::header::ATTEMPTS), Some("3"));
    let error = letter.header(dead::header::ERROR).unwrap();
    assert!(error.contains("ended 3 times while this message alone"), "{error}");

    let effects = all.effects();
    let begun_last = effects.iter().rposition(|(w, asset)| w == "begun" && asset == "abort-x").unwrap();
    assert!(
        effects
            .iter()
            .skip(begun_last)
            .any(|(w, asset)| w == "buried" && asset == "abort-x"),
        "nobody was told"
    );
    // What lies behind it in its partition did not have to wait until it was given up.
    let topic = all.bench.corner.events(topics::INGESTION).await;
    let poison = topic.iter().find(|e| e.key == "demo/abort-x").unwrap();
    assert_eq!(poison.offset == 0, messages == 0, "the very first of its partition");
    assert_eq!(letter.header(dead::header::OFFSET), Some(poison.offset.to_string().as_str()));
    let done: BTreeSet<&str> = effects.iter().take(begun_last).map(|(_, asset)| asset.as_str()).collect();
    let near = poison.offset + 1..poison.offset + 16;
    let behind: Vec<_> = topic
        .iter()
        .filter(|e| e.partition == poison.partition && near.contains(&e.offset))
        .collect();
    assert_eq!(behind.len(), 15);
    for event in behind {
        assert!(done.contains(event.key.trim_start_matches("demo/")), "{} had to wait", event.key);
    }
    assert_eq!(all.done(), first.union(&rest).cloned().collect());
    all.bench.assert_no_lag().await;
}

/// A worker that is killed again and again while it works; how often.
async fn killed_at_random(kills: usize) -> usize {
    let all = Processes::new(&[("MAX_IN_FLIGHT", "8")]).await;
    let sent = all.send((0..300).map(|n| format!("sleep-150-{n}"))).await;
    let mut killed = 0;
    while killed < kills {
        let mut worker = all.start();
        let before = all.effects().len();
        until("it has begun something", PATIENCE, async || all.effects().len() > before).await;
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..800))).await;
        assert!(worker.ended().is_none(), "it was too fast to be killed");
        worker.kill_dash_nine();
        killed += 1;
    }
    assert_eq!(all.run().await, Some(0), "{}", all.read("steered.log"));
    let letters = all.bench.corner.events(&topics::dead(topics::INGESTION)).await;
    assert!(letters.is_empty(), "{letters:?}");
    assert_eq!(all.done(), sent);
    all.bench.assert_no_lag().await;
    killed
}

/// Mostly they wait for the sessions of the killed to end, so they do that at one time.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_at_random_moments_dead_letter_nothing() {
    let killed = futures::future::join_all((0..10).map(|_| killed_at_random(5))).await;
    assert_eq!(killed.iter().sum::<usize>(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_ledger_the_work_is_done_and_the_log_says_once_what_is_missing() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let all = Processes::new(&[("REDIS_URL", &format!("redis://127.0.0.1:{gone}"))]).await;
    let sent = all.send((0..50).map(|n| format!("m-{n}"))).await;
    assert_eq!(all.run().await, Some(0), "{}", all.read("steered.log"));
    assert_eq!(all.done(), sent);
    assert_eq!(all.read("steered.log").matches("going on without the ledger").count(), 1);
    all.bench.assert_no_lag().await;
}
