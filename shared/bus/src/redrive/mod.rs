//! `WORKER redrive`: a topic's dead letters, and the way back for them.
//!
//! Without `--put-back` nothing changes: the letters are listed, and what would go. A letter goes back once, whoever asks
//! and whatever crashes in between: `desk` has the steps, `history` the rule for two at one time.

mod args;
mod desk;
mod history;
mod letter;
mod log;
mod show;

use std::collections::HashSet;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use messages::topics;
use runtime::{Env, Exit, Reader};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use args::{Args, Filter, Moment, Offsets};
pub use letter::header;
pub use show::Output;

use crate::{KafkaConfig, Ledger, breaker};
use desk::{Desk, Going, Outcome};
use history::Known;
use letter::Letter;
use log::{Log, Range, only};
use show::{Sheet, State};

/// Runs the command as the whole of a program.
pub fn main<L: Ledger>(worker: &'static str, args: Args, ledger: impl FnOnce() -> anyhow::Result<L>) -> ExitCode {
    runtime::tls_provider();
    let ended = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(command(worker, args, ledger)));
    let exit = ended.unwrap_or_else(|error| {
        eprintln!("{worker}: {error:#}");
        Exit::from_error(&error)
    });
    ExitCode::from(exit.code())
}

/// Runs the command: letters go to the standard output, everything else to the standard error. The ledger is made when
/// its breaker is to be reset.
///
/// # Errors
/// As [`run`], and when the environment's settings are wrong.
pub async fn command<L: Ledger>(worker: &'static str, args: Args, ledger: impl FnOnce() -> anyhow::Result<L>) -> anyhow::Result<Exit> {
    let mut r = Reader::default();
    let config = KafkaConfig::read(&Env::of_process(), &mut r);
    let kafka = r.finish(config)?;
    if args.reset {
        eprintln!("{}", reset(&ledger()?, &kafka, worker).await?);
        return Ok(Exit::Drained);
    }
    let stop = CancellationToken::new();
    if args.put_back {
        // A batch that is begun is ended. A list may end anywhere.
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let told = stop.clone();
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            told.cancel();
        });
    }
    let work = move || {
        let (out, say) = (std::io::stdout(), std::io::stderr());
        let terminal = say.is_terminal();
        let mut output = Output {
            out: &mut out.lock(),
            say: &mut say.lock(),
            terminal,
        };
        run(&kafka, worker, &args, &stop, &mut output)
    };
    match tokio::task::spawn_blocking(work).await? {
        // `| head` has seen enough.
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => Ok(Exit::Drained),
        ended => ended,
    }
}

/// Lets the worker consume again after too many dead letters.
async fn reset(ledger: &dyn Ledger, kafka: &KafkaConfig, worker: &str) -> anyhow::Result<String> {
    let stopped = breaker::reset(ledger, kafka, worker).await;
    let stopped = stopped.map_err(|e| {
        Exit::Unavailable
            .error()
            .context(format!("{e}; check REDIS_URL, and run this again"))
    })?;
    let versions: Vec<String> = stopped.iter().map(|t| format!("{} ({})", t.version, t.why)).collect();
    Ok(match versions.as_slice() {
        [] => format!("no version of {worker} was stopped; its counts of dead letters begin anew"),
        some => format!("{worker} consumes again; stopped were: {}", some.join(", ")),
    })
}

/// What there is to say at the end.
#[derive(Default)]
struct Tally {
    letters: usize,
    going: usize,
    back: usize,
    before: usize,
    claimed: usize,
    unclear: usize,
    foreign: usize,
    unknown: usize,
    unreadable: usize,
    old_uploads: usize,
}

/// Lists or puts back. Blocks, within a tokio runtime.
///
/// # Errors
/// When a topic does not exist, the brokers do not answer or refuse us, or nobody is named for the record.
pub fn run(kafka: &KafkaConfig, worker: &str, args: &Args, stop: &CancellationToken, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let by = if args.put_back { who(args)? } else { String::new() };
    let dead = kafka.name(&topics::dead(worker));
    let mut letters = Log::new(kafka, worker, dead.clone())?;
    // What is written from now on is left for the next time: a message that fails again must not go round for ever.
    let all = only(&dead, &letters.bounds()?)?;
    let desk = Desk::open(kafka, worker, all.from)?;
    let sheet = Sheet::new(output, args.json, args.payload);
    let mut run = Run {
        worker,
        target: kafka.name(worker),
        args,
        by,
        now: Timestamp::now(),
        absent: HashSet::new(),
        desk,
        sheet,
        batch: Vec::new(),
        tally: Tally::default(),
    };
    if args.record {
        for claim in run.desk.history.claims() {
            run.sheet.claim(claim)?;
        }
        return Ok(Exit::Drained);
    }
    run.absent = run.desk.settle(run.now, args.put_back)?;
    let (first, last) = args.filter.places();
    letters.seek(&[Range {
        from: all.from.max(first),
        to: all.to.min(last.saturating_add(1)),
        ..all
    }])?;
    run.go_through(&mut letters, all, stop)?;
    run.finish(stop)
}

/// Who puts letters back.
fn who(args: &Args) -> anyhow::Result<String> {
    let by = args.by.as_deref().unwrap_or_default().trim();
    if by.is_empty() || by.len() > 100 || by.chars().any(char::is_control) {
        return Err(Exit::Config
            .error()
            .context("say who puts letters back: --by NAME, of at most 100 bytes"));
    }
    Ok(by.to_owned())
}

struct Run<'a, 'o, 'w> {
    worker: &'a str,
    target: String,
    args: &'a Args,
    by: String,
    now: Timestamp,
    /// Letters of crashed claims whose message is not on its topic.
    absent: HashSet<i64>,
    desk: Desk<'a>,
    sheet: Sheet<'o, 'w>,
    batch: Vec<Going>,
    tally: Tally,
}

impl Run<'_, '_, '_> {
    fn go_through(&mut self, letters: &mut Log, all: Range, stop: &CancellationToken) -> anyhow::Result<()> {
        let limit = self.args.limit.unwrap_or(usize::MAX);
        while self.tally.going < limit && self.tally.unknown == 0 && !stop.is_cancelled() {
            let Some(record) = letters.next()? else { break };
            let read = record.offset() + 1 - all.from;
            match Letter::read(record) {
                Ok(letter) if self.args.filter.takes(&letter) => self.letter(letter)?,
                Ok(_) => {}
                Err(_) => self.tally.unreadable += 1,
            }
            let (tally, put_back) = (&self.tally, self.args.put_back);
            self.sheet.progress(|| {
                let back = if put_back {
                    format!(", {} put back", tally.back)
                } else {
                    String::new()
                };
                format!("{read} of {} read, {} match{back}", all.to - all.from, tally.letters)
            })?;
        }
        if !stop.is_cancelled() {
            self.send()?;
        }
        Ok(())
    }

    /// Decides about one letter: it goes, or the reason why not is shown.
    fn letter(&mut self, letter: Letter) -> anyhow::Result<()> {
        self.tally.letters += 1;
        let known = self.desk.history.known(letter.offset, letter.written_ms, self.now);
        let again = self.args.again;
        let (state, goes) = match known {
            _ if letter.topic != self.target => {
                self.tally.foreign += 1;
                (State::Foreign, None)
            }
            Known::Nothing => (State::Waiting, Some((None, 0))),
            Known::PutBack { claim, times, place } => {
                self.tally.before += usize::from(!again);
                let state = State::PutBack {
                    by: claim.by.clone(),
                    at: claim.at,
                    reason: claim.reason.clone(),
                    times,
                    now_partition: place.0,
                    now_offset: place.1,
                };
                (state, again.then_some((Some(claim.id), times)))
            }
            Known::Claimed { claim, .. } => {
                self.tally.claimed += 1;
                let (by, at) = (claim.by.clone(), claim.at);
                (State::Claimed { by, at }, None)
            }
            Known::Unclear { claim, times } if self.absent.contains(&letter.offset) => (State::Waiting, Some((Some(claim.id), times))),
            Known::Unclear { claim, times } => {
                self.tally.unclear += usize::from(!again);
                let (by, at) = (claim.by.clone(), claim.at);
                (State::Unclear { by, at }, again.then_some((Some(claim.id), times)))
            }
        };
        if goes.is_some() {
            self.tally.going += 1;
            self.tally.old_uploads += usize::from(letter.upload_may_be_gone(self.now));
        }
        match goes {
            Some((after, times)) if self.args.put_back => self.hold(Going { letter, after, times }),
            _ => Ok(self.sheet.letter(&letter, &state, self.now)?),
        }
    }

    fn hold(&mut self, going: Going) -> anyhow::Result<()> {
        self.batch.push(going);
        if self.batch.len() >= Desk::batch(self.args.rate) {
            self.send()?;
            std::thread::sleep(Duration::from_secs(1) / self.args.rate);
        }
        Ok(())
    }

    /// Puts back what is held.
    fn send(&mut self) -> anyhow::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let at = Timestamp::now();
        let reason = self.args.reason.clone();
        let outcomes = self.desk.put_back(&batch, &self.by, reason.as_deref(), self.args.rate)?;
        for (Going { letter, times, .. }, outcome) in batch.iter().zip(outcomes) {
            let state = match outcome {
                Outcome::Back(placed) => {
                    self.tally.back += 1;
                    State::PutBack {
                        by: self.by.clone(),
                        at,
                        reason: reason.clone(),
                        times: times + 1,
                        now_partition: placed.partition,
                        now_offset: placed.offset,
                    }
                }
                Outcome::LeftTo(by) => {
                    self.tally.claimed += 1;
                    State::Claimed { by, at }
                }
                Outcome::Unknown(why) => {
                    self.tally.unknown += 1;
                    State::Unknown { why }
                }
            };
            self.sheet.letter(letter, &state, at)?;
        }
        Ok(())
    }

    fn finish(mut self, stop: &CancellationToken) -> anyhow::Result<Exit> {
        let t = &self.tally;
        let mut text = vec![format!("{} letters of {}.dead match", t.letters, self.worker)];
        if self.args.put_back {
            text.push(format!("{} are put back on {} by {}", t.back, self.target, self.by));
        } else {
            text.push(format!("{} would be put back on {}", t.going, self.target));
        }
        for (count, what) in [
            (t.before, "were put back before (--again does it once more)"),
            (t.claimed, "are being put back by somebody else at this moment"),
            (
                t.unclear,
                "were perhaps put back by a run that crashed, and their topic does not tell any more (--again puts them back)",
            ),
            (t.foreign, "were on another topic and stay"),
            (t.old_uploads, "are uploads of more than 35 days ago, whose bytes may be deleted"),
            (t.unknown, "were not acknowledged; run this again, it finds out what became of them"),
            (t.unreadable, "other messages there are no letters"),
        ] {
            if count > 0 {
                text.push(format!("{count} {what}"));
            }
        }
        if stop.is_cancelled() {
            text.push("stopped before the end".to_owned());
        }
        if !self.args.put_back {
            text.push("nothing has changed: --put-back does it".to_owned());
        }
        let unknown = t.unknown;
        self.sheet.say(&text.join("; "))?;
        if unknown > 0 {
            Ok(Exit::NotAcknowledged)
        } else {
            Ok(Exit::Drained)
        }
    }
}
