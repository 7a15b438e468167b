//! Who may, and how often.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use base64::Engine as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};
use support::*;

/// A token put together by hand, as an attacker would.
fn forged(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |v: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(v.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_but_a_good_one_opens_the_door() {
    let house = House::new().await;
    let good = house.issuer.claims(house.tenant());
    let changed = |field: &str, value: Value| {
        let mut claims = good.clone();
        claims[field] = value;
        house.issuer.sign(&claims)
    };
    let without = |field: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(field);
        house.issuer.sign(&claims)
    };
    let now = jiff::Timestamp::now().as_second();
    let mut unknown_key = Header::new(Algorithm::RS256);
    unknown_key.kid = Some("another".to_owned());
    let mut hmac = Header::new(Algorithm::HS256);
    hmac.kid = Some(KID.to_owned());
    let public_as_secret = EncodingKey::from_secret(house.issuer.modulus.as_bytes());
    let signed = house.issuer.sign(&good);
    let (body, _) = signed.rsplit_once('.').unwrap();
    let tokens = [
        ("expired", changed("exp", json!(now - 60))),
        ("not yet valid", changed("nbf", json!(now + 120))),
        ("of another audience", changed("aud", json!("other"))),
        ("of another issuer", changed("iss", json!("https://evil.example"))),
        ("of an issuer that is a number", changed("iss", json!(7))),
        ("without an expiry", without("exp")),
        ("without an issuer", without("iss")),
        ("without an audience", without("aud")),
        ("without a subject", without("sub")),
        (
            "of an unknown key",
            jsonwebtoken::encode(&unknown_key, &good, &house.issuer.key).unwrap(),
        ),
        (
            "of no key",
            jsonwebtoken::encode(&Header::new(Algorithm::RS256), &good, &house.issuer.key).unwrap(),
        ),
        (
            "signed with the public key as a secret",
            jsonwebtoken::encode(&hmac, &good, &public_as_secret).unwrap(),
        ),
        ("of algorithm none", forged(&json!({"alg": "none", "kid": KID}), &good, "")),
        ("with somebody else's signature", format!("{body}.{}", "A".repeat(342))),
        ("garbage", "garbage".to_owned()),
        ("empty", String::new()),
    ];
    for (what, token) in tokens {
        let request = house.http.get(format!("{}/v1/assets/a-1", house.intake.url)).bearer_auth(token);
        let answer = house.send(ASSET, request).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), (401, "unauthenticated"), "{what}");
        assert!(answer.header("www-authenticate").starts_with("Bearer realm="), "{what}");
    }
    for route in [
        (Method::GET, ASSET, "/v1/assets/a-1"),
        (Method::POST, DOCUMENTS, "/v1/assets/a-1/documents"),
    ] {
        let request = house.http.request(route.0, format!("{}{}", house.intake.url, route.2));
        house.send(route.1, request).await.is(401, "unauthenticated");
    }
    // Two good ones are one too many: whoever stands before the door may have looked at the other.
    let once = house.http.get(format!("{}/v1/assets/a-1", house.intake.url)).bearer_auth(&signed);
    let twice = once.bearer_auth(&signed);
    house.send(ASSET, twice).await.is(401, "unauthenticated");
    // Clocks may differ a little.
    let request = house
        .http
        .get(format!("{}/v1/assets/a-1", house.intake.url))
        .bearer_auth(changed("exp", json!(now - 10)));
    house.send(ASSET, request).await.is(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_opens_only_what_its_scope_and_tenant_say() {
    let house = House::new().await;
    for (scope, route, path) in [
        ("read", DOCUMENTS, "/v1/assets/a-1/documents"),
        ("documents:write read", VALUATIONS, "/v1/assets/a-1/valuations"),
        ("valuations:write documents:writer", MINTS, "/v1/assets/a-1/mints"),
    ] {
        let mut claims = house.issuer.claims(house.tenant());
        claims["scope"] = json!(scope);
        let request = house
            .http
            .post(format!("{}{path}", house.intake.url))
            .bearer_auth(house.issuer.sign(&claims));
        let answer = house.send(route, request).await.is(403, "forbidden-scope");
        assert!(answer.header("www-authenticate").contains("insufficient_scope"));
    }
    for tenant in [json!("nobody"), json!("No/Tenant"), Value::Null] {
        let mut claims = house.issuer.claims("x");
        claims["tenant"] = tenant;
        let request = house
            .http
            .get(format!("{}/v1/assets/a-1", house.intake.url))
            .bearer_auth(house.issuer.sign(&claims));
        house.send(ASSET, request).await.is(403, "forbidden-tenant");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_issuers_keys_nobody_is_let_in_and_it_says_why() {
    let house = House::with(&[("OIDC_JWKS_URL", "http://127.0.0.1:1/jwks.json")]).await;
    house.get(ASSET, "/v1/assets/a-1").await.is(503, "issuer-unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_asks_too_often_waits_and_the_others_do_not() {
    for settings in [&[][..], &[("REDIS_URL", "redis://127.0.0.1:1/0")][..]] {
        let house = House::with(settings).await;
        let slow = house.token_of(&format!("{}-s", house.tenant()));
        let ask = || house.http.get(format!("{}/v1/assets/a-1", house.intake.url)).bearer_auth(&slow);
        let mut refused = None;
        for _ in 0..6 {
            let answer = house.send(ASSET, ask()).await;
            if answer.status == 429 {
                refused = Some(answer);
            }
        }
        let refused = refused.expect("six requests are more than a burst of two").is(429, "rate-limited");
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=2).contains(&wait), "{wait}");
        house.get(ASSET, "/v1/assets/a-1").await.is(404, "not-found");
        tokio::time::sleep(std::time::Duration::from_secs(wait)).await;
        house.send(ASSET, ask()).await.is(404, "not-found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_beyond_the_places_are_refused_at_once() {
    let house = House::with(&[("MAX_UPLOADS", "1")]).await;
    let (send, receive) = tokio::sync::oneshot::channel::<()>();
    let first = futures::stream::iter([Ok::<_, std::io::Error>("one, ")]);
    let rest = futures::stream::once(async move {
        receive.await.unwrap();
        Ok("two")
    });
    let body = reqwest::Body::wrap_stream(futures::StreamExt::chain(first, rest));
    let request = house.upload("slow", body);
    let slow = tokio::spawn(async move { request.send().await.unwrap().status() });
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while !house
        .intake
        .metrics
        .render()
        .unwrap()
        .contains("libertum_intake_received_bytes_total")
    {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    house.send(DOCUMENTS, house.upload("quick", "x")).await.is(503, "overloaded");
    send.send(()).unwrap();
    assert_eq!(slow.await.unwrap(), 202);
    house.send(DOCUMENTS, house.upload("quick", "x")).await.is(202, "");
}
