//! A handler that does nothing beside a loop that does nothing else; and what that takes in memory.

use bus::GroupProtocol;

use crate::bare;
use crate::child::{self, Ended};
use crate::corner::{Corner, Stand};
use crate::figures::{Figure, median, quantile};

const MESSAGES: usize = 1_000_000;
const PAIRS: usize = 5;

pub fn measure() -> anyhow::Result<Vec<Figure>> {
    let mut corner = Corner::new(12)?;
    corner.fill(MESSAGES, 10_000, 1024, |_| String::new())?;
    let (mut ours, mut bares, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut peaks, mut bare_peaks) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // Who begins changes, so that neither always finds the machine as the other has left it.
        let both = if pair % 2 == 0 {
            let bare = run_bare(&mut corner)?;
            (run_ours(&mut corner)?, bare)
        } else {
            (run_ours(&mut corner)?, run_bare(&mut corner)?)
        };
        let rate = |ended: &Ended| ended.said.messages as f64 / ended.said.seconds();
        eprintln!("  {:.0} messages a second, bare {:.0}", rate(&both.0), rate(&both.1));
        ratios.push(rate(&both.0) / rate(&both.1));
        ours.push(rate(&both.0));
        bares.push(rate(&both.1));
        peaks.push(both.0.said.peak_mib());
        bare_peaks.push(both.1.said.peak_mib());
    }
    let slow = slow_handler(&mut corner)?;
    let backlog = "peak resident, a million messages behind";
    Ok(vec![
        Figure::told(
            "bus.throughput",
            median(&ours),
            "messages/s",
            "1 KiB, 12 partitions, a handler that does nothing",
        ),
        Figure::told(
            "bus.throughput.bare",
            median(&bares),
            "messages/s",
            "BaseConsumer alone, same librdkafka settings",
        ),
        Figure::told("bus.throughput.lowest", quantile(&ratios, 0.0), "ratio", "the worst of the pairs"),
        Figure::told("bus.throughput.highest", quantile(&ratios, 1.0), "ratio", "the best of the pairs"),
        Figure::told("bus.memory.bare", median(&bare_peaks), "MiB", "BaseConsumer alone, same settings"),
        Figure::told("bus.throughput.ratio", median(&ratios), "ratio", "bare, median of five pairs").at_least(0.7),
        Figure::told("bus.memory.fast_handler", quantile(&peaks, 1.0), "MiB", backlog).at_most(40.0),
        Figure::told("bus.memory.slow_handler", slow, "MiB", backlog).at_most(40.0),
    ])
}

fn run_ours(corner: &mut Corner) -> anyhow::Result<Ended> {
    let topic = corner.topic.clone();
    corner.stand(&topic, Stand::Beginning)?;
    let mut vars = corner.vars(GroupProtocol::Consumer);
    vars.push(("IDLE_EXIT_MS", "0".to_owned()));
    let ended = child::run(&["worker", "--messages", &MESSAGES.to_string()], &vars)?;
    anyhow::ensure!(ended.said.messages == MESSAGES as u64, "{} messages came", ended.said.messages);
    Ok(ended)
}

fn run_bare(corner: &mut Corner) -> anyhow::Result<Ended> {
    let group = corner.kafka.name(bare::GROUP);
    corner.stand(&group, Stand::Beginning)?;
    let vars = corner.vars(GroupProtocol::Consumer);
    child::run(&["bare", "--messages", &MESSAGES.to_string()], &vars)
}

/// The peak, in MiB, of a worker that never gets through its backlog: everything is as full as it may be.
fn slow_handler(corner: &mut Corner) -> anyhow::Result<f64> {
    let topic = corner.topic.clone();
    corner.stand(&topic, Stand::Beginning)?;
    let mut vars = corner.vars(GroupProtocol::Consumer);
    vars.push(("MAX_RUN_SECONDS", "5".to_owned()));
    let ended = child::run(&["worker", "--wait-us", "20000"], &vars)?;
    anyhow::ensure!(ended.said.messages < MESSAGES as u64, "the backlog was worked off");
    Ok(ended.said.peak_mib())
}
