//! An intake of one's own on the real servers, an issuer of one's own, and a client that holds every answer against
//! the interface's description.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "each test binary uses a part")]

use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use intake::{Config, SERVICE};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use runtime::{Exit, Process};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testkit::Corner;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const AUDIENCE: &str = "libertum-test";
pub const KID: &str = "test-key";
pub const DOCUMENTS: &str = "/v1/assets/{asset_id}/documents";
pub const REFERENCES: &str = "/v1/assets/{asset_id}/document-references";
pub const VALUATIONS: &str = "/v1/assets/{asset_id}/valuations";
pub const MINTS: &str = "/v1/assets/{asset_id}/mints";
pub const DOCUMENT: &str = "/v1/documents/{document_id}";
pub const ASSET: &str = "/v1/assets/{asset_id}";
pub const RECIPIENT: &str = "0x00000000000000000000000000000000000000aa";

/// An OIDC issuer: a key, and its public half on loopback.
pub struct Issuer {
    pub url: String,
    pub key: EncodingKey,
    pub modulus: String,
}

impl Issuer {
    pub async fn start() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
        jwk.common.key_id = Some(KID.to_owned());
        let public = serde_json::to_value(&jwk).unwrap();
        let modulus = public["n"].as_str().unwrap().to_owned();
        // A key of a kind that nobody knows must not hide the good one.
        let set = json!({ "keys": [{ "kty": "FUTURE", "kid": "x" }, public] });
        let app = axum::Router::new().route("/jwks.json", axum::routing::get(move || async move { axum::Json(set) }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, key, modulus }
    }

    /// Good claims, to be spoilt.
    pub fn claims(&self, tenant: &str) -> Value {
        let now = jiff::Timestamp::now().as_second();
        json!({
            "iss": self.url, "aud": AUDIENCE, "sub": "ana", "tenant": tenant, "nbf": now, "exp": now + 600,
            "scope": "documents:write valuations:write mints:write read",
        })
    }

    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(KID.to_owned());
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

/// A running intake.
pub struct Intake {
    pub url: String,
    pub stop: CancellationToken,
    pub metrics: runtime::telemetry::Metrics,
    pub ended: JoinHandle<anyhow::Result<Exit>>,
}

pub struct House {
    pub corner: Corner,
    pub issuer: Issuer,
    pub intake: Intake,
    pub http: reqwest::Client,
    pub description: Value,
    _files: tempfile::TempDir,
}

/// An answer that was held against the description.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Answer {
    pub fn problem(&self) -> &str {
        self.json["type"].as_str().unwrap_or_default().trim_start_matches("/problems/")
    }

    pub fn text(&self, field: &str) -> &str {
        self.json[field].as_str().unwrap_or_else(|| panic!("no {field} in {}", self.json))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or_default()
    }

    /// Checks the status and, for errors, the kind of problem.
    pub fn is(self, status: u16, problem: &str) -> Self {
        assert_eq!((self.status.as_u16(), self.problem()), (status, problem), "{}", self.json);
        self
    }
}

impl House {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// An intake with these settings over the usual ones.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let mut corner = Corner::new();
        corner.create_topics().await;
        let issuer = Issuer::start().await;
        let files = tempfile::tempdir().unwrap();
        let tenants = files.path().join("tenants.json");
        let tenant = json!({ "recipient": RECIPIENT, "units": 1000, "currency": "EUR" });
        let slow = json!({ "limits": { "requests_per_second": 1, "burst": 2 } });
        let (bare, named_slow) = (format!("{}-b", corner.name), format!("{}-s", corner.name));
        std::fs::write(
            &tenants,
            json!({ (&corner.name): tenant, (bare): {}, (named_slow): slow }).to_string(),
        )
        .unwrap();
        corner.set("TENANTS_FILE", tenants.to_str().unwrap());
        corner.set("OIDC_ISSUER", issuer.url.clone());
        corner.set("OIDC_AUDIENCE", AUDIENCE);
        corner.set("OIDC_JWKS_URL", format!("{}/jwks.json", issuer.url));
        intake::prepare(&corner.blobs()).await.unwrap();
        let intake = start(&corner, settings).await;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        let description = http
            .get(format!("{}/openapi.json", intake.url))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        Self {
            corner,
            issuer,
            intake,
            http,
            description,
            _files: files,
        }
    }

    /// Another intake in the same corner.
    pub async fn another(&mut self, settings: &[(&str, &str)]) {
        self.intake = start(&self.corner, settings).await;
    }

    /// The tenant with a recipient and units.
    pub fn tenant(&self) -> &str {
        &self.corner.name
    }

    pub fn token(&self) -> String {
        self.token_of(self.tenant())
    }

    pub fn token_of(&self, tenant: &str) -> String {
        self.issuer.sign(&self.issuer.claims(tenant))
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.intake.url))
            .bearer_auth(self.token())
    }

    /// An upload of `body` to the asset `a-1`.
    pub fn upload(&self, key: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.request(Method::POST, "/v1/assets/a-1/documents")
            .header("idempotency-key", key)
            .body(body)
    }

    pub async fn get(&self, route: &str, path: &str) -> Answer {
        self.send(route, self.request(Method::GET, path)).await
    }

    /// Sends a request, and holds the answer against what the description says of the route.
    pub async fn send(&self, route: &str, request: reqwest::RequestBuilder) -> Answer {
        let request = request.build().unwrap();
        let (method, path) = (request.method().as_str().to_lowercase(), request.url().path().to_owned());
        let response = self.http.execute(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let json: Value = response.json().await.unwrap();
        let answer = Answer { status, headers, json };
        let described = &self.description["paths"][route][&method]["responses"][status.as_str()];
        assert!(
            described.is_object(),
            "{method} {route} {status} is not in the description: {}",
            answer.json
        );
        if status.as_u16() >= 400 {
            self.is_problem(&answer, &path);
            let description = described["description"].as_str().unwrap();
            assert!(
                description.split(", ").any(|p| p == answer.problem()),
                "{} is not in {description:?}",
                answer.problem()
            );
            for header in described["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
                let optional = description.contains(", ");
                assert!(optional || answer.headers.contains_key(header), "{header} is missing");
            }
        }
        answer
    }

    fn is_problem(&self, answer: &Answer, path: &str) {
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.text("instance"), path);
        assert_eq!(answer.text("request_id"), answer.header("x-request-id"));
        assert_eq!(answer.json["status"], answer.status.as_u16());
        assert!(answer.json["retryable"].is_boolean() && !answer.text("detail").is_empty() && !answer.text("title").is_empty());
    }
}

async fn start(corner: &Corner, settings: &[(&str, &str)]) -> Intake {
    let vars = corner.vars().iter().cloned();
    let env: runtime::Env = vars
        .chain(settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())))
        .collect();
    let mut process = Process::new(SERVICE, env).unwrap();
    process.grace = Duration::from_secs(8);
    let config: Config = process.load().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, metrics) = (process.stop.clone(), process.metrics.clone());
    let ended = tokio::spawn(async move { intake::serve(&process, &config, listener).await });
    Intake { url, stop, metrics, ended }
}

/// Bytes that repeat late, so that a block in the wrong place shows.
pub fn bytes(count: usize) -> Vec<u8> {
    (0..count as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub fn repr_digest(bytes: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(sha256(bytes));
    format!("sha-256=:{text}:")
}
