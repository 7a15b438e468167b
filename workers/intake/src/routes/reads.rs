//! `GET /v1/documents/{id}` and `GET /v1/assets/{id}`: Redis, MongoDB behind it, and behind both the inbox, which knows
//! what has been accepted and not been worked on yet.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bson::doc;
use bson::serde_helpers::HumanReadable;
use futures::TryStreamExt as _;
use messages::AssetKey;
use mongodb::Collection;
use serde::Deserialize;
use stores::records::{AssetRecord, DocumentRecord, DocumentState, Move};
use stores::{Blobs, Cache, Mongo, StoreError};
use uuid::Uuid;

use crate::auth::Scope;
use crate::door::mark_name;
use crate::error::{Kind, Problem};
use crate::gate::{Gate, Visitor};
use crate::read_model::{Looked, ReadModel};
use crate::routes::asset_id;
use crate::routes::openapi::ReadProblems;
use crate::upload::{INBOX, Stored, Upload};
use crate::views::{AssetView, DocumentLine, DocumentView, LISTED, Step, document_step, to_json};

/// The state of the read routes, and the only place where the intake has a database.
pub struct Reads {
    pub gate: Arc<Gate>,
    pub model: ReadModel,
    pub mongo: Mongo,
    pub blobs: Blobs,
}

/// Read a document
///
/// Answers from the moment of the 202 on.
#[utoipa::path(
    get,
    path = "/v1/documents/{document_id}",
    tag = "read",
    params(("document_id" = String, Path, description = "The id from the 202")),
    responses((status = 200, description = "The document", body = DocumentView), ReadProblems),
    security(("bearer" = ["read"]))
)]
pub async fn document(State(reads): State<Arc<Reads>>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let visitor = reads.enter(&headers).await?;
    let document_id: Uuid = id.parse().map_err(|_| unknown("document"))?;
    let key = Cache::document_key(&visitor.tenant, document_id);
    let lease = match reads.model.look(&key).await {
        Looked::Hit(entry) => return Ok(json(entry)),
        Looked::Miss(lease) => lease,
    };
    let view = match reads.document_record(&visitor, document_id).await? {
        Some(record) => DocumentView::of(&record),
        None => reads.document_in_inbox(&visitor, document_id).await?,
    };
    let entry = to_json(&view);
    reads.model.fill(lease, &entry).await;
    Ok(json(entry))
}

/// Read an asset
///
/// Where it is, what it is worth, its token, and what you can do next.
#[utoipa::path(
    get,
    path = "/v1/assets/{asset_id}",
    tag = "read",
    params(("asset_id" = String, Path, description = "The asset")),
    responses((status = 200, description = "The asset", body = AssetView), ReadProblems),
    security(("bearer" = ["read"]))
)]
pub async fn asset(State(reads): State<Arc<Reads>>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let visitor = reads.enter(&headers).await?;
    let asset = AssetKey::new(visitor.tenant, asset_id(&id)?);
    let lease = match reads.model.look(&Cache::asset_key(&asset)).await {
        Looked::Hit(entry) => return Ok(json(entry)),
        Looked::Miss(lease) => lease,
    };
    let assets = reads.mongo.assets();
    let record = reads
        .mongo
        .call(async { assets.find_one(doc! { "_id": asset.to_string() }).await })
        .await?;
    let view = match record {
        Some(HumanReadable(record)) => reads.asset_view(&record).await?,
        None => match reads.blobs.blob(INBOX, &mark_name(&asset)).info().await {
            Ok(_) => AssetView::unwritten(asset.asset_id),
            Err(StoreError::NotFound(_)) => return Err(unknown("asset")),
            Err(e) => return Err(e.into()),
        },
    };
    let entry = to_json(&view);
    reads.model.fill(lease, &entry).await;
    Ok(json(entry))
}

/// What an asset's answer needs of a document, without its facts.
#[derive(Deserialize)]
struct Line {
    document_id: Uuid,
    state: DocumentState,
    history: Vec<Move<DocumentState>>,
}

impl Reads {
    async fn enter(&self, headers: &HeaderMap) -> Result<Visitor, Problem> {
        let visitor = self.gate.admit(headers, Scope::Read).await?;
        self.gate.pace(&visitor).await?;
        Ok(visitor)
    }

    async fn document_record(&self, visitor: &Visitor, document_id: Uuid) -> Result<Option<DocumentRecord>, Problem> {
        let documents = self.mongo.documents();
        let id = DocumentRecord::id_of(&visitor.tenant, document_id);
        let found = self.mongo.call(async { documents.find_one(doc! { "_id": id }).await }).await?;
        Ok(found.map(|HumanReadable(record)| record))
    }

    /// Accepted, and not worked on yet. Only the tenant's own part of the inbox is looked at.
    async fn document_in_inbox(&self, visitor: &Visitor, document_id: Uuid) -> Result<DocumentView, Problem> {
        let blob = self.blobs.blob(INBOX, &Upload::blob_name(&visitor.tenant, document_id));
        match blob.info().await {
            Ok(info) => Stored::from_blob(&info)
                .map(|stored| DocumentView::accepted(&stored))
                .map_err(|_| unknown("document")),
            Err(StoreError::NotFound(_)) => Err(unknown("document")),
            Err(e) => Err(e.into()),
        }
    }

    async fn asset_view(&self, record: &AssetRecord) -> Result<AssetView, Problem> {
        let skipped = record.documents.len().saturating_sub(LISTED);
        let ids: Vec<String> = record
            .documents
            .iter()
            .skip(skipped)
            .map(|id| DocumentRecord::id_of(&record.tenant, *id))
            .collect();
        let lines: Collection<HumanReadable<Line>> = self.mongo.db().collection("documents");
        let found = self
            .mongo
            .call(async {
                let cursor = lines
                    .find(doc! { "_id": { "$in": ids } })
                    .projection(doc! { "_id": 0, "document_id": 1, "state": 1, "history": 1 })
                    .await?;
                cursor.try_collect::<Vec<_>>().await
            })
            .await?;
        let history: Vec<Step> = found
            .iter()
            .flat_map(|HumanReadable(line)| line.history.iter().map(|m| document_step(line.document_id, m)))
            .collect();
        // In the order of arrival, which is the record's.
        let state_of = |id: &Uuid| {
            found
                .iter()
                .find(|HumanReadable(l)| l.document_id == *id)
                .map(|HumanReadable(l)| l.state)
        };
        let documents = record.documents.iter().skip(skipped);
        let documents = documents.filter_map(|id| state_of(id).map(|state| DocumentLine { id: *id, state }));
        Ok(AssetView::of(record, documents.collect(), history))
    }
}

/// Another tenant's ids look just like those that do not exist.
fn unknown(what: &str) -> Problem {
    Problem::new(
        Kind::NotFound,
        format!("There is no such {what}. Check the id; it is known from the 202 on."),
    )
}

fn json(entry: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, entry).into_response()
}
