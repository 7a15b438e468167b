//! `POST /v1/assets/{asset_id}/valuations`: closes the dossier, so that the asset is valued from what was sent before.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use jiff::civil::Date;
use messages::{AssetKey, DossierClosed};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Scope;
use crate::door::Door;
use crate::error::Problem;
use crate::headers;
use crate::routes::asset_id;
use crate::routes::commands::{Command, Fields, Queued, enqueue};
use crate::routes::openapi::CommandProblems;

/// May be left out.
#[derive(Debug, Serialize, ToSchema)]
pub struct ValuationOrder {
    /// The date as of which to value, when the documents do not name it; else the day of this request.
    #[schema(value_type = Option<String>, format = Date)]
    pub valuation_date: Option<Date>,
}

/// Close the dossier and value the asset
///
/// Every document that was accepted before counts, and none that comes later.
#[utoipa::path(
    post,
    path = "/v1/assets/{asset_id}/valuations",
    tag = "write",
    params(
        ("asset_id" = String, Path, description = "The asset"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible characters of your choice; repeat it when you repeat the request")
    ),
    request_body(content = Option<ValuationOrder>, content_type = "application/json"),
    responses((status = 202, description = "Queued", body = Queued), CommandProblems),
    security(("bearer" = ["valuations:write"]))
)]
pub async fn order(State(door): State<Arc<Door>>, Path(asset): Path<String>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let visitor = door.gate.admit(&parts.headers, Scope::ValuationsWrite).await?;
    let asset = AssetKey::new(visitor.tenant.clone(), asset_id(&asset)?);
    let key = headers::idempotency_key(&parts.headers)?;
    door.gate.pace(&visitor).await?;
    let mut fields = Fields::read(&door, body).await?;
    let valuation_date = fields.optional::<Date>("valuation_date", "a date, YYYY-MM-DD", |_| true);
    let message = fields.finish(Some(DossierClosed {
        asset_id: asset.asset_id.clone(),
        requested_by: visitor.subject,
        valuation_date,
    }))?;
    let command = Command {
        asset,
        what: "valuations",
        key,
        trace: headers::trace_of(&parts.extensions),
        message,
    };
    enqueue(&door, command).await
}
