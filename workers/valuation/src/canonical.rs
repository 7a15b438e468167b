//! Canonical JSON (RFC 8785) and its digest: the same content is always the same bytes.

use messages::Hash32;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The canonical JSON of a value of ours.
#[allow(clippy::expect_used)]
pub fn json<T: Serialize>(value: &T) -> String {
    serde_json_canonicalizer::to_string(value).expect("our types have text keys only and no float that is not finite")
}

/// SHA-256 of a text.
pub fn sha256_of(text: &str) -> Hash32 {
    Hash32(Sha256::digest(text.as_bytes()).into())
}

/// SHA-256 of the canonical JSON of a value of ours.
pub fn sha256<T: Serialize>(value: &T) -> Hash32 {
    sha256_of(&json(value))
}
