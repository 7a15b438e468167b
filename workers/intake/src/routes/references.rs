//! `POST /v1/assets/{asset_id}/document-references`: a document whose bytes a backend has already stored in the inbox.
//! Only the event is made here; ingestion checks the bytes against the digest, as it does with every document.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use jiff::Timestamp;
use jiff::civil::Date;
use messages::{AssetKey, BlobRef, Hash32, Tenant, door_id};
use serde::{Deserialize, Serialize};
use stores::{Cache, StoreError};
use utoipa::ToSchema;

use crate::auth::Scope;
use crate::door::Door;
use crate::error::{Kind, Problem};
use crate::headers;
use crate::routes::asset_id;
use crate::routes::commands::{Fields, remember_same};
use crate::routes::documents::{Accepted, accepted};
use crate::routes::openapi::ReferenceProblems;
use crate::upload::{Close, INBOX, Stored, Upload};
use crate::views;

const ROUTE: &str = "POST /v1/assets/{asset_id}/document-references";
/// Characters of a blob's name; the service's own limit.
const MAX_NAME: usize = 1024;

/// A file in the inbox.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StoredBlob {
    /// `inbox`, which is also what is meant when it is left out.
    container: Option<String>,
    /// Begins with the tenant's name and a slash.
    name: String,
    /// Which version of it; the one that is there now when left out.
    etag: Option<String>,
}

/// Where the file lies and what it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct DocumentReference {
    blob: StoredBlob,
    /// Of the file, 64 hexadecimal digits.
    #[schema(value_type = String)]
    sha256: Hash32,
    /// Bytes.
    size: u64,
    media_type: String,
    filename: Option<String>,
    /// Close the dossier behind this document.
    close: Option<bool>,
    /// With `close`: the date as of which to value, when the documents do not name it.
    #[schema(value_type = Option<String>, format = Date)]
    valuation_date: Option<Date>,
}

/// Submit a document that is stored already
///
/// For backends that write into the inbox themselves, below their tenant's name. Nothing is copied: the version that is
/// there now is pinned and queued.
#[utoipa::path(
    post,
    path = "/v1/assets/{asset_id}/document-references",
    tag = "write",
    params(
        ("asset_id" = String, Path, description = "The asset, by a name of yours"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible characters of your choice; repeat it when you repeat the request")
    ),
    request_body(content = DocumentReference, content_type = "application/json"),
    responses((status = 202, description = "Queued", body = Accepted), ReferenceProblems),
    security(("bearer" = ["documents:write"]))
)]
pub async fn refer(State(door): State<Arc<Door>>, Path(asset): Path<String>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let visitor = door.gate.admit(&parts.headers, Scope::DocumentsWrite).await?;
    let asset = AssetKey::new(visitor.tenant.clone(), asset_id(&asset)?);
    let key = headers::idempotency_key(&parts.headers)?;
    door.gate.pace(&visitor).await?;
    let reference = reference(Fields::read(&door, body).await?, door.limits.max_document_bytes)?;
    let document_id = door_id(asset.tenant.as_str(), ROUTE, &key);
    let blob = pinned(&door, &asset.tenant, &reference).await?;
    let said = [asset.to_string().as_bytes(), b"\n", &views::to_json(&reference)].concat();
    let replay = remember_same(&door.cache, &asset.tenant, document_id, &said).await?;
    let upload = Upload {
        asset,
        document_id,
        filename: reference.filename.as_deref().and_then(headers::clean_filename),
        declared_type: Some(reference.media_type),
        received_at: Timestamp::now(),
        submitted_by: visitor.subject,
        close: reference.close.unwrap_or_default().then_some(Close {
            valuation_date: reference.valuation_date,
        }),
        trace: headers::trace_of(&parts.extensions),
    };
    let stored = Stored {
        upload,
        sha256: reference.sha256,
        size: reference.size,
        blob,
    };
    if !replay {
        let entry = Cache::document_key(&stored.upload.asset.tenant, document_id);
        let view = views::to_json(&views::DocumentView::accepted(&stored));
        door.cache.put_if_absent(&entry, &view).await;
    }
    let events = stored.events();
    let (published, ()) = tokio::join!(door.publish(&events), door.mark(&stored.upload.asset));
    published?;
    Ok(accepted(&stored, replay))
}

fn reference(mut fields: Fields, max: u64) -> Result<DocumentReference, Problem> {
    let blob = fields.required("blob", "an object with name, and perhaps container and etag", |_: &StoredBlob| true);
    let sha256 = fields.required("sha256", "64 hexadecimal digits, of the file", |_: &Hash32| true);
    let size = fields.required("size", &format!("the file's bytes, from 1 to {max}"), |n: &u64| {
        (1..=max).contains(n)
    });
    let media_type = fields.required("media_type", "the file's media type, at most 255 characters", |t: &String| {
        (1..=255).contains(&t.len()) && t.bytes().all(|b| (b' '..=b'~').contains(&b))
    });
    let filename = fields.optional("filename", "the file's name", |_: &String| true);
    let close = fields.optional("close", "true or false", |_: &bool| true);
    let valuation_date = fields.optional::<Date>("valuation_date", "a date, YYYY-MM-DD", |_| true);
    if valuation_date.is_some() && close != Some(true) {
        fields.mistake("valuation_date", "goes with close: true only".to_owned());
    }
    let parts = blob.zip(sha256).zip(size.zip(media_type));
    fields.finish(parts.map(|((blob, sha256), (size, media_type))| DocumentReference {
        blob,
        sha256,
        size,
        media_type,
        filename,
        close,
        valuation_date,
    }))
}

/// Where the file lies, in the version that is there now.
///
/// # Errors
/// 404 for what is not there and for what is not the tenant's, which look the same; 409 when it is another file.
async fn pinned(door: &Door, tenant: &Tenant, reference: &DocumentReference) -> Result<BlobRef, Problem> {
    let StoredBlob { container, name, etag } = &reference.blob;
    let unknown = || {
        let detail = format!("There is no such blob in the container {INBOX} below {tenant}/. Store the file there, then refer to it.");
        Problem::new(Kind::NotFound, detail)
    };
    if container.as_ref().is_some_and(|c| c != INBOX) || !is_below(tenant, name) {
        return Err(unknown());
    }
    let info = match door.blobs.blob(INBOX, name).info().await {
        Ok(info) => info,
        Err(StoreError::NotFound(_)) => return Err(unknown()),
        Err(e) => return Err(e.into()),
    };
    if info.size != reference.size {
        let detail = format!(
            "The blob has {} bytes, not {}. Describe the file that is there.",
            info.size, reference.size
        );
        return Err(Problem::new(Kind::BlobMismatch, detail));
    }
    if etag.as_ref().is_some_and(|etag| *etag != info.etag) {
        let detail = format!(
            "The blob has the ETag {}, so it was changed since. Refer to the version that you mean.",
            info.etag
        );
        return Err(Problem::new(Kind::BlobMismatch, detail));
    }
    Ok(BlobRef {
        container: INBOX.to_owned(),
        name: name.clone(),
        etag: info.etag,
    })
}

/// Whether a blob's name stays below the tenant's: no segment of it may lead elsewhere when it becomes part of a URL.
fn is_below(tenant: &Tenant, name: &str) -> bool {
    let plain = |segment: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(known)
    };
    let below = name.strip_prefix(tenant.as_str()).and_then(|rest| rest.strip_prefix('/'));
    name.len() <= MAX_NAME && below.is_some_and(|rest| rest.split('/').all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_below_its_tenant() {
        let tenant: Tenant = "demo".parse().unwrap();
        for good in ["demo/a.pdf", "demo/2026/11/Acta_1~b.csv", "demo/..a"] {
            assert!(is_below(&tenant, good), "{good}");
        }
        let long = format!("demo/{}", "x".repeat(MAX_NAME));
        for bad in [
            "",
            "demo",
            "demo/",
            "other/a",
            "demo-2/a",
            "/demo/a",
            "demo//a",
            "demo/../other/a",
            "demo/./a",
            "demo/%2e%2e/a",
            "demo/a?b",
            "demo/a#b",
            "demo\\a",
            "demo/a b",
            "demo/ñ",
            &long,
        ] {
            assert!(!is_below(&tenant, bad), "{bad}");
        }
    }
}
