//! Who is asking: bearer JWTs of one OIDC issuer (RFC 6750, RFC 9068), checked against its published keys.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use axum::http::{HeaderMap, header};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::config::OidcConfig;
use crate::error::{Kind, Problem};

/// How far clocks may differ, seconds.
const LEEWAY: u64 = 30;
/// How long the issuer may take.
const FETCH: Duration = Duration::from_secs(5);
/// An unknown key id makes us look again at most this often, so that made-up ids are no way to flood the issuer.
const REFETCH: Duration = Duration::from_secs(30);
/// The same while there are no keys at all.
const RETRY: Duration = Duration::from_secs(2);
/// Keys older than this are looked up again, so that a withdrawn key stops being good.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Bytes of a key set; real ones have a few thousand.
const MAX_SET: usize = 256 * 1024;

/// What a token must allow, in its `scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    DocumentsWrite,
    ValuationsWrite,
    MintsWrite,
    Read,
}

impl Scope {
    pub fn name(self) -> &'static str {
        match self {
            Self::DocumentsWrite => "documents:write",
            Self::ValuationsWrite => "valuations:write",
            Self::MintsWrite => "mints:write",
            Self::Read => "read",
        }
    }
}

/// The claims that we use; `iss`, `aud`, `exp` and `nbf` have been checked.
#[derive(Debug, Clone, Deserialize)]
pub struct Claims {
    pub sub: String,
    #[serde(default)]
    pub tenant: Option<String>,
    /// Words separated by spaces.
    #[serde(default)]
    pub scope: String,
}

impl Claims {
    /// # Errors
    /// 403 with a challenge that names the scope.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        let name = scope.name();
        if self.scope.split(' ').any(|s| s == name) {
            return Ok(());
        }
        Err(
            Problem::new(Kind::ForbiddenScope, format!("Ask the issuer for a token with the scope {name}."))
                .challenge(format!(r#"Bearer realm="libertum", error="insufficient_scope", scope="{name}""#)),
        )
    }
}

/// Checks tokens. The issuer's keys are fetched when they are first needed.
pub struct Auth {
    config: OidcConfig,
    client: reqwest::Client,
    keys: RwLock<Arc<Keys>>,
    /// Held while fetching, so that many unknown ids make one fetch; when the last one ended.
    fetching: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, (Algorithm, DecodingKey)>,
    fetched: Option<Instant>,
}

impl Keys {
    fn are_old(&self) -> bool {
        self.fetched.is_none_or(|at| at.elapsed() > MAX_AGE)
    }
}

impl Auth {
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(config: &OidcConfig) -> anyhow::Result<Self> {
        let mut client = reqwest::Client::builder()
            .timeout(FETCH)
            .connect_timeout(FETCH)
            .redirect(reqwest::redirect::Policy::none());
        if config.jwks_url.is_loopback() {
            client = client.no_proxy();
        }
        Ok(Self {
            config: config.clone(),
            client: client.build().context("the HTTP client for OIDC_JWKS_URL")?,
            keys: RwLock::default(),
            fetching: Mutex::new(None),
        })
    }

    /// The claims of the request's token.
    ///
    /// # Errors
    /// 401 when there is none that is valid, 503 when the issuer's keys cannot be had.
    pub async fn check(&self, headers: &HeaderMap) -> Result<Claims, Problem> {
        let token = bearer(headers)?;
        let header = decode_header(token).map_err(|_| invalid("the token is not a JWT we can read"))?;
        let id = header.kid.ok_or_else(|| invalid("the token names no key (kid)"))?;
        let (algorithm, key) = self.key(&id).await?;
        if header.alg != algorithm {
            return Err(invalid("the token's algorithm is not its key's"));
        }
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let data = decode::<Claims>(token, &key, &validation).map_err(|e| invalid(&reason(&e)))?;
        Ok(data.claims)
    }

    async fn key(&self, id: &str) -> Result<(Algorithm, DecodingKey), Problem> {
        let known = self.known();
        if let Some(key) = known.by_id.get(id)
            && !known.are_old()
        {
            return Ok(key.clone());
        }
        let mut last = self.fetching.lock().await;
        let pause = if self.known().fetched.is_some() { REFETCH } else { RETRY };
        if last.is_none_or(|at| at.elapsed() >= pause) {
            match self.fetch().await {
                Ok(keys) => {
                    info!(keys = keys.by_id.len(), "fetched the issuer's keys");
                    *self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(keys);
                }
                Err(e) => warn!(
                    error = format!("{e:#}"),
                    "the issuer's keys cannot be fetched, going on with those we have"
                ),
            }
            *last = Some(Instant::now());
        }
        let known = self.known();
        match known.by_id.get(id) {
            Some(key) => Ok(key.clone()),
            None if known.fetched.is_none() => Err(Problem::new(
                Kind::IssuerUnavailable,
                "The issuer's keys cannot be had at the moment. Repeat the request.",
            )),
            None => Err(invalid("the token's key (kid) is not one of the issuer's")),
        }
    }

    fn known(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    async fn fetch(&self) -> anyhow::Result<Keys> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let mut response = self.client.get(self.config.jwks_url.0.clone()).send().await?.error_for_status()?;
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            ensure!(text.len() + chunk.len() <= MAX_SET, "the key set has more than {MAX_SET} bytes");
            text.extend_from_slice(&chunk);
        }
        let set: Set = serde_json::from_slice(&text).context("not a JSON Web Key Set")?;
        // A set may hold keys of kinds that we do not know; they are no reason to refuse the others.
        let by_id = set
            .keys
            .into_iter()
            .filter_map(|k| usable(serde_json::from_value(k).ok()?))
            .collect();
        Ok(Keys {
            by_id,
            fetched: Some(Instant::now()),
        })
    }
}

/// The key by its id with the one algorithm that it is good for. What a token says of its algorithm is never believed.
fn usable(jwk: Jwk) -> Option<(String, (Algorithm, DecodingKey))> {
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => (Algorithm::ES256, KeyAlgorithm::ES256),
        AlgorithmParameters::EllipticCurve(_) | AlgorithmParameters::OctetKey(_) | AlgorithmParameters::OctetKeyPair(_) => return None,
        _ => return None,
    };
    let for_signing = jwk.common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature);
    let agrees = jwk.common.key_algorithm.is_none_or(|a| a == named);
    if !(for_signing && agrees) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some((jwk.common.key_id?, (algorithm, key)))
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let missing = || {
        Problem::new(
            Kind::Unauthenticated,
            "Send one token of the issuer: Authorization: Bearer <token>.",
        )
        .challenge(r#"Bearer realm="libertum""#.to_owned())
    };
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let first = values.next().and_then(|v| v.to_str().ok()).ok_or_else(missing)?;
    // Which of two counts is nobody's to choose: what stands before us may have looked at the other.
    if values.next().is_some() {
        return Err(missing());
    }
    match first.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(missing()),
    }
}

/// 401 with the reason in words; `why` holds nothing of the token.
fn invalid(why: &str) -> Problem {
    Problem::new(Kind::Unauthenticated, format!("Get a new token from the issuer: {why}.")).challenge(format!(
        r#"Bearer realm="libertum", error="invalid_token", error_description="{why}""#
    ))
}

fn reason(error: &jsonwebtoken::errors::Error) -> String {
    use jsonwebtoken::errors::ErrorKind as E;
    match error.kind() {
        E::ExpiredSignature => "the token has expired".to_owned(),
        E::ImmatureSignature => "the token is not valid yet".to_owned(),
        E::InvalidIssuer => "the token is of another issuer".to_owned(),
        E::InvalidAudience => "the token is for another audience".to_owned(),
        E::InvalidSignature => "the token's signature is wrong".to_owned(),
        E::MissingRequiredClaim(claim) => format!("the token lacks the claim {claim}"),
        _ => "the token is malformed".to_owned(),
    }
}
