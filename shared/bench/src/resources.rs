//! What a worker takes while there is nothing to do.

use std::time::{Duration, Instant};

use bus::GroupProtocol;

use crate::child;
use crate::corner::{Corner, Stand};
use crate::figures::Figure;

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(10);

pub fn measure() -> anyhow::Result<Vec<Figure>> {
    let mut corner = Corner::new(12)?;
    let mut figures = Vec::new();
    for (name, protocol) in [("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)] {
        let topic = corner.topic.clone();
        corner.stand(&topic, Stand::End)?;
        let mut vars = corner.vars(protocol);
        vars.push(("WORKER_MODE", "service".to_owned()));
        vars.push(("RUST_LOG", "info,bus=debug".to_owned()));
        let mut child = child::start(&["worker"], &vars)?;
        child.wait_for("partitions assigned", "[]")?;
        let (before, began) = (child.processor_seconds()?, Instant::now());
        std::thread::sleep(WATCHED);
        let share = (child.processor_seconds()? - before) / began.elapsed().as_secs_f64();
        child.stop()?;
        child.end()?;
        let figure = Figure::told(
            format!("bus.waiting.{name}"),
            share * 100.0,
            "% of a core",
            "at the end of 12 partitions",
        );
        figures.push(figure.at_most(1.0));
    }
    Ok(figures)
}
