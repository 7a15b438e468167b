//! The routes. Writes ([`documents`], [`references`], [`valuations`], [`mints`]) have a [`crate::door::Door`] and only enqueue; reads
//! ([`reads`]) have the read model.

pub mod commands;
pub mod documents;
pub mod mints;
pub mod openapi;
pub mod reads;
pub mod references;
pub mod valuations;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use messages::AssetId;

use crate::error::{Kind, Mistake, Problem};

/// The asset id in a path.
///
/// # Errors
/// 400 with the rule.
pub fn asset_id(text: &str) -> Result<AssetId, Problem> {
    text.parse().map_err(|e: messages::NameError| {
        Problem::new(Kind::InvalidName, format!("In the path, {e}.")).with(vec![Mistake {
            field: "asset_id".to_owned(),
            detail: e.to_string(),
        }])
    })
}

/// The parameters behind the `?`.
///
/// # Errors
/// 400 with what is wrong with them.
pub fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query
        .map(|Query(q)| q)
        .map_err(|e| Problem::new(Kind::InvalidRequest, format!("Correct the query: {}.", e.body_text())))
}
