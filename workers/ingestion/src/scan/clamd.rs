//! ClamAV's daemon over TCP: `VERSION` and `INSTREAM` (<https://docs.clamav.net/manual/Usage/Scanning.html#clamd>).
//!
//! Every step has a time limit, and the answer is awaited while the bytes go out: when a stream is larger than clamd
//! takes, it says so in the middle of it and hangs up.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufWriter};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes of a stream that are sent at one time, each within [`Patience::step`].
const PIECE: usize = 64 * 1024;
/// Bytes of an answer; a real one is a line.
const MAX_ANSWER: u64 = 4096;
/// Characters of an answer that are repeated to people.
const MAX_SHOWN: usize = 160;

/// How long clamd is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection, for it to take the next bytes, and for an answer that needs no scan.
    pub step: Duration,
    /// For the verdict once it has everything. clamd has to give up by itself before this (`MaxScanTime`).
    pub verdict: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            step: Duration::from_secs(20),
            verdict: Duration::from_secs(180),
        }
    }
}

/// What clamd says about a stream that it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Clean,
    /// By this signature, or because one of its limits was exceeded.
    Found(String),
    /// It stopped taking the stream: more than `StreamMaxLength`.
    TooLong,
    /// It could not scan it, in its words.
    Failed(String),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// It cannot be reached, is slow, or says what it should not.
    Away(String),
    /// It had the whole stream, and went away without a word.
    Lost,
}

/// Why a stream was not scanned.
#[derive(Debug)]
pub enum Broken<E> {
    /// The stream itself failed.
    Source(E),
    Clamd(Silence),
}

impl<E> From<Silence> for Broken<E> {
    fn from(silence: Silence) -> Self {
        Self::Clamd(silence)
    }
}

/// What clamd says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub text: String,
    /// When its signatures were made; `None` when they are not the project's own.
    pub signatures: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub struct Clamd {
    pub address: String,
    pub patience: Patience,
}

impl Clamd {
    /// Asks which engine and which signatures scan.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn version(&self) -> Result<Version, Silence> {
        let mut stream = self.connect().await?;
        let step = self.patience.step;
        within(step, "to take a command", stream.write_all(b"zVERSION\0")).await?;
        let text = within(step, "for its version", read_answer(&mut stream)).await?;
        if !text.starts_with("ClamAV ") {
            return Err(out_of_order(&text));
        }
        Ok(Version {
            signatures: signatures(&text),
            text: shown(&text),
        })
    }

    /// Has a stream scanned, in constant memory.
    ///
    /// # Errors
    /// The stream's own, and clamd's when it gives no answer.
    pub async fn instream<S, E>(&self, source: S) -> Result<Answer, Broken<E>>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
    {
        let mut stream = self.connect().await?;
        // Halves that do not close the connection when they go: clamd drops a scan whose asker hung up.
        let (mut reader, mut writer) = stream.split();
        let mut answer = std::pin::pin!(read_answer(&mut reader));
        let fed = tokio::select! {
            biased;
            early = &mut answer => Some(early),
            fed = feed(&mut writer, source, self.patience.step) => match fed {
                Ok(()) => None,
                Err(Broken::Source(e)) => return Err(Broken::Source(e)),
                // What it said before it hung up tells more than the broken pipe.
                Err(Broken::Clamd(silence)) => match timeout(self.patience.step, &mut answer).await {
                    Ok(Ok(text)) if !text.is_empty() => Some(Ok(text)),
                    _ => return Err(silence.into()),
                },
            },
        };
        if let Some(early) = fed {
            let text = early.map_err(|e| Silence::Away(format!("the connection broke: {e}")))?;
            if text.is_empty() {
                return Err(Silence::Away("it hung up in the middle of a document".to_owned()).into());
            }
            return match judge(&text)? {
                // It cannot know yet.
                Answer::Clean => Err(out_of_order(&text).into()),
                answer => Ok(answer),
            };
        }
        match timeout(self.patience.verdict, answer).await {
            Err(_) => Err(Silence::Away(format!("no verdict within {} s", self.patience.verdict.as_secs())).into()),
            Ok(Err(_)) => Err(Silence::Lost.into()),
            Ok(Ok(text)) if text.is_empty() => Err(Silence::Lost.into()),
            Ok(Ok(text)) => Ok(judge(&text)?),
        }
    }

    async fn connect(&self) -> Result<TcpStream, Silence> {
        let stream = within(self.patience.step, "for a connection", TcpStream::connect(&self.address)).await?;
        stream
            .set_nodelay(true)
            .map_err(|e| Silence::Away(format!("the connection broke: {e}")))?;
        Ok(stream)
    }
}

async fn within<T>(limit: Duration, what: &str, action: impl Future<Output = std::io::Result<T>>) -> Result<T, Silence> {
    match timeout(limit, action).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(Silence::Away(e.to_string())),
        Err(_) => Err(Silence::Away(format!("waited {} s {what}", limit.as_secs()))),
    }
}

/// Sends the stream in the form of `INSTREAM`: pieces, each behind its length, and one without length at the end.
async fn feed<S, E>(writer: &mut (impl AsyncWrite + Unpin), source: S, step: Duration) -> Result<(), Broken<E>>
where
    S: Stream<Item = Result<Bytes, E>> + Send,
{
    let mut writer = BufWriter::with_capacity(PIECE, writer);
    let mut source = std::pin::pin!(source.fuse());
    within(step, "to take a command", writer.write_all(b"zINSTREAM\0")).await?;
    while let Some(bytes) = source.try_next().await.map_err(Broken::Source)? {
        for piece in bytes.chunks(PIECE) {
            // A piece is far below 2^32 bytes.
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX).to_be_bytes();
            within(step, "to take bytes", async {
                writer.write_all(&length).await?;
                writer.write_all(piece).await
            })
            .await?;
        }
    }
    within(step, "to take the end", async {
        writer.write_all(&0u32.to_be_bytes()).await?;
        writer.flush().await
    })
    .await?;
    Ok(())
}

/// The answer up to its end; empty when clamd hung up without one.
async fn read_answer(reader: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut answer = Vec::new();
    let mut reader = reader.take(MAX_ANSWER);
    loop {
        // Its own time-outs are said in the old form, which ends in a line feed.
        if let Some(end) = answer.iter().position(|b| matches!(b, 0 | b'\n')) {
            answer.truncate(end);
            break;
        }
        if reader.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&answer).trim().to_owned())
}

fn judge(text: &str) -> Result<Answer, Silence> {
    if text == "stream: OK" {
        return Ok(Answer::Clean);
    }
    if let Some(name) = text.strip_prefix("stream: ").and_then(|t| t.strip_suffix(" FOUND")) {
        return Ok(Answer::Found(shown(name)));
    }
    if text == "INSTREAM size limit exceeded. ERROR" {
        return Ok(Answer::TooLong);
    }
    match text.strip_prefix("stream: ").and_then(|t| t.strip_suffix(" ERROR")) {
        Some(why) => Ok(Answer::Failed(shown(why))),
        None => Err(out_of_order(text)),
    }
}

fn out_of_order(text: &str) -> Silence {
    Silence::Away(format!("it answered {:?}", shown(text)))
}

/// What an answer may become in a record or a log line.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

/// `ClamAV 1.4.3/27780/Mon Sep 29 08:27:12 2025`: the time, which is the server's own, is taken for UTC.
fn signatures(version: &str) -> Option<Timestamp> {
    let made = version.splitn(3, '/').nth(2)?;
    let made = jiff::civil::DateTime::strptime("%a %b %e %H:%M:%S %Y", made.trim()).ok()?;
    Some(made.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests;
