//! `POST /v1/assets/{asset_id}/mints`: a person who has read the report asks for the token.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use messages::{Address, AssetKey, Hash32, MintRequested};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Scope;
use crate::door::Door;
use crate::error::Problem;
use crate::gate::Visitor;
use crate::headers;
use crate::routes::asset_id;
use crate::routes::commands::{Command, Fields, Queued, enqueue};
use crate::routes::openapi::CommandProblems;

/// Which valuation is minted. It is named in full, so that nothing else than what was read can be minted.
#[derive(Debug, Serialize, ToSchema)]
pub struct MintOrder {
    /// `valuation.valuation_id` of `GET /v1/assets/{asset_id}`.
    #[schema(example = "demo/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub valuation_id: String,
    /// `valuation.report_sha256` of `GET /v1/assets/{asset_id}`; the token commits to it.
    #[schema(value_type = String)]
    pub evidence: Hash32,
    /// Who receives the token; the tenant's recipient when left out.
    #[schema(value_type = Option<String>)]
    pub recipient: Option<Address>,
    /// How many units are issued; the tenant's number when left out.
    pub units: Option<u64>,
}

/// Mint the asset's token
///
/// For tenants whose policy is `review`. An asset is issued once.
#[utoipa::path(
    post,
    path = "/v1/assets/{asset_id}/mints",
    tag = "write",
    params(
        ("asset_id" = String, Path, description = "The asset"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible characters of your choice; repeat it when you repeat the request")
    ),
    request_body(content = MintOrder, content_type = "application/json"),
    responses((status = 202, description = "Queued", body = Queued), CommandProblems),
    security(("bearer" = ["mints:write"]))
)]
pub async fn order(State(door): State<Arc<Door>>, Path(asset): Path<String>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let visitor = door.gate.admit(&parts.headers, Scope::MintsWrite).await?;
    let asset = AssetKey::new(visitor.tenant.clone(), asset_id(&asset)?);
    let key = headers::idempotency_key(&parts.headers)?;
    door.gate.pace(&visitor).await?;
    let message = mint(Fields::read(&door, body).await?, &visitor, &asset)?;
    let command = Command {
        asset,
        what: "mints",
        key,
        trace: headers::trace_of(&parts.extensions),
        message,
    };
    enqueue(&door, command).await
}

fn mint(mut fields: Fields, visitor: &Visitor, asset: &AssetKey) -> Result<MintRequested, Problem> {
    let url = format!("GET /v1/assets/{}", asset.asset_id);
    let prefix = format!("{}/", asset.tenant);
    let valuation_id = fields.required("valuation_id", &format!("the valuation.valuation_id of {url}"), |id: &String| {
        id.strip_prefix(&prefix).is_some_and(|hash| hash.parse::<Hash32>().is_ok())
    });
    let evidence = fields.required("evidence", &format!("the valuation.report_sha256 of {url}"), |_: &Hash32| true);
    let asked = fields.optional(
        "recipient",
        "0x followed by 40 hexadecimal digits, and not all zero",
        |a: &Address| a.0 != [0; 20],
    );
    let recipient = asked.or(visitor.settings.recipient);
    // `units` is kept as a signed number.
    let asked = fields.optional("units", "a whole number from 1 to 9223372036854775807", |n: &u64| {
        (1..=i64::MAX.unsigned_abs()).contains(n)
    });
    let units = asked.or(visitor.settings.units);
    for (field, known) in [("recipient", recipient.is_some()), ("units", units.is_some())] {
        if !known {
            fields.mistake(field, "is missing: the tenant has none set, so the body must say it".to_owned());
        }
    }
    let parts = valuation_id.zip(evidence).zip(recipient.zip(units));
    fields.finish(parts.map(|((valuation_id, evidence), (recipient, units))| MintRequested {
        asset_id: asset.asset_id.clone(),
        valuation_id,
        evidence,
        recipient,
        units,
        requested_by: visitor.subject.clone(),
    }))
}
