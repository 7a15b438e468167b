//! `mongodump --archive --oplog` as a stream of compressed bytes that ends well only when the tool did.
//!
//! A mongodump that is killed leaves an archive that parses, checksums and all. Its exit status is the only truth, so
//! it is asked before the stream ends, and what consumes the stream commits nothing that ends in an error.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use runtime::Secret;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::archive::{ArchiveError, Reader, Summary};
use crate::tools::{Tool, Tools};

/// zstd's own default: the size of gzip less a quarter, at five times its speed.
const LEVEL: i32 = 3;
/// Bytes read from the tool at a time.
const READ: usize = 256 * 1024;
/// Compressed bytes handed on at a time, and how many of them may wait.
const PIECE: usize = 1024 * 1024;
const WAITING: usize = 4;
/// How long the tool may write nothing while we wait for it.
const SILENCE: Duration = Duration::from_secs(300);

/// A dump that runs.
pub struct Dump {
    tool: Tool,
    pieces: mpsc::Receiver<Bytes>,
    summary: oneshot::Receiver<Result<Summary, PumpError>>,
    whole: oneshot::Sender<Summary>,
    deadline: Instant,
    limit: Duration,
}

enum PumpError {
    Archive(ArchiveError),
    Io(std::io::Error),
}

/// Compressed bytes that have passed so far, for people who watch.
pub type Progress = Arc<AtomicU64>;

impl Dump {
    /// Starts it. The receiver gets the archive's summary once the stream has ended well.
    ///
    /// # Errors
    /// [`Error::Tool`] when mongodump cannot be started.
    pub fn start(tools: &Tools, uri: &Secret, limit: Duration, progress: Progress) -> Result<(Self, oneshot::Receiver<Summary>), Error> {
        // One collection at a time: compressing one stream is slower than reading one cursor, and each further
        // collection costs 90 MB of memory.
        let arguments = ["--archive", "--oplog", "--numParallelCollections", "1"];
        let mut tool = tools.start("mongodump", uri, &arguments, Stdio::null(), Stdio::piped())?;
        let stdout = tool.child.stdout.take().ok_or(Error::Source("mongodump has no standard output"))?;
        let stdout = File::from(stdout.into_owned_fd()?);
        let (sender, pieces) = mpsc::channel(WAITING);
        let (tell_summary, summary) = oneshot::channel();
        let (whole, receiver) = oneshot::channel();
        // A thread of its own: reading blocks, and compressing takes a whole core.
        std::thread::Builder::new().name("backup-pump".to_owned()).spawn(move || {
            let result = pump(stdout, sender, &progress);
            if tell_summary.send(result).is_err() {
                // The dump was dropped; nobody wants to know.
            }
        })?;
        let dump = Self {
            tool,
            pieces,
            summary,
            whole,
            deadline: Instant::now() + limit,
            limit,
        };
        Ok((dump, receiver))
    }

    /// The compressed archive.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send {
        // Fused: whoever cuts it into blocks asks once more after the end.
        futures::stream::unfold(Some(self), |dump| async move {
            let mut dump = dump?;
            match dump.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(dump))),
                Ok(None) => match dump.end().await {
                    Ok(()) => None,
                    Err(e) => Some((Err(e), None)),
                },
                Err(e) => {
                    dump.tool.kill().await;
                    Some((Err(e), None))
                }
            }
        })
        .fuse()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left.min(SILENCE), self.pieces.recv()).await {
            Ok(piece) => Ok(piece),
            Err(_) if left < SILENCE => Err(Error::TooLong(self.limit.as_secs())),
            Err(_) => Err(Error::Stalled(SILENCE.as_secs())),
        }
    }

    /// After the last byte: did the tool end well, and is the archive whole?
    async fn end(mut self) -> Result<(), Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let Ok(status) = tokio::time::timeout(left.min(SILENCE), self.tool.child.wait()).await else {
            self.tool.kill().await;
            return Err(Error::Stalled(SILENCE.as_secs()));
        };
        let status = status?;
        let summary = self.summary.await;
        // Our own refusal breaks the tool's pipe; then the reason is ours, not the status that follows from it.
        let summary = match summary {
            Ok(Err(PumpError::Archive(reason))) if !reason.is_unfinished() => return Err(reason.into()),
            other => other,
        };
        if !status.success() {
            let said = last_words(&self.tool.said().await);
            return Err(Error::Ended {
                tool: "mongodump",
                status: status.to_string(),
                said,
            });
        }
        match summary {
            Ok(Ok(summary)) => {
                if self.whole.send(summary).is_err() {
                    return Err(Error::Cancelled);
                }
                Ok(())
            }
            Ok(Err(PumpError::Archive(reason))) => Err(reason.into()),
            Ok(Err(PumpError::Io(e))) => Err(e.into()),
            Err(_) => Err(Error::Source("the thread that read mongodump ended early")),
        }
    }
}

/// The last lines of what a tool said, as one.
pub fn last_words(lines: &[String]) -> String {
    let last = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default();
    if last.is_empty() {
        "it said nothing".to_owned()
    } else {
        last.join(" | ")
    }
}

/// Reads the tool, looks into the archive, compresses and hands on, until the end or until nobody wants more.
fn pump(mut stdout: File, sender: mpsc::Sender<Bytes>, progress: &Progress) -> Result<Summary, PumpError> {
    let mut reader = Reader::default();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::with_capacity(2 * PIECE), LEVEL).map_err(PumpError::Io)?;
    encoder.include_checksum(true).map_err(PumpError::Io)?;
    let mut buffer = vec![0; READ];
    let hand_on = |bytes: Vec<u8>| {
        progress.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let gone = |_| PumpError::Io(std::io::ErrorKind::BrokenPipe.into());
        sender.blocking_send(Bytes::from(bytes)).map_err(gone)
    };
    loop {
        let n = match stdout.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(PumpError::Io(e)),
        };
        let bytes = buffer.get(..n).unwrap_or_default();
        reader.feed(bytes).map_err(PumpError::Archive)?;
        encoder.write_all(bytes).map_err(PumpError::Io)?;
        if encoder.get_ref().len() >= PIECE {
            hand_on(std::mem::replace(encoder.get_mut(), Vec::with_capacity(2 * PIECE)))?;
        }
    }
    let rest = encoder.finish().map_err(PumpError::Io)?;
    let summary = reader.finish().map_err(PumpError::Archive);
    hand_on(rest)?;
    summary
}
