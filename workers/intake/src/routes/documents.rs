//! `POST /v1/assets/{asset_id}/documents`: a document's bytes in, one event out.
//!
//! The crash points: until the blob is committed nothing has happened; between the commit and the acknowledged event a
//! repeat of the request finds the blob, needs no bytes, and publishes the same event; after that a repeat publishes
//! it again under the same id, which changes nothing.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use jiff::civil::Date;
use messages::{AssetKey, Hash32, door_id};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use stores::records::DocumentState;
use stores::{Blob, Cache, Expected, PutOptions, StoreError, StreamError};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::auth::Scope;
use crate::body::{self, BodyError, BodyRules};
use crate::door::Door;
use crate::error::{Kind, Problem};
use crate::form::{self, Form, FormError};
use crate::headers;
use crate::routes::openapi::UploadProblems;
use crate::routes::{asset_id, query};
use crate::upload::{Close, INBOX, Stored, Upload};
use crate::views;

/// The route as it goes into ids. It does not hold the asset: a key that is used for two assets is a mistake to tell.
const ROUTE: &str = "POST /v1/assets/{asset_id}/documents";

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SubmitQuery {
    /// Close the dossier behind this document: value the asset from all that was sent before.
    #[serde(default)]
    close: bool,
    /// With `close`: the date as of which to value, when the documents do not name it.
    valuation_date: Option<Date>,
    /// The file's name, instead of `Content-Disposition`.
    filename: Option<String>,
}

/// The part `metadata` of a form; `{}` says nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitMetadata {
    /// Close the dossier behind this document: value the asset from all that was sent before.
    #[serde(default)]
    close: bool,
    /// With `close`: the date as of which to value, when the documents do not name it.
    #[schema(value_type = Option<String>, format = Date)]
    valuation_date: Option<Date>,
    /// The file's name, instead of the one in its part's `Content-Disposition`.
    filename: Option<String>,
    /// The file's digest, 64 hexadecimal digits; a file with another one is refused and not kept.
    #[schema(value_type = Option<String>)]
    sha256: Option<Hash32>,
    /// The file's bytes; a file of another size is refused and not kept.
    size: Option<u64>,
}

/// A form: `metadata` first, at most 64 KiB, then exactly one `file`.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the form; the parts are read as they come")]
pub struct SubmitForm {
    metadata: SubmitMetadata,
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// The document is stored and queued.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    pub document_id: Uuid,
    #[schema(value_type = views::DocumentStateName)]
    pub state: DocumentState,
    /// Where to see what becomes of it.
    pub status_url: String,
    /// Bytes.
    pub size: u64,
    #[schema(value_type = String)]
    pub sha256: Hash32,
    /// Whether this request had been made before.
    pub idempotent_replay: bool,
}

/// What the request says of the body before it comes.
struct Announced {
    digest: Option<Hash32>,
    length: Option<u64>,
}

/// Submit a document
///
/// The body is the document itself. The answer is given once the bytes are stored and the work is queued.
#[utoipa::path(
    post,
    path = "/v1/assets/{asset_id}/documents",
    tag = "write",
    params(
        ("asset_id" = String, Path, description = "The asset, by a name of yours"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible characters of your choice; repeat it when you repeat the request"),
        ("Repr-Digest" = Option<String>, Header, description = "`sha-256=:<base64>:`; a body with another digest is refused and not kept"),
        ("Content-Disposition" = Option<String>, Header, description = "The file's name: `attachment; filename*=UTF-8''…`"),
        SubmitQuery
    ),
    request_body(
        description = "The document itself, with its real media type; or a form",
        content(
            (Vec<u8> = "application/octet-stream"),
            (SubmitForm = "multipart/form-data")
        )
    ),
    responses((status = 202, description = "Stored and queued", body = Accepted), UploadProblems),
    security(("bearer" = ["documents:write"]))
)]
pub async fn submit(
    State(door): State<Arc<Door>>,
    Path(asset): Path<String>,
    parameters: Result<Query<SubmitQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let visitor = door.gate.admit(headers, Scope::DocumentsWrite).await?;
    let asset = AssetKey::new(visitor.tenant.clone(), asset_id(&asset)?);
    let key = headers::idempotency_key(headers)?;
    door.gate.pace(&visitor).await?;
    let whole = announced(headers, &door)?;
    let document_id = door_id(asset.tenant.as_str(), ROUTE, &key);
    let said = query(parameters)?;
    let rules = door.document_rules();
    let _place = door.place()?;
    let (said, part, announced, content) = match form_boundary(headers)? {
        None => (said, headers.clone(), whole, raw(body, rules.clone())),
        Some(boundary) => form(&door, &boundary, said, &whole, body).await?,
    };
    let upload = upload(said, &part, &parts.extensions, asset, document_id, visitor.subject)?;
    let blob = door.blobs.blob(INBOX, &Upload::blob_name(&upload.asset.tenant, document_id));
    let (stored, replay) = match blob.info().await {
        Ok(info) => {
            let stored = Stored::from_blob(&info).map_err(|e| {
                tracing::error!(error = %e, document.id = %document_id, "a blob in the inbox is not ours");
                Problem::new(Kind::Internal, "Use another Idempotency-Key, and tell us the request_id.")
            })?;
            is_the_same(&stored, &upload, &announced, content, &rules).await?;
            (stored, true)
        }
        Err(StoreError::NotFound(_)) => (store(&blob, upload, &announced, content, &rules).await?, false),
        Err(e) => return Err(e.into()),
    };
    if !replay {
        // Before the event goes out: a worker that is done sooner than we are deletes the entry, and it stays deleted.
        let entry = Cache::document_key(&stored.upload.asset.tenant, document_id);
        let view = views::to_json(&views::DocumentView::accepted(&stored));
        door.cache.put_if_absent(&entry, &view).await;
    }
    let events = stored.events();
    let (published, ()) = tokio::join!(door.publish(&events), door.mark(&stored.upload.asset));
    published?;
    Ok(accepted(&stored, replay))
}

/// Reads what the headers say of the body, and refuses what can be refused without it.
fn announced(headers: &HeaderMap, door: &Door) -> Result<Announced, Problem> {
    let media_type = headers::text(headers, &header::CONTENT_TYPE)
        .unwrap_or_default()
        .to_ascii_lowercase();
    let is_form = media_type.starts_with(FORM);
    if media_type.starts_with("multipart/") && !is_form {
        return Err(Problem::new(
            Kind::UnsupportedType,
            "Send the document itself as the body, or a multipart/form-data with the parts metadata and file.",
        ));
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Problem::new(
            Kind::UnsupportedType,
            "Send the document as it is, without Content-Encoding.",
        ));
    }
    let max = if is_form {
        door.form_rules().max
    } else {
        door.limits.max_document_bytes
    };
    let length = headers::content_length(headers);
    match length {
        Some(0) => Err(empty()),
        Some(n) if n > max => Err(body::too_large(door.limits.max_document_bytes)),
        Some(_) | None => Ok(Announced {
            digest: headers::repr_digest(headers)?,
            length,
        }),
    }
}

const FORM: &str = "multipart/form-data";

/// The boundary, when the body is a form.
fn form_boundary(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let text = headers::text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    if !text.to_ascii_lowercase().starts_with(FORM) {
        return Ok(None);
    }
    let found = form::boundary(&headers::parameters(&text));
    found.map(Some).map_err(|e| Problem::new(Kind::InvalidBody, e.to_string()))
}

/// A document's bytes, out of a form or as they are.
type Content = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, FormError>> + Send>>;

fn raw(body: Body, rules: BodyRules) -> Content {
    Box::pin(body::watched(body, rules).map(|bytes| bytes.map_err(FormError::from)))
}

/// Reads a form up to its file: what it says of the file, the file's headers, and its bytes, which are yet to come.
async fn form(
    door: &Door,
    boundary: &str,
    q: SubmitQuery,
    whole: &Announced,
    body: Body,
) -> Result<(SubmitQuery, HeaderMap, Announced, Content), Problem> {
    if q.close || q.valuation_date.is_some() || q.filename.is_some() || whole.digest.is_some() {
        return Err(Problem::new(
            Kind::InvalidRequest,
            "With a form, close, valuation_date, filename and the file's sha256 go into its part metadata.",
        ));
    }
    let rules = door.document_rules();
    let mut form = Form::new(body::watched(body, door.form_rules()), boundary);
    let (metadata, part) = form.metadata().await.map_err(|e| content_problem(e, &rules))?;
    let metadata: SubmitMetadata =
        serde_json::from_slice(&metadata).map_err(|e| Problem::new(Kind::InvalidBody, format!("Correct the part metadata: {e}.")))?;
    let announced = Announced {
        digest: metadata.sha256,
        length: metadata.size,
    };
    match announced.length {
        Some(0) => return Err(empty()),
        Some(n) if n > rules.max => return Err(body::too_large(rules.max)),
        Some(_) | None => {}
    }
    let said = SubmitQuery {
        close: metadata.close,
        valuation_date: metadata.valuation_date,
        filename: metadata.filename,
    };
    Ok((said, part, announced, Box::pin(form.file(rules.max))))
}

fn content_problem(error: FormError, rules: &BodyRules) -> Problem {
    match error {
        FormError::Body(error) => rules.problem(error),
        FormError::Malformed(what) => Problem::new(Kind::InvalidBody, what),
    }
}

fn empty() -> Problem {
    Problem::new(Kind::EmptyDocument, "Send the document's bytes as the body.")
}

fn upload(
    q: SubmitQuery,
    part: &HeaderMap,
    extensions: &Extensions,
    asset: AssetKey,
    document_id: Uuid,
    subject: String,
) -> Result<Upload, Problem> {
    if q.valuation_date.is_some() && !q.close {
        return Err(Problem::new(Kind::InvalidRequest, "valuation_date goes with close=true only."));
    }
    let filename = q.filename.or_else(|| headers::disposition_filename(part));
    Ok(Upload {
        asset,
        document_id,
        filename: filename.as_deref().and_then(headers::clean_filename),
        declared_type: headers::text(part, &header::CONTENT_TYPE).map(|t| t.chars().take(255).collect()),
        received_at: Timestamp::now(),
        submitted_by: subject,
        close: q.close.then_some(Close {
            valuation_date: q.valuation_date,
        }),
        trace: headers::trace_of(extensions),
    })
}

async fn store(blob: &Blob, upload: Upload, announced: &Announced, mut stream: Content, rules: &BodyRules) -> Result<Stored, Problem> {
    // An empty document is refused before anything is stored.
    let first = match stream.next().await {
        None => return Err(empty()),
        Some(first) => first.map_err(|e| content_problem(e, rules))?,
    };
    let options = PutOptions {
        content_type: upload.declared_type.clone(),
        metadata: upload.metadata(),
        expected: Expected {
            sha256: announced.digest,
            size: announced.length,
        },
    };
    let whole = futures::stream::iter([Ok(first)]).chain(stream);
    match blob.put(whole, options).await {
        Ok((info, sha256)) => Ok(Stored {
            blob: upload.blob(info.etag),
            upload,
            sha256,
            size: info.size,
        }),
        Err(StreamError::Source(e)) => Err(content_problem(e, rules)),
        Err(StreamError::Mismatch { size, sha256 }) => Err(mismatch(announced, size, sha256, rules)),
        Err(StreamError::Store(StoreError::Conflict(_))) => Err(Problem::new(
            Kind::RequestInFlight,
            "Another request with this Idempotency-Key was faster. Repeat the request to have its answer.",
        )),
        Err(StreamError::Store(e)) => Err(e.into()),
    }
}

fn mismatch(announced: &Announced, size: u64, sha256: Hash32, rules: &BodyRules) -> Problem {
    if announced.length.is_some_and(|l| l != size) {
        return rules.problem(BodyError::Truncated);
    }
    let detail = format!("The {size} bytes that came have the SHA-256 {sha256}, not the one that was announced; nothing was kept.");
    Problem::new(Kind::DigestMismatch, detail)
}

/// Whether the request is the one that stored this blob. When the headers tell, the body is not read.
async fn is_the_same(stored: &Stored, upload: &Upload, announced: &Announced, content: Content, rules: &BodyRules) -> Result<(), Problem> {
    let reused = |what: &str| {
        let detail = format!("This Idempotency-Key was used before, for {what}. Use a new key for a new document.");
        Err(Problem::new(Kind::KeyReused, detail))
    };
    if stored.upload.asset != upload.asset {
        return reused("another asset");
    }
    if stored.upload.close != upload.close {
        return reused("the same route with other parameters");
    }
    if announced.length.is_some_and(|l| l != stored.size) {
        return reused("a document of another size");
    }
    let digest = match announced.digest {
        Some(digest) => digest,
        None => digest_of(content).await.map_err(|e| content_problem(e, rules))?,
    };
    if digest != stored.sha256 {
        return reused("another document");
    }
    Ok(())
}

async fn digest_of(mut stream: Content) -> Result<Hash32, FormError> {
    let mut hasher = Sha256::new();
    while let Some(bytes) = stream.next().await {
        hasher.update(&bytes?);
    }
    Ok(Hash32(hasher.finalize().into()))
}

pub fn accepted(stored: &Stored, idempotent_replay: bool) -> Response {
    let document_id = stored.upload.document_id;
    let status_url = format!("/v1/documents/{document_id}");
    let location = HeaderValue::from_str(&status_url).unwrap_or(HeaderValue::from_static("/"));
    let body = Accepted {
        document_id,
        state: DocumentState::Accepted,
        status_url,
        size: stored.size,
        sha256: stored.sha256,
        idempotent_replay,
    };
    let headers = [(header::LOCATION, location), (header::RETRY_AFTER, HeaderValue::from(2u32))];
    (StatusCode::ACCEPTED, headers, Json(body)).into_response()
}
