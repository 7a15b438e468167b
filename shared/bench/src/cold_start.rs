//! From the start of a process to its first message, and from its last message to its end.

use anyhow::Context as _;
use bus::GroupProtocol;

use crate::bare;
use crate::child::{self, Ended};
use crate::corner::{Corner, Stand};
use crate::figures::{Figure, median, quantile};

const STARTS: usize = 30;
/// Starts whose log is read for the table of steps; writing it costs some of the time.
const LOGGED: usize = 10;

pub fn measure() -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, protocol) in [("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)] {
        for (place, mut corner) in [("", Corner::new(12)?), (".mock", Corner::mock(12))] {
            let mut starts = Starts {
                corner: &mut corner,
                protocol,
            };
            let name = format!("{name}{place}");
            figures.extend(starts.measure(&name)?);
            figures.extend(starts.steps(&name)?);
        }
    }
    Ok(figures)
}

struct Starts<'c> {
    corner: &'c mut Corner,
    protocol: GroupProtocol,
}

impl Starts<'_> {
    fn measure(&mut self, name: &str) -> anyhow::Result<Vec<Figure>> {
        // The first start of each fills the page cache, and makes the group.
        self.ours(&[])?;
        self.bare(&[])?;
        let (mut ours, mut tuned, mut defaults, mut gone) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..STARTS {
            let ended = self.ours(&[])?;
            ours.push(to_first(&ended));
            gone.push(ended.gone_ns.saturating_sub(ended.said.last_ns) as f64 / 1e6);
            tuned.push(to_first(&self.bare(&[])?));
            defaults.push(to_first(&self.bare(&["--default-settings"])?));
        }
        let figure = |what: &str, values: &[f64], share: f64, against: &str| {
            Figure::told(format!("cold-start.{name}.{what}"), quantile(values, share), "ms", against)
        };
        // Pretended brokers answer at once: the few milliseconds that are ours weigh more there than anywhere else.
        let ratio = Figure::told(
            format!("cold-start.{name}.ratio"),
            median(&ours) / median(&tuned),
            "ratio",
            "p50 beside the bare consumer with our settings",
        );
        let (first, alone) = ("exec to the first handler call, 30 starts", "a bare consumer, our settings");
        Ok(vec![
            figure("p50", &ours, 0.5, first),
            figure("p90", &ours, 0.9, first),
            figure("bare.p50", &tuned, 0.5, alone),
            figure("bare.p90", &tuned, 0.9, alone),
            figure("defaults.p50", &defaults, 0.5, "a bare consumer, librdkafka's settings"),
            figure("defaults.p90", &defaults, 0.9, "a bare consumer, librdkafka's settings"),
            if self.corner.is_mock() { ratio } else { ratio.at_most(1.2) },
            figure("gone.p50", &gone, 0.5, "last message to process gone, IDLE_EXIT_MS=0; goal 250"),
            figure("gone.p90", &gone, 0.9, "last message to process gone, IDLE_EXIT_MS=0"),
        ])
    }

    fn ours(&mut self, more: &[(&'static str, String)]) -> anyhow::Result<Ended> {
        let group = self.corner.topic.clone();
        self.one_message(&group)?;
        let mut vars = self.corner.vars(self.protocol);
        vars.push(("IDLE_EXIT_MS", "0".to_owned()));
        vars.extend_from_slice(more);
        let ended = child::run(&["worker"], &vars)?;
        anyhow::ensure!(ended.said.messages == 1, "{} messages came", ended.said.messages);
        Ok(ended)
    }

    fn bare(&mut self, more: &[&str]) -> anyhow::Result<Ended> {
        let group = self.corner.kafka.name(bare::GROUP);
        self.one_message(&group)?;
        let vars = self.corner.vars(self.protocol);
        child::run(&[&["bare", "--messages", "1"], more].concat(), &vars)
    }

    /// The group has handled everything but one message.
    fn one_message(&mut self, group: &str) -> anyhow::Result<()> {
        self.corner.renew();
        self.corner.stand(group, Stand::End)?;
        self.corner.fill(1, 1, 1024, |_| String::new())
    }

    /// Where the time goes, by the log; medians, in the order in which the steps happen.
    fn steps(&mut self, name: &str) -> anyhow::Result<Vec<Figure>> {
        let mut taken: Vec<Vec<f64>> = vec![Vec::new(); STEPS.len()];
        for _ in 0..LOGGED {
            let ended = self.ours(&[("RUST_LOG", "info,bus=debug".to_owned())])?;
            let mut before = ended.started_ns;
            for ((_, mark), taken) in STEPS.iter().zip(&mut taken) {
                let at = match mark {
                    Mark::Main => ended.said.main_ns,
                    Mark::FirstHandler => ended.said.first_ns,
                    Mark::LastHandler => ended.said.last_ns,
                    Mark::Gone => ended.gone_ns,
                    Mark::Logged(message) => logged_at(&ended.lines, message)?,
                };
                taken.push((at as f64 - before as f64) / 1e6);
                before = at;
            }
        }
        let figures = STEPS.iter().zip(&taken);
        let figures = figures.map(|((step, _), taken)| (format!("cold-start.{name}.step.{step}"), median(taken)));
        Ok(figures
            .map(|(name, ms)| Figure::told(name, ms, "ms", "median of 10, logged"))
            .collect())
    }
}

/// How a step's end is known.
enum Mark {
    Main,
    FirstHandler,
    LastHandler,
    Gone,
    /// The first log line with this message.
    Logged(&'static str),
}

const STEPS: [(&str, Mark); 13] = [
    ("main", Mark::Main),
    ("configured", Mark::Logged("process started")),
    ("consumer-made", Mark::Logged("consumer made")),
    ("asked-to-join", Mark::Logged("joining the group")),
    ("assigned", Mark::Logged("partitions assigned")),
    ("first-message", Mark::Logged("messages received")),
    ("first-handler", Mark::FirstHandler),
    ("last-handler", Mark::LastHandler),
    ("drained", Mark::Logged("ending")),
    ("committed", Mark::Logged("committed")),
    ("left", Mark::Logged("group left")),
    ("ended", Mark::Logged("process ended")),
    ("gone", Mark::Gone),
];

/// When a line with this message was first written, in nanoseconds since 1970.
fn logged_at(lines: &[String], message: &str) -> anyhow::Result<u64> {
    for line in lines {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        if line["message"] == message {
            let at: jiff::Timestamp = line["timestamp"].as_str().context("a log line without time")?.parse()?;
            return Ok(u64::try_from(at.as_nanosecond())?);
        }
    }
    anyhow::bail!("no log line {message:?} in {lines:?}")
}

/// Milliseconds from the start of the process to its first message.
fn to_first(ended: &Ended) -> f64 {
    ended.said.first_ns.saturating_sub(ended.started_ns) as f64 / 1e6
}
