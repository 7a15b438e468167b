//! What a client says about a request in its headers, read strictly: a header that is there but wrong is refused.

use axum::http::{HeaderMap, HeaderName, header};
use base64::Engine as _;
use messages::{Hash32, TraceParent};
use percent_encoding::percent_decode_str;

use crate::error::{Kind, Problem};

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
pub const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// Characters of a key.
const MAX_KEY: usize = 255;
/// Characters of a file's name.
const MAX_FILENAME: usize = 255;

/// The `Idempotency-Key`: an RFC 8941 string (`"k"`, as draft-ietf-httpapi-idempotency-key-header wants it) or, as most
/// clients send it, the bare text. Both forms of a key are the same key.
///
/// # Errors
/// 400 when there is none, more than one, or one that is not 1 to 255 visible characters.
pub fn idempotency_key(headers: &HeaderMap) -> Result<String, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let first = values.next().and_then(|v| v.to_str().ok());
    let key = match (first, values.next()) {
        (Some(text), None) => unquoted(text.trim()),
        _ => None,
    };
    key.filter(|k| (1..=MAX_KEY).contains(&k.len())).ok_or_else(|| {
        let detail = format!(
            "Send one header Idempotency-Key with 1 to {MAX_KEY} visible ASCII characters of your choice, e.g. a UUID; repeat it when you repeat the request."
        );
        Problem::new(Kind::KeyMissing, detail)
    })
}

fn unquoted(text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('"') else {
        return text.bytes().all(|b| b.is_ascii_graphic() && b != b'"').then(|| text.to_owned());
    };
    let mut key = String::new();
    let mut chars = inner.strip_suffix('"')?.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => key.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
            '"' => return None,
            ' '..='~' => key.push(c),
            _ => return None,
        }
    }
    Some(key)
}

/// The SHA-256 in `Repr-Digest` (RFC 9530), when that header is there.
///
/// # Errors
/// 400 when the header holds no SHA-256: whoever sends a digest wants it checked.
pub fn repr_digest(headers: &HeaderMap) -> Result<Option<Hash32>, Problem> {
    let Some(value) = headers.get(REPR_DIGEST) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let member = text.split(',').find_map(|m| m.trim().strip_prefix("sha-256="));
    let digest = member
        .and_then(|m| m.trim().strip_prefix(':')?.strip_suffix(':'))
        .and_then(|b| base64::engine::general_purpose::STANDARD.decode(b).ok())
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    match digest {
        Some(bytes) => Ok(Some(Hash32(bytes))),
        None => Err(Problem::new(
            Kind::InvalidRequest,
            "Send Repr-Digest: sha-256=:<base64 of the 32 bytes>:, or leave it out.",
        )),
    }
}

/// The length that was announced; `None` for a chunked body.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A header as text, when it is there and is text.
pub fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers
        .get(name)?
        .to_str()
        .ok()
        .map(|v| v.trim().to_owned())
        .filter(|v| !v.is_empty())
}

/// The request's trace, as the outermost layer found or began it.
#[derive(Clone, Copy)]
pub struct Trace(pub TraceParent);

/// The request's trace.
pub fn trace_of(extensions: &axum::http::Extensions) -> TraceParent {
    extensions.get::<Trace>().map_or_else(TraceParent::root, |t| t.0)
}

/// The trace that the client is in. What the standard does not allow counts as absent.
pub fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(TRACE_PARENT)?.to_str().ok()?.parse().ok()
}

/// The file's name in `Content-Disposition` (RFC 6266): `filename*` before `filename`.
pub fn disposition_filename(headers: &HeaderMap) -> Option<String> {
    let parameters = disposition(headers)?;
    let named = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let extended = named("filename*").and_then(|v| {
        let (charset, rest) = v.split_once('\'')?;
        let (_language, encoded) = rest.split_once('\'')?;
        let known = charset.eq_ignore_ascii_case("utf-8");
        known.then(|| percent_decode_str(encoded).decode_utf8().ok().map(|t| t.into_owned()))?
    });
    extended.or_else(|| named("filename").map(str::to_owned))
}

/// The parameters of `Content-Disposition`.
pub fn disposition(headers: &HeaderMap) -> Option<Vec<(String, String)>> {
    let value = headers.get(header::CONTENT_DISPOSITION)?.as_bytes();
    Some(parameters(&String::from_utf8_lossy(value)))
}

/// A file's name without folders and control characters; it is shown to people and never used as a path.
pub fn clean_filename(name: &str) -> Option<String> {
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = base.chars().filter(|c| !c.is_control()).take(MAX_FILENAME).collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

/// The parameters of a header value such as `attachment; filename="a; b.csv"`, names in lower case.
pub fn parameters(value: &str) -> Vec<(String, String)> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in value.chars() {
        let Some(part) = parts.last_mut() else { break };
        match c {
            _ if escaped => {
                part.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ';' if !quoted => parts.push(String::new()),
            _ => part.push(c),
        }
    }
    let pairs = parts.iter().filter_map(|p| p.split_once('='));
    pairs.map(|(n, v)| (n.trim().to_ascii_lowercase(), v.trim().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        headers
    }

    #[test]
    fn a_key_may_be_bare_or_quoted_and_is_the_same_key() {
        let key = |text: &str| idempotency_key(&with(IDEMPOTENCY_KEY, text)).ok();
        assert_eq!(key("abc"), key("\"abc\""));
        assert_eq!(key(r#""a\"b c""#).as_deref(), Some("a\"b c"));
        for bad in ["", "\"\"", "a b", "\"a", "a\"", r#""a\x""#, "ñ", &"x".repeat(256)] {
            assert_eq!(key(bad), None, "{bad:?}");
        }
        assert!(key(&"x".repeat(255)).is_some());
        assert!(idempotency_key(&HeaderMap::new()).is_err());
        let mut twice = with(IDEMPOTENCY_KEY, "a");
        twice.append(IDEMPOTENCY_KEY, "b".parse().unwrap());
        assert!(idempotency_key(&twice).is_err());
    }

    #[test]
    fn a_digest_is_read_or_refused_but_never_ignored() {
        let read = |text: &str| repr_digest(&with(REPR_DIGEST, text));
        let zero = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
        assert_eq!(read(zero).unwrap(), Some(Hash32([0; 32])));
        assert_eq!(read(&format!("sha-512=:AA==:, {zero}")).unwrap(), Some(Hash32([0; 32])));
        for bad in ["", "sha-512=:AA==:", "sha-256=:AA==:", "sha-256=AAAA", "md5=:AA==:"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert_eq!(repr_digest(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn the_files_name_is_found_in_all_its_forms() {
        let name = |text: &str| disposition_filename(&with(header::CONTENT_DISPOSITION, text));
        assert_eq!(name(r#"attachment; filename="a; \"b\".csv""#).as_deref(), Some("a; \"b\".csv"));
        assert_eq!(name("inline; FileName=a.csv").as_deref(), Some("a.csv"));
        assert_eq!(
            name("inline; filename=x; filename*=UTF-8'es'tasaci%C3%B3n.csv").as_deref(),
            Some("tasación.csv")
        );
        assert_eq!(name("inline"), None);
        assert_eq!(clean_filename("../../etc/pass\u{0}wd").as_deref(), Some("passwd"));
        assert_eq!(clean_filename(r"C:\docs\a.csv").as_deref(), Some("a.csv"));
        assert_eq!(clean_filename("a/"), None);
    }
}
