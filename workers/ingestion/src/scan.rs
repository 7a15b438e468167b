//! Malware: ClamAV's daemon sees each document's bytes before anything of ours parses them.
//!
//! Scanning is a pass of its own over the inbox, before the one that stores: what is found never touches the container
//! of the documents. Both passes ask for the same version of the blob. Only a clean verdict about the whole document
//! lets it through. A scanner that is away, slow or out of order is waited for, never taken for a verdict; a document
//! that the scanner cannot scan is set aside, so that it does not hold up the ones behind it.

mod clamd;
mod meters;

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use jiff::Timestamp;
use messages::DocumentSubmitted;
use opentelemetry::metrics::Meter;
use stores::{Blobs, StoreError};
use tokio::sync::Semaphore;
use tracing::{info, warn};
use uuid::Uuid;
use zip::write::SimpleFileOptions;

use crate::error::Error;
use crate::fetch::{self, Opened};
use crate::read::Refusal;
use clamd::{Answer, Broken, Clamd, Silence};
use meters::{Meters, Seen};

pub use clamd::Patience;

/// Scans of this process at one time; clamd has ten threads by default, for all that ask.
const SCANS: usize = 4;
/// How often a document may be the last thing that the scanner was given. Once may be a restart, twice an accident.
const MAX_LOST: u32 = 3;
/// Documents whose losses are remembered; those in hand are far fewer.
const MAX_REMEMBERED: usize = 1000;
/// How long what the scanner said of itself holds.
const INTRODUCED: Duration = Duration::from_secs(3600);
/// Signatures older than this are warned of: the project makes new ones every day.
const OLD: Duration = Duration::from_secs(3 * 24 * 3600);
/// Archives within each other in the trial, past the most that clamd can be set to open (`MaxRecursion`, 100).
const NESTED: usize = 128;
/// How clamd's names begin for what it did not scan to the end.
const LIMITS: &str = "Heuristics.Limits.Exceeded";

/// What became of a document's scan.
#[derive(Debug, PartialEq)]
pub enum Scanned {
    Clean,
    /// Malware, or not scanned to the end.
    Quarantined(Refusal),
    /// The bytes are not what was announced.
    Rejected(Refusal),
}

/// Why a pass over the bytes was broken off.
#[derive(Debug)]
enum Source {
    Store(StoreError),
    /// More bytes came than were announced.
    TooLong,
}

pub struct Scanner {
    clamd: Clamd,
    scans: Semaphore,
    /// When the scanner last said who it is, and passed the trial.
    introduced: tokio::sync::Mutex<Option<Instant>>,
    lost: Mutex<HashMap<Uuid, u32>>,
    meters: Meters,
}

impl Scanner {
    /// The scanner at `host:port`; a connection is made when the first document needs it.
    pub fn new(address: impl Into<String>, patience: Patience, meter: &Meter) -> Self {
        Self {
            clamd: Clamd {
                address: address.into(),
                patience,
            },
            scans: Semaphore::new(SCANS),
            introduced: tokio::sync::Mutex::default(),
            lost: Mutex::default(),
            meters: Meters::new(meter),
        }
    }

    /// Has a document scanned, where it was uploaded to.
    ///
    /// # Errors
    /// A store's, and [`Error::Scanner`] when the scanner is not to be had.
    pub async fn scan(&self, blobs: &Blobs, document: &DocumentSubmitted) -> Result<Scanned, Error> {
        // The semaphore is never closed. Waiting comes before the download, which must not stall.
        let _one_of_few = self.scans.acquire().await.ok();
        self.introduce().await?;
        let body = match fetch::open(blobs, document).await? {
            Opened::Body(body) => body,
            Opened::Rejected(refusal) => return Ok(Scanned::Rejected(refusal)),
        };
        let announced = document.size;
        let mut seen = 0u64;
        let body = body.map_err(Source::Store).and_then(move |bytes| {
            seen += bytes.len() as u64;
            std::future::ready(if seen > announced { Err(Source::TooLong) } else { Ok(bytes) })
        });
        match self.look(document.document_id, body).await? {
            Ok(scanned) => Ok(scanned),
            Err(Source::TooLong) => Ok(Scanned::Rejected(fetch::not_as_announced())),
            Err(Source::Store(StoreError::NotFound(_) | StoreError::Conflict(_))) => Ok(Scanned::Rejected(fetch::blob_missing())),
            Err(Source::Store(e)) => Err(e.into()),
        }
    }

    /// Has a stream scanned under a document's id. The inner error is the stream's own.
    async fn look<S, E>(&self, id: Uuid, body: S) -> Result<Result<Scanned, E>, Error>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
    {
        let begun = Instant::now();
        let answer = match self.clamd.instream(body).await {
            Ok(answer) => answer,
            Err(Broken::Source(e)) => return Ok(Err(e)),
            Err(Broken::Clamd(silence)) => return self.silent(id, silence).map(Ok),
        };
        let (seen, scanned) = match answer {
            Answer::Clean => (Seen::Clean, Scanned::Clean),
            Answer::Found(name) if name.starts_with(LIMITS) => (Seen::NotScanned, not_scanned(&format!("it exceeds a limit ({name})"))),
            Answer::Found(name) => (Seen::Found, found(&name)),
            Answer::TooLong => (Seen::NotScanned, not_scanned("it is larger than the scanner takes")),
            Answer::Failed(why) => {
                // Whose fault that is, a scan of something innocent tells.
                self.try_out(Bytes::from_static(b"innocent"), |answer| *answer == Answer::Clean)
                    .await?;
                (Seen::NotScanned, not_scanned(&format!("the scanner failed on it ({why})")))
            }
        };
        self.forget(id);
        self.meters.scanned(seen, begun.elapsed());
        if let Scanned::Quarantined(refusal) = &scanned {
            warn!(document.id = %id, reason = refusal.code, "document not let through by the scanner");
        }
        Ok(Ok(scanned))
    }

    /// No answer about a document. A scanner that goes away over the same document again and again will go on doing so.
    fn silent(&self, id: Uuid, silence: Silence) -> Result<Scanned, Error> {
        let times = match silence {
            Silence::Away(why) => return Err(self.away(&why)),
            Silence::Lost => self.remember(id),
        };
        if times < MAX_LOST {
            return Err(self.away("it went away while it scanned a document"));
        }
        self.forget(id);
        self.meters.scanned(Seen::NotScanned, Duration::ZERO);
        let why = format!("the scanner went away {MAX_LOST} times while it scanned it");
        warn!(document.id = %id, "{why}");
        Ok(not_scanned(&why))
    }

    /// Asks the scanner who it is, now and then, and whether it tells what it has not scanned.
    async fn introduce(&self) -> Result<(), Error> {
        let mut introduced = self.introduced.lock().await;
        if introduced.is_some_and(|at| at.elapsed() < INTRODUCED) {
            return Ok(());
        }
        let version = match self.clamd.version().await {
            Ok(version) => version,
            Err(Silence::Away(why)) => return Err(self.away(&why)),
            Err(Silence::Lost) => return Err(self.away("it went away")),
        };
        let tells = |answer: &Answer| matches!(answer, Answer::Found(name) if name.starts_with(LIMITS));
        self.try_out(nested().map_err(|e| Error::Unwritable(e.to_string()))?, tells).await?;
        self.meters.signatures(version.signatures);
        let age = version.signatures.map(|made| Timestamp::now().duration_since(made).unsigned_abs());
        let age_hours = age.map(|age| age.as_secs() / 3600);
        if age.is_some_and(|age| age > OLD) {
            warn!(
                clamd.version = version.text,
                signatures.age_hours = age_hours,
                "the scanner's signatures are old: see why freshclam does not renew them"
            );
        } else {
            info!(
                clamd.version = version.text,
                signatures.age_hours = age_hours,
                "documents are scanned"
            );
        }
        *introduced = Some(Instant::now());
        Ok(())
    }

    /// Scans something of ours whose answer is known: another one means that no verdict can be trusted.
    async fn try_out(&self, bytes: Bytes, expected: impl Fn(&Answer) -> bool) -> Result<(), Error> {
        let stream = futures::stream::iter([Ok::<_, std::convert::Infallible>(bytes)]);
        match self.clamd.instream(stream).await {
            Ok(answer) if expected(&answer) => Ok(()),
            Ok(Answer::Clean) => Err(self.away("it calls clean what it did not scan: set `AlertExceedsMax yes` in clamd.conf")),
            Ok(answer) => Err(self.away(&format!("it answered a trial with {answer:?}"))),
            Err(Broken::Clamd(Silence::Away(why))) => Err(self.away(&why)),
            Err(Broken::Clamd(Silence::Lost)) => Err(self.away("it went away")),
            Err(Broken::Source(never)) => match never {},
        }
    }

    fn away(&self, why: &str) -> Error {
        self.meters.unavailable();
        Error::Scanner(format!("the scanner at {} (CLAMD_ADDR): {why}", self.clamd.address))
    }

    /// How often the scanner went away over this document.
    fn remember(&self, id: Uuid) -> u32 {
        // Nobody panics while holding it.
        let mut lost = self.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if lost.len() >= MAX_REMEMBERED {
            lost.clear();
        }
        let times = lost.entry(id).or_default();
        *times += 1;
        *times
    }

    fn forget(&self, id: Uuid) {
        self.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&id);
    }
}

fn found(name: &str) -> Scanned {
    let text = format!("the scanner found {name} in it; nothing was read from it, and it is kept aside in the inbox until that is emptied");
    Scanned::Quarantined(Refusal::new("malware", text))
}

fn not_scanned(why: &str) -> Scanned {
    let text =
        format!("it could not be scanned for malware to its end: {why}; nothing was read from it: send it in another form, or in parts");
    Scanned::Quarantined(Refusal::new("not-scanned", text))
}

/// Archives within archives, more than any clamd opens: one that is set up well says so.
fn nested() -> zip::result::ZipResult<Bytes> {
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut inner = b"innocent".to_vec();
    for _ in 0..NESTED {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        writer.start_file("a.zip", options)?;
        writer.write_all(&inner)?;
        inner = writer.finish()?.into_inner();
    }
    Ok(inner.into())
}

#[cfg(test)]
mod tests;
