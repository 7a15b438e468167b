//! What `redrive` is told: which letters, and what to do with them.

use std::ops::RangeInclusive;
use std::str::FromStr;

use jiff::{SpanRelativeTo, Timestamp, Zoned};

use super::letter::Letter;

/// Flags of `WORKER redrive`, the same for every worker.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub filter: Filter,
    /// At most so many letters that are, or would be, put back
    #[arg(long)]
    pub limit: Option<usize>,
    /// One JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
    /// Show the messages' values too, which may be confidential
    #[arg(long)]
    pub payload: bool,
    /// Put the letters back on their topic; without it nothing changes, and what would be put back is listed
    #[arg(long)]
    pub put_back: bool,
    /// Letters that were put back before, too
    #[arg(long)]
    pub again: bool,
    /// Who does it, for the record
    #[arg(long, env = "USER", hide_env_values = true)]
    pub by: Option<String>,
    /// Why, for the record
    #[arg(long)]
    pub reason: Option<String>,
    /// Letters a second, at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// Show who has put letters back, when and why, instead of the letters
    #[arg(long, conflicts_with_all = ["put_back", "payload"])]
    pub record: bool,
    /// Let the worker consume again that has stopped for too many dead letters (exit 65), and end
    #[arg(long, conflicts_with_all = ["put_back", "payload", "record"])]
    pub reset: bool,
}

/// Which letters; all that is given must hold.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// Why it is a dead letter: decode, handle, panic, timeout, emit or poison
    #[arg(long)]
    pub class: Option<String>,
    /// A part of the error's text, in upper or lower case
    #[arg(long, value_name = "TEXT")]
    pub error: Option<String>,
    /// A part of the event's type, e.g. document.submitted
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    /// The message's key; demo/* for all of a tenant's
    #[arg(long)]
    pub key: Option<String>,
    /// Failed at or after this: 2026-11-22T10:00:00Z, or e.g. 2h for two hours ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,
    /// Failed before this
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,
    /// Places in the dead-letter topic: 7, 7..9 (both included), 7.. or ..9
    #[arg(long, value_name = "A..B")]
    pub offset: Option<Offsets>,
    /// Which worker gave up: ingestion@0.1.0, or only its version
    #[arg(long, value_name = "WORKER@VERSION")]
    pub worker: Option<String>,
}

/// A time, given as itself or as how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub Timestamp);

impl FromStr for Moment {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self(time));
        }
        let ago: jiff::Span = text
            .parse()
            .map_err(|_| "neither a time such as 2026-11-22T10:00:00Z nor how long ago, such as 90m, 2h or 3d".to_owned())?;
        let seconds = ago
            .to_duration(SpanRelativeTo::days_are_24_hours())
            .map_err(|e| e.to_string())?
            .abs();
        let now = Zoned::now().timestamp();
        now.checked_sub(seconds).map(Self).map_err(|e| e.to_string())
    }
}

/// A range of places, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets(pub RangeInclusive<i64>);

impl FromStr for Offsets {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "it must be an offset, or two with .. between them";
        let end = |text: &str, open: i64| match text {
            "" => Ok(open),
            number => number.parse::<i64>().ok().filter(|n| *n >= 0).ok_or(wrong),
        };
        let (from, to) = match text.split_once("..") {
            Some(("", "")) => return Err(wrong),
            Some((from, to)) => (end(from, 0)?, end(to, i64::MAX)?),
            None if text.is_empty() => return Err(wrong),
            None => (end(text, 0)?, end(text, 0)?),
        };
        if from > to {
            return Err("the first offset is behind the second");
        }
        Ok(Self(from..=to))
    }
}

impl Filter {
    /// Whether a letter is meant.
    pub(super) fn takes(&self, letter: &Letter) -> bool {
        let asked = |wanted: &Option<String>, holds: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(holds);
        let key = letter.key_text();
        let failed = letter.last_failure();
        asked(&self.class, &|c| letter.class == c)
            && asked(&self.error, &|e| letter.error.to_lowercase().contains(&e.to_lowercase()))
            && asked(&self.event_type, &|t| letter.event_type.contains(t))
            && asked(&self.key, &|k| match k.strip_suffix('*') {
                Some(beginning) => key.starts_with(beginning),
                None => key == k,
            })
            && asked(&self.worker, &|w| {
                letter.worker == w || letter.worker.rsplit_once('@').is_some_and(|(_, version)| version == w)
            })
            && self.since.is_none_or(|since| failed >= since.0)
            && self.until.is_none_or(|until| failed < until.0)
            && self.offset.as_ref().is_none_or(|range| range.0.contains(&letter.offset))
    }

    /// The first and the last place that can be meant.
    pub(super) fn places(&self) -> (i64, i64) {
        self.offset.as_ref().map_or((0, i64::MAX), |o| (*o.0.start(), *o.0.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_in_every_usual_way() {
        let range = |text: &str| text.parse::<Offsets>().map(|o| o.0);
        assert_eq!(range("7"), Ok(7..=7));
        assert_eq!(range("7..9"), Ok(7..=9));
        assert_eq!(range("7.."), Ok(7..=i64::MAX));
        assert_eq!(range("..9"), Ok(0..=9));
        for wrong in ["", "..", "9..7", "-1", "a..b", "1-2"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_is_given_as_itself_or_as_how_long_ago() {
        let exact: Moment = "2026-11-22T10:00:00Z".parse().unwrap();
        assert_eq!(exact.0.to_string(), "2026-11-22T10:00:00Z");
        for (text, seconds) in [("90m", 5400), ("2h", 7200), ("3d", 259_200)] {
            let moment: Moment = text.parse().unwrap();
            let ago = Timestamp::now().duration_since(moment.0).as_secs();
            assert!((ago - seconds).abs() <= 1, "{text}: {ago}");
        }
        assert!("yesterday".parse::<Moment>().unwrap_err().contains("2h"));
    }
}
