//! What goes wrong at the door, as RFC 9457 problem documents: every answer of 400 and above is one.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use stores::StoreError;
use tracing::{error, warn};
use utoipa::ToSchema;

/// What went wrong, as a client's program tells it apart: the last part of the problem's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    InvalidName,
    InvalidRequest,
    InvalidBody,
    KeyMissing,
    EmptyDocument,
    DigestMismatch,
    TruncatedBody,
    Unauthenticated,
    ForbiddenScope,
    ForbiddenTenant,
    NotFound,
    MethodNotAllowed,
    BodyStalled,
    RequestInFlight,
    BlobMismatch,
    TooLarge,
    UnsupportedType,
    KeyReused,
    RateLimited,
    Internal,
    BrokerUnavailable,
    StorageUnavailable,
    IssuerUnavailable,
    Overloaded,
    Draining,
}

impl Kind {
    /// Status, suffix of the type, title, and after how many seconds the same request may succeed (`None`: never).
    fn row(self) -> (StatusCode, &'static str, &'static str, Option<u32>) {
        use StatusCode as S;
        match self {
            Self::InvalidName => (S::BAD_REQUEST, "invalid-name", "A name in the path is malformed", None),
            Self::InvalidRequest => (S::BAD_REQUEST, "invalid-metadata", "A header or query parameter is malformed", None),
            Self::InvalidBody => (S::BAD_REQUEST, "invalid-body", "The body is not what this route takes", None),
            Self::KeyMissing => (
                S::BAD_REQUEST,
                "idempotency-key-missing",
                "The Idempotency-Key is missing or malformed",
                None,
            ),
            Self::EmptyDocument => (S::BAD_REQUEST, "empty-document", "The document has no bytes", None),
            Self::DigestMismatch => (
                S::BAD_REQUEST,
                "digest-mismatch",
                "The body does not have the digest that was announced",
                Some(0),
            ),
            Self::TruncatedBody => (S::BAD_REQUEST, "truncated-body", "The body ended too early", Some(0)),
            Self::Unauthenticated => (S::UNAUTHORIZED, "unauthenticated", "There is no valid token", None),
            Self::ForbiddenScope => (S::FORBIDDEN, "forbidden-scope", "The token's scope does not allow this", None),
            Self::ForbiddenTenant => (S::FORBIDDEN, "forbidden-tenant", "The token's tenant is not known here", None),
            Self::NotFound => (S::NOT_FOUND, "not-found", "There is no such thing", None),
            Self::MethodNotAllowed => (
                S::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The route does not take this method",
                None,
            ),
            Self::BodyStalled => (S::REQUEST_TIMEOUT, "body-stalled", "The body stopped coming", Some(1)),
            Self::RequestInFlight => (S::CONFLICT, "request-in-flight", "The same request is being handled", Some(1)),
            Self::BlobMismatch => (
                S::CONFLICT,
                "blob-mismatch",
                "The stored file is not the one that was described",
                None,
            ),
            Self::TooLarge => (S::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", None),
            Self::UnsupportedType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-type",
                "The body's type is not taken here",
                None,
            ),
            Self::KeyReused => (
                S::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The Idempotency-Key belongs to another request",
                None,
            ),
            Self::RateLimited => (S::TOO_MANY_REQUESTS, "rate-limited", "The tenant asks too often", Some(1)),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "A fault of ours", Some(5)),
            Self::BrokerUnavailable => (S::SERVICE_UNAVAILABLE, "broker-unavailable", "The queue does not answer", Some(5)),
            Self::StorageUnavailable => (S::SERVICE_UNAVAILABLE, "storage-unavailable", "A store does not answer", Some(5)),
            Self::IssuerUnavailable => (
                S::SERVICE_UNAVAILABLE,
                "issuer-unavailable",
                "Tokens cannot be checked now",
                Some(5),
            ),
            Self::Overloaded => (S::SERVICE_UNAVAILABLE, "overloaded", "Too much is going on at once", Some(2)),
            Self::Draining => (S::SERVICE_UNAVAILABLE, "draining", "This process is being stopped", Some(1)),
        }
    }

    pub fn status(self) -> StatusCode {
        self.row().0
    }

    pub fn suffix(self) -> &'static str {
        self.row().1
    }

    /// The headers that go with it.
    pub fn headers(self) -> &'static [&'static str] {
        match (self, self.row().3) {
            (Self::Unauthenticated | Self::ForbiddenScope, _) => &["WWW-Authenticate"],
            (_, Some(seconds)) if seconds > 0 => &["Retry-After"],
            (_, _) => &[],
        }
    }

    /// What an answer of this status means that did not come from our own code, e.g. from the router.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedType,
            s if s.is_client_error() => Self::InvalidRequest,
            _ => Self::Internal,
        }
    }
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Mistake {
    /// The field, header or parameter.
    pub field: String,
    /// What it must be, and where to find it.
    pub detail: String,
}

/// A problem on its way out. The outermost layer adds the request's path and id and writes the document.
#[derive(Debug, Clone)]
pub struct Problem {
    pub kind: Kind,
    /// What to do about it.
    pub detail: String,
    pub mistakes: Vec<Mistake>,
    /// Seconds.
    pub retry_after: Option<u32>,
    /// The `WWW-Authenticate` header.
    pub challenge: Option<HeaderValue>,
}

/// The document (RFC 9457), `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemDocument {
    /// A relative reference that names the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "/problems/idempotency-key-missing")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// What happened and what to do about it.
    pub detail: String,
    /// The path that was asked for.
    pub instance: String,
    /// Names the request in our logs; also in the header `x-request-id`.
    pub request_id: String,
    /// Whether the same request may succeed later; then `Retry-After` says when.
    pub retryable: bool,
    /// What is wrong, one by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Mistake>,
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            mistakes: Vec::new(),
            retry_after: kind.row().3.filter(|s| *s > 0),
            challenge: None,
        }
    }

    pub fn with(mut self, mistakes: Vec<Mistake>) -> Self {
        self.mistakes = mistakes;
        self
    }

    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub fn challenge(mut self, challenge: String) -> Self {
        self.challenge = HeaderValue::from_str(&challenge).ok();
        self
    }

    /// The document, finished with what only the outermost layer knows.
    pub fn document(&self, instance: &str, request_id: &str) -> ProblemDocument {
        let (status, suffix, title, retry) = self.kind.row();
        ProblemDocument {
            kind: format!("/problems/{suffix}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            instance: instance.to_owned(),
            request_id: request_id.to_owned(),
            retryable: retry.is_some(),
            errors: self.mistakes.clone(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = self.challenge.clone() {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Unavailable { .. } | StoreError::Refused { .. } => {
                warn!(error = %e, "a store is not available");
                Self::new(
                    Kind::StorageUnavailable,
                    "Repeat the request with the same Idempotency-Key; nothing is lost or done twice.",
                )
            }
            StoreError::NotFound(_) | StoreError::Conflict(_) | StoreError::Fault { .. } => {
                error!(error = %e, "a store answered what it should not");
                Self::new(Kind::Internal, "Repeat the request; when it fails again, tell us its request_id.")
            }
        }
    }
}

impl From<bus::SendError> for Problem {
    fn from(e: bus::SendError) -> Self {
        if e.is_permanent() {
            error!(error = %e, topic = e.topic, "kafka refuses an event");
        } else {
            warn!(error = %e, topic = e.topic, "kafka does not acknowledge");
        }
        Self::new(
            Kind::BrokerUnavailable,
            "Repeat the request with the same Idempotency-Key: what was stored is kept, and nothing is done twice.",
        )
    }
}
