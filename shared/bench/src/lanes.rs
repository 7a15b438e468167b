//! Concurrency inside one partition: many keys, handlers that wait, beside the same waits and no Kafka at all.

use std::time::{Duration, Instant};

use bus::GroupProtocol;
use futures::{StreamExt as _, stream};

use crate::child;
use crate::corner::{Corner, Stand};
use crate::figures::{Figure, median};

const MESSAGES: usize = 10_000;
const KEYS: usize = 1_000;
const CONCURRENCY: usize = 100;
const RUNS: usize = 5;

/// Up to 5 ms, evenly spread, the same for both sides.
fn wait(n: usize) -> Duration {
    Duration::from_micros((n as u64).wrapping_mul(2_654_435_761) % 5_001)
}

pub fn measure() -> anyhow::Result<Vec<Figure>> {
    let mut corner = Corner::new(1)?;
    corner.fill(MESSAGES, KEYS, 1024, |n| format!("{} ", wait(n).as_micros()))?;
    let (mut ours, mut bares, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let topic = corner.topic.clone();
        corner.stand(&topic, Stand::Beginning)?;
        let mut vars = corner.vars(GroupProtocol::Consumer);
        vars.push(("MAX_IN_FLIGHT", CONCURRENCY.to_string()));
        vars.push(("IDLE_EXIT_MS", "0".to_owned()));
        let said = child::run(&["worker", "--wait"], &vars)?.said;
        anyhow::ensure!(said.messages == MESSAGES as u64, "{} messages came", said.messages);
        let bare = bare()?;
        eprintln!("  {:.3} s, bare {bare:.3} s", said.seconds());
        ratios.push(said.seconds() / bare);
        ours.push(said.seconds());
        bares.push(bare);
    }
    let what = "10,000 messages of 0 to 5 ms, one partition, 1,000 keys, 100 at a time";
    Ok(vec![
        Figure::told("bus.lanes", median(&ours), "s", what),
        Figure::told(
            "bus.lanes.bare",
            median(&bares),
            "s",
            "buffer_unordered(100) over the same waits, without Kafka",
        ),
        Figure::told("bus.lanes.ratio", median(&ratios), "ratio", "bare, median of five").at_most(1.6),
    ])
}

fn bare() -> anyhow::Result<f64> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let began = Instant::now();
    tokio.block_on(async {
        stream::iter(0..MESSAGES)
            .map(|n| tokio::time::sleep(wait(n)))
            .buffer_unordered(CONCURRENCY)
            .for_each(|()| async {})
            .await;
    });
    Ok(began.elapsed().as_secs_f64())
}
