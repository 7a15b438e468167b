//! Bodies: how they are read, and what becomes of those that nobody reads.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::http::{HeaderMap, header};
use futures::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;

use crate::error::{Kind, Problem};

/// A body that has taken this long must have come at least at [`MIN_RATE`].
const MIN_RATE_AFTER: Duration = Duration::from_secs(60);
/// Bytes a second; a client below it holds a place that others wait for.
const MIN_RATE: u64 = 16 * 1024;
/// How much of a body that was answered early is read and thrown away, so that a client that sends first and listens
/// later gets to hear the answer instead of a reset connection.
const LINGER_BYTES: u64 = 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// Why a body did not come whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body stalled")]
    Stalled,
    #[error("the body is too large")]
    TooLarge,
    #[error("the body ended too early")]
    Truncated,
    #[error("the process is being stopped")]
    Draining,
}

/// How a body is read.
#[derive(Clone)]
pub struct BodyRules {
    pub max: u64,
    pub idle: Duration,
    /// Cancelled when there is no more time for bodies.
    pub cut: CancellationToken,
}

impl BodyRules {
    /// What a client is told.
    pub fn problem(&self, error: BodyError) -> Problem {
        match error {
            BodyError::Stalled => {
                let seconds = self.idle.as_secs_f64();
                let detail = format!(
                    "No byte came for {seconds} s, or fewer than {MIN_RATE} a second for long. Send it again with the same Idempotency-Key; nothing was kept."
                );
                Problem::new(Kind::BodyStalled, detail)
            }
            BodyError::TooLarge => too_large(self.max),
            BodyError::Truncated => Problem::new(
                Kind::TruncatedBody,
                "Fewer bytes came than were announced. Send it again with the same Idempotency-Key; nothing was kept.",
            ),
            BodyError::Draining => Problem::new(
                Kind::Draining,
                "Send it again with the same Idempotency-Key: another process will take it; nothing was kept.",
            ),
        }
    }
}

pub fn too_large(max: u64) -> Problem {
    Problem::new(Kind::TooLarge, format!("Send at most {max} bytes."))
}

/// The body's bytes, watched: not too many, not too slow, not after the time is up.
pub fn watched(body: Body, rules: BodyRules) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
    struct Watched {
        stream: BodyDataStream,
        rules: BodyRules,
        received: u64,
        /// Time spent waiting for the client, not for our storage.
        waited: Duration,
    }
    let watched = Watched {
        stream: body.into_data_stream(),
        rules,
        received: 0,
        waited: Duration::ZERO,
    };
    futures::stream::try_unfold(watched, |mut w| async move {
        let from = Instant::now();
        let next = tokio::select! {
            biased;
            () = w.rules.cut.cancelled() => return Err(BodyError::Draining),
            next = tokio::time::timeout(w.rules.idle, w.stream.next()) => next.map_err(|_| BodyError::Stalled)?,
        };
        w.waited += from.elapsed();
        let Some(bytes) = next else { return Ok(None) };
        let bytes = bytes.map_err(|_| BodyError::Truncated)?;
        w.received += bytes.len() as u64;
        if w.received > w.rules.max {
            return Err(BodyError::TooLarge);
        }
        if w.waited > MIN_RATE_AFTER && w.received < w.waited.as_secs() * MIN_RATE {
            return Err(BodyError::Stalled);
        }
        Ok(Some((bytes, w)))
    })
}

/// A small body, whole.
///
/// # Errors
/// As [`watched`].
pub async fn small(body: Body, rules: BodyRules) -> Result<Vec<u8>, BodyError> {
    let mut all = Vec::new();
    let mut stream = std::pin::pin!(watched(body, rules));
    while let Some(bytes) = stream.next().await {
        all.extend_from_slice(&bytes?);
    }
    Ok(all)
}

/// Tells `count` how many bytes came, and makes the rest of a body that is dropped unread be read for a moment. Not when
/// the client waits for `100 Continue`: reading would invite it to send everything.
pub fn lingering(body: Body, headers: &HeaderMap, count: impl Fn(usize) + Send + Unpin + 'static) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::from_stream(Lingering {
        stream: Some(body.into_data_stream()),
        linger: !headers.contains_key(header::EXPECT),
        count,
    })
}

struct Lingering<F> {
    stream: Option<BodyDataStream>,
    linger: bool,
    count: F,
}

impl<F: Fn(usize) + Unpin> Stream for Lingering<F> {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = self.stream.as_mut() else {
            return Poll::Ready(None);
        };
        let next = ready!(stream.poll_next_unpin(cx));
        match &next {
            Some(Ok(bytes)) => (self.count)(bytes.len()),
            Some(Err(_)) | None => self.stream = None,
        }
        Poll::Ready(next)
    }
}

impl<F> Drop for Lingering<F> {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take()
            && self.linger
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                // Either the rest was small, or the client has had time enough to read its answer.
                tokio::time::timeout(LINGER, read_off(stream)).await.unwrap_or_default();
            });
        }
    }
}

async fn read_off(mut stream: BodyDataStream) {
    let mut read = 0;
    while let Some(Ok(bytes)) = stream.next().await {
        read += bytes.len() as u64;
        if read > LINGER_BYTES {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(max: u64) -> BodyRules {
        BodyRules {
            max,
            idle: Duration::from_millis(50),
            cut: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn a_body_is_taken_up_to_its_limit_and_not_a_byte_more() {
        assert_eq!(small(Body::from("four"), rules(4)).await.unwrap(), b"four");
        assert_eq!(small(Body::from("five!"), rules(4)).await, Err(BodyError::TooLarge));
    }

    #[tokio::test]
    async fn a_body_that_stops_coming_or_breaks_is_told_apart() {
        let first = || futures::stream::iter([Ok::<_, std::io::Error>("x")]);
        let stalled = Body::from_stream(first().chain(futures::stream::pending()));
        assert_eq!(small(stalled, rules(9)).await, Err(BodyError::Stalled));
        let broken = Body::from_stream(first().chain(futures::stream::iter([Err(std::io::Error::other("reset"))])));
        assert_eq!(small(broken, rules(9)).await, Err(BodyError::Truncated));
        let cut = rules(9);
        cut.cut.cancel();
        assert_eq!(small(Body::from("x"), cut).await, Err(BodyError::Draining));
    }
}
