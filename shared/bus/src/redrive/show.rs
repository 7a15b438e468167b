//! What people and scripts see of letters.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::history::Claim;
use super::letter::Letter;

/// How often the progress line is renewed.
const PROGRESS: Duration = Duration::from_millis(200);

/// How a letter stands, before or after this run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub(super) enum State {
    /// It waits for somebody to put it back.
    Waiting,
    PutBack {
        by: String,
        at: Timestamp,
        reason: Option<String>,
        times: u32,
        now_partition: i32,
        now_offset: i64,
    },
    /// Somebody is putting it back at this moment.
    Claimed { by: String, at: Timestamp },
    /// Somebody was about to, and its topic does not tell any more whether it came to that.
    Unclear { by: String, at: Timestamp },
    /// It was on another topic.
    Foreign,
    /// Sent, and not acknowledged.
    Unknown { why: String },
}

impl State {
    fn in_words(&self) -> String {
        let time = |t: &Timestamp| t.strftime("%F %T").to_string();
        match self {
            Self::Waiting => "waiting".to_owned(),
            Self::PutBack { by, at, times: 1, .. } => format!("put back {} by {by}", time(at)),
            Self::PutBack { by, at, times, .. } => format!("put back {times} times, last {} by {by}", time(at)),
            Self::Claimed { by, at } => format!("being put back by {by} since {}", time(at)),
            Self::Unclear { by, at } => format!("perhaps put back {} by {by}", time(at)),
            Self::Foreign => "of another topic".to_owned(),
            Self::Unknown { why } => format!("not acknowledged: {why}"),
        }
    }
}

/// A letter for scripts; never its message's value, unless that was asked for.
#[derive(Serialize)]
struct Line<'l> {
    letter: i64,
    topic: &'l str,
    partition: i32,
    offset: i64,
    event_id: &'l str,
    event_type: &'l str,
    subject: &'l str,
    key: &'l str,
    class: &'l str,
    attempts: u32,
    error: &'l str,
    worker: &'l str,
    first_failure: Timestamp,
    last_failure: Timestamp,
    /// How often the message had been put back before it failed this time.
    redriven: u32,
    upload_may_be_gone: bool,
    #[serde(flatten)]
    state: &'l State,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Value>,
}

/// Where the answer goes: letters to `out`, everything else to `say`.
pub struct Output<'w> {
    pub out: &'w mut dyn Write,
    pub say: &'w mut dyn Write,
    /// Whether `say` is a terminal, where a line of progress is welcome.
    pub terminal: bool,
}

pub(super) struct Sheet<'o, 'w> {
    output: &'o mut Output<'w>,
    json: bool,
    payload: bool,
    begun: bool,
    progress: Option<Instant>,
}

impl<'o, 'w> Sheet<'o, 'w> {
    pub fn new(output: &'o mut Output<'w>, json: bool, payload: bool) -> Self {
        Self {
            output,
            json,
            payload,
            begun: false,
            progress: None,
        }
    }

    /// Shows a letter and how it stands.
    pub fn letter(&mut self, letter: &Letter, state: &State, now: Timestamp) -> io::Result<()> {
        self.clear()?;
        let key = letter.key_text();
        let payload = self.payload.then(|| value(letter));
        if self.json {
            let line = Line {
                letter: letter.offset,
                topic: &letter.topic,
                partition: letter.partition,
                offset: letter.at,
                event_id: &letter.event_id,
                event_type: &letter.event_type,
                subject: &letter.subject,
                key: &key,
                class: &letter.class,
                attempts: letter.attempts,
                error: &letter.error,
                worker: &letter.worker,
                first_failure: letter.first_failure(),
                last_failure: letter.last_failure(),
                redriven: letter.redriven,
                upload_may_be_gone: letter.upload_may_be_gone(now),
                state,
                payload,
            };
            return writeln!(self.output.out, "{}", serde_json::to_string(&line)?);
        }
        if !std::mem::replace(&mut self.begun, true) {
            writeln!(
                self.output.out,
                "{:>7}  {:<19}  {:<10}  {:<7} {:>5}  {:<18}  {:<24}  {:<28}  {:<36}  error",
                "letter", "failed last", "from", "class", "tries", "worker", "type", "key", "state"
            )?;
        }
        let event_type = letter.event_type.trim_start_matches("com.libertum.");
        writeln!(
            self.output.out,
            "{:>7}  {:<19}  {:<10}  {:<7} {:>5}  {:<18}  {:<24}  {:<28}  {:<36}  {}",
            letter.offset,
            letter.last_failure().strftime("%F %T").to_string(),
            format!("{}/{}", letter.partition, letter.at),
            plain(&letter.class),
            letter.attempts,
            plain(&letter.worker),
            plain(event_type),
            plain(&key),
            plain(&state.in_words()),
            plain(&letter.error),
        )?;
        match payload {
            Some(payload) => writeln!(self.output.out, "         {}", plain(&payload.to_string())),
            None => Ok(()),
        }
    }

    /// Shows a claim: who has put letters back.
    pub fn claim(&mut self, claim: &Claim) -> io::Result<()> {
        if self.json {
            let line = serde_json::json!({
                "claim": claim.id, "at": claim.at, "by": claim.by, "reason": claim.reason,
                "letters": claim.letters, "put_back": claim.done,
            });
            return writeln!(self.output.out, "{line}");
        }
        if !std::mem::replace(&mut self.begun, true) {
            writeln!(
                self.output.out,
                "{:<19}  {:>7}  {:>8}  {:<20}  reason",
                "at", "letters", "put back", "by"
            )?;
        }
        writeln!(
            self.output.out,
            "{:<19}  {:>7}  {:>8}  {:<20}  {}",
            claim.at.strftime("%F %T").to_string(),
            claim.letters,
            claim.done,
            plain(&claim.by),
            plain(claim.reason.as_deref().unwrap_or_default()),
        )
    }

    /// Says something to the person.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        self.clear()?;
        writeln!(self.output.say, "{text}")
    }

    /// Shows how far it has come, to people only and not too often.
    pub fn progress(&mut self, text: impl FnOnce() -> String) -> io::Result<()> {
        if !self.output.terminal || self.progress.is_some_and(|at| at.elapsed() < PROGRESS) {
            return Ok(());
        }
        self.progress = Some(Instant::now());
        write!(self.output.say, "\r{} ", text())?;
        self.output.say.flush()
    }

    fn clear(&mut self) -> io::Result<()> {
        if self.progress.take().is_some() {
            write!(self.output.say, "\r\x1b[K")?;
        }
        Ok(())
    }
}

fn value(letter: &Letter) -> Value {
    let bytes = letter.value().unwrap_or_default();
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

/// What came over the wire must not move a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
