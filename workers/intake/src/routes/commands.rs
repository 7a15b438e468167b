//! What the commands share: a small JSON body in, one event out.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use messages::{AssetKey, Hash32, Message, Outgoing, Tenant, TraceParent, door_id};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use stores::Cache;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::SOURCE;
use crate::body;
use crate::door::Door;
use crate::error::{Kind, Mistake, Problem};

/// How long Redis remembers what a command's key was used for.
const REMEMBER_SECONDS: u64 = 24 * 3600;

/// The command is queued.
#[derive(Debug, Serialize, ToSchema)]
pub struct Queued {
    /// The id of the event; the same for every repeat of the request.
    pub event_id: Uuid,
    /// Where to see what becomes of it.
    pub status_url: String,
    /// Whether this request had been made before, as far as is known: without Redis a repeat is not recognised, and
    /// changes nothing all the same.
    pub idempotent_replay: bool,
}

/// The fields of a JSON object, taken one by one; all mistakes are told at once.
pub struct Fields {
    map: Map<String, Value>,
    mistakes: Vec<Mistake>,
}

impl Fields {
    /// Reads the body; one of no bytes counts as `{}`.
    ///
    /// # Errors
    /// 400 when it is not a JSON object, 413, 408 as with any body.
    pub async fn read(door: &Door, body: Body) -> Result<Self, Problem> {
        let rules = door.command_rules();
        let bytes = body::small(body, rules.clone()).await.map_err(|e| rules.problem(e))?;
        let map = if bytes.is_empty() {
            Ok(Map::new())
        } else {
            serde_json::from_slice::<Map<String, Value>>(&bytes)
        };
        let map = map.map_err(|e| Problem::new(Kind::InvalidBody, format!("Send a JSON object: {e}.")))?;
        Ok(Self { map, mistakes: Vec::new() })
    }

    /// A field that may be absent; `rule` says in words what it must be.
    pub fn optional<T: DeserializeOwned>(&mut self, field: &str, rule: &str, valid: impl Fn(&T) -> bool) -> Option<T> {
        let value = self.map.remove(field).filter(|v| !v.is_null())?;
        let taken = serde_json::from_value(value).ok().filter(valid);
        if taken.is_none() {
            self.mistake(field, format!("must be {rule}"));
        }
        taken
    }

    /// A field that must be there; `rule` also says where to find it.
    pub fn required<T: DeserializeOwned>(&mut self, field: &str, rule: &str, valid: impl Fn(&T) -> bool) -> Option<T> {
        if self.map.get(field).is_none_or(Value::is_null) {
            self.map.remove(field);
            self.mistake(field, format!("is missing: {rule}"));
            return None;
        }
        self.optional(field, rule, valid)
    }

    pub fn mistake(&mut self, field: &str, detail: String) {
        self.mistakes.push(Mistake {
            field: field.to_owned(),
            detail,
        });
    }

    /// The command, when all its parts are there and nothing was wrong.
    ///
    /// # Errors
    /// 400 with every mistake.
    pub fn finish<T>(mut self, complete: Option<T>) -> Result<T, Problem> {
        let unknown: Vec<String> = self.map.keys().cloned().collect();
        for field in unknown {
            self.mistake(&field, "is not a field of this request".to_owned());
        }
        match complete {
            Some(value) if self.mistakes.is_empty() => Ok(value),
            _ => {
                let told: Vec<String> = self.mistakes.iter().map(|m| format!("{} {}", m.field, m.detail)).collect();
                Err(Problem::new(Kind::InvalidBody, format!("Correct the body: {}.", told.join("; "))).with(self.mistakes))
            }
        }
    }
}

/// What is to be done to which asset.
pub struct Command<M> {
    pub asset: AssetKey,
    /// The last part of the route, e.g. `mints`.
    pub what: &'static str,
    pub key: String,
    pub trace: TraceParent,
    pub message: M,
}

/// Queues a command and answers 202.
///
/// # Errors
/// 422 when the key is remembered for another command, 503 when Kafka does not answer.
pub async fn enqueue<M: Message>(door: &Door, command: Command<M>) -> Result<Response, Problem> {
    let Command {
        asset,
        what,
        key,
        trace,
        message,
    } = command;
    // The asset is part of the route here: nothing is stored under the id, so the same key elsewhere must be another id.
    let route = format!("POST /v1/assets/{}/{what}", asset.asset_id);
    let event_id = door_id(asset.tenant.as_str(), &route, &key);
    let subject = format!("assets/{}", asset.asset_id);
    let event = Outgoing::first(event_id, SOURCE, subject, &asset, Timestamp::now(), trace, &message);
    let idempotent_replay = remember_same(&door.cache, &asset.tenant, event_id, &event.value).await?;
    let (published, ()) = tokio::join!(door.publish(std::slice::from_ref(&event)), door.mark(&asset));
    published?;
    let status_url = format!("/v1/assets/{}", asset.asset_id);
    let location = HeaderValue::from_str(&status_url).unwrap_or(HeaderValue::from_static("/"));
    let queued = Queued {
        event_id,
        status_url,
        idempotent_replay,
    };
    let headers = [(header::LOCATION, location), (header::RETRY_AFTER, HeaderValue::from(2u32))];
    Ok((StatusCode::ACCEPTED, headers, Json(queued)).into_response())
}

/// Whether the same was said under this id before, as far as is known.
///
/// # Errors
/// 422 when it was something else.
pub async fn remember_same(cache: &Cache, tenant: &Tenant, id: Uuid, said: &[u8]) -> Result<bool, Problem> {
    let fingerprint = Hash32(Sha256::digest(said).into()).to_string();
    let remembered = remember(cache, &format!("once:{tenant}:{id}"), &fingerprint).await;
    if remembered.as_ref().is_some_and(|r| *r != fingerprint) {
        let detail = "This Idempotency-Key was used before with another body. Use a new key for a new request.";
        return Err(Problem::new(Kind::KeyReused, detail));
    }
    Ok(remembered.is_some())
}

/// Keeps a fingerprint unless there is one, which is then returned. A help against mistakes, not what makes a repeat
/// safe: that is the event's id.
async fn remember(cache: &Cache, key: &str, fingerprint: &str) -> Option<String> {
    let options = redis::SetOptions::default()
        .conditional_set(redis::ExistenceCheck::NX)
        .with_expiration(redis::SetExpiry::EX(REMEMBER_SECONDS))
        .get(true);
    cache
        .call(|mut c| async move { redis::AsyncCommands::set_options::<_, _, Option<String>>(&mut c, key, fingerprint, options).await })
        .await
        .flatten()
}
