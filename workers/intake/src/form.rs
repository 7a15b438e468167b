//! `multipart/form-data` (RFC 7578) as it is taken here: one part `metadata`, then one part `file`, nothing else.
//!
//! A reader of its own, because memory has to be bounded: what is held is one part's headers, the metadata, or one
//! chunk of the file, whatever a client sends.

use std::pin::Pin;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::BytesMut;
use futures::{Stream, StreamExt as _};

use crate::body::BodyError;

/// Bytes of a part's headers, and of what may stand before the first part and behind the last one.
const MAX_HEADERS: usize = 16 * 1024;
/// Bytes of the metadata.
pub const MAX_METADATA: usize = 64 * 1024;
/// Characters of a boundary (RFC 2046).
const MAX_BOUNDARY: usize = 70;

/// Why a form did not come as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error(transparent)]
    Body(#[from] BodyError),
    /// In words for the client.
    #[error("{0}")]
    Malformed(&'static str),
}

type Source = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// The boundary in a `Content-Type`.
///
/// # Errors
/// In words for the client.
pub fn boundary(parameters: &[(String, String)]) -> Result<String, FormError> {
    let found = parameters
        .iter()
        .find(|(name, _)| name == "boundary")
        .map(|(_, value)| value.clone());
    let valid = |b: &String| (1..=MAX_BOUNDARY).contains(&b.len()) && b.bytes().all(|c| (b' '..=b'~').contains(&c)) && !b.ends_with(' ');
    found.filter(valid).ok_or(FormError::Malformed(
        "The Content-Type names no boundary of 1 to 70 characters: let your HTTP library write that header.",
    ))
}

/// A form on its way in.
pub struct Form {
    source: Source,
    held: BytesMut,
    delimiter: Vec<u8>,
}

impl Form {
    pub fn new(source: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static, boundary: &str) -> Self {
        Self {
            source: Box::pin(source),
            // The first delimiter has no line end before it.
            held: BytesMut::from(&b"\r\n"[..]),
            delimiter: format!("\r\n--{boundary}").into_bytes(),
        }
    }

    /// The metadata, which must come first: its bytes, and the headers of the file, whose bytes come next.
    ///
    /// # Errors
    /// When the form begins otherwise, or is too large.
    pub async fn metadata(&mut self) -> Result<(Vec<u8>, HeaderMap), FormError> {
        const FIRST: FormError = FormError::Malformed("The first part must be named metadata, and hold a JSON object; {} says nothing.");
        const SECOND: FormError = FormError::Malformed("Behind the metadata exactly one part must follow, named file.");
        if self.chunk(MAX_HEADERS).await?.is_some() {
            return Err(FormError::Malformed(
                "The body does not begin with the boundary that its Content-Type names.",
            ));
        }
        let headers = self.headers().await?.ok_or(FIRST)?;
        if name(&headers).as_deref() != Some("metadata") {
            return Err(FIRST);
        }
        let mut metadata = Vec::new();
        while let Some(bytes) = self.chunk(usize::MAX).await? {
            metadata.extend_from_slice(&bytes);
            if metadata.len() > MAX_METADATA {
                return Err(FormError::Malformed("The metadata has more than 65,536 bytes."));
            }
        }
        let headers = self.headers().await?.ok_or(SECOND)?;
        match name(&headers).as_deref() {
            Some("file") => Ok((metadata, headers)),
            _ => Err(SECOND),
        }
    }

    /// The file's bytes, at most `max`. It ends well only when the form does: a part behind it, or a form that is cut
    /// off, is an error before the end, so that nothing is kept of it.
    pub fn file(self, max: u64) -> impl Stream<Item = Result<Bytes, FormError>> + Send + 'static {
        futures::stream::try_unfold((self, 0u64), move |(mut form, received)| async move {
            match form.chunk(usize::MAX).await? {
                Some(bytes) => {
                    let received = received + bytes.len() as u64;
                    if received > max {
                        return Err(BodyError::TooLarge.into());
                    }
                    Ok(Some((bytes, (form, received))))
                }
                None => form.end().await.map(|()| None),
            }
        })
    }

    /// Behind the last part: the closing delimiter, and nothing of substance.
    async fn end(&mut self) -> Result<(), FormError> {
        if self.headers().await?.is_some() {
            return Err(FormError::Malformed(
                "Send one file a request: behind the part file another one follows.",
            ));
        }
        while self.more().await? {
            if self.held.len() > MAX_HEADERS {
                return Err(FormError::Malformed("Something follows behind the form's end."));
            }
        }
        Ok(())
    }

    /// The next bytes before a delimiter, or `None` when it is reached, and passed. At most `preamble` of them are held.
    async fn chunk(&mut self, preamble: usize) -> Result<Option<Bytes>, FormError> {
        loop {
            if let Some(at) = find(&self.held, &self.delimiter) {
                let before = self.held.split_to(at);
                if before.is_empty() {
                    let _delimiter = self.held.split_to(self.delimiter.len());
                    return Ok(None);
                }
                return Ok(Some(before.freeze()));
            }
            // What may be the beginning of a delimiter waits for the rest of it.
            let certain = self.held.len().saturating_sub(self.delimiter.len() - 1);
            if certain > 0 {
                return Ok(Some(self.held.split_to(certain.min(preamble)).freeze()));
            }
            if !self.more().await? {
                return Err(BodyError::Truncated.into());
            }
        }
    }

    /// The headers behind a delimiter, or `None` when it is the last one.
    async fn headers(&mut self) -> Result<Option<HeaderMap>, FormError> {
        const BROKEN: FormError = FormError::Malformed("A part's headers are malformed.");
        loop {
            if self.held.starts_with(b"--") {
                return Ok(None);
            }
            if let Some(at) = find(&self.held, b"\r\n\r\n") {
                if at > MAX_HEADERS {
                    return Err(FormError::Malformed("A part's headers have more than 16,384 bytes."));
                }
                let lines = self.held.split_to(at + 4);
                let text = std::str::from_utf8(&lines).map_err(|_| BROKEN)?;
                let mut lines = text.split("\r\n");
                // Behind the boundary only blanks may stand.
                if lines.next().is_none_or(|rest| !rest.trim_matches([' ', '\t']).is_empty()) {
                    return Err(BROKEN);
                }
                let mut headers = HeaderMap::new();
                for line in lines.filter(|line| !line.is_empty()) {
                    let (name, value) = line.split_once(':').ok_or(BROKEN)?;
                    let name: HeaderName = name.trim().parse().map_err(|_| BROKEN)?;
                    headers.append(name, HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| BROKEN)?);
                }
                return Ok(Some(headers));
            }
            if self.held.len() > MAX_HEADERS {
                return Err(FormError::Malformed("A part's headers have more than 16,384 bytes."));
            }
            if !self.more().await? {
                return Err(BodyError::Truncated.into());
            }
        }
    }

    /// Takes in what comes next; false at the body's end.
    async fn more(&mut self) -> Result<bool, FormError> {
        match self.source.next().await {
            None => Ok(false),
            Some(bytes) => {
                let bytes = bytes?;
                self.held.extend_from_slice(&bytes);
                Ok(true)
            }
        }
    }
}

/// The part's name in its `Content-Disposition`.
fn name(headers: &HeaderMap) -> Option<String> {
    let parameters = crate::headers::disposition(headers)?;
    parameters.into_iter().find(|(name, _)| name == "name").map(|(_, value)| value)
}

/// Where a pattern first stands.
fn find(held: &[u8], pattern: &[u8]) -> Option<usize> {
    let first = *pattern.first()?;
    let mut from = 0;
    while let Some(rest) = held.get(from..) {
        let at = from + rest.iter().position(|b| *b == first)?;
        if held.get(at..)?.starts_with(pattern) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests;
