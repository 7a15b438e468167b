//! Commands: a small body in, one event out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use messages::{DossierClosed, Message as _, MintRequested, MintingPayload, Payload as _, topics};
use reqwest::Method;
use serde_json::{Value, json};
use support::*;

fn post(house: &House, what: &str, key: &str, body: &Value) -> reqwest::RequestBuilder {
    house
        .request(Method::POST, &format!("/v1/assets/a-1/{what}"))
        .header("idempotency-key", key)
        .json(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valuation_is_ordered_once_however_often_it_is_asked_for() {
    let house = House::new().await;
    let no_body = house
        .request(Method::POST, "/v1/assets/a-1/valuations")
        .header("idempotency-key", "k");
    let first = house.send(VALUATIONS, no_body.try_clone().unwrap()).await.is(202, "");
    assert_eq!(
        (first.header("location"), first.json["idempotent_replay"].as_bool()),
        ("/v1/assets/a-1", Some(false))
    );
    let again = house.send(VALUATIONS, no_body).await.is(202, "");
    assert_eq!(
        (first.text("event_id"), again.json["idempotent_replay"].as_bool()),
        (again.text("event_id"), Some(true))
    );
    house
        .send(
            VALUATIONS,
            post(&house, "valuations", "k", &json!({ "valuation_date": "2026-01-31" })),
        )
        .await
        .is(422, "idempotency-key-reused");
    // The same key for another asset is another order.
    let other = house
        .request(Method::POST, "/v1/assets/a-2/valuations")
        .header("idempotency-key", "k");
    assert_ne!(
        house.send(VALUATIONS, other).await.is(202, "").text("event_id"),
        first.text("event_id")
    );
    let dated = post(&house, "valuations", "k2", &json!({ "valuation_date": "2026-01-31" }));
    house.send(VALUATIONS, dated).await.is(202, "");

    let events = house.corner.events(topics::INGESTION).await;
    assert!(events.iter().all(|e| e.envelope().event_type == DossierClosed::TYPE));
    let of = |key: &str| events.iter().filter(|e| e.key.ends_with(key)).count();
    assert_eq!((of("/a-1"), of("/a-2")), (3, 1));
    assert!(
        events
            .iter()
            .any(|e| e.value["valuation_date"] == "2026-01-31" && e.value["requested_by"] == "ana")
    );
    // Known from the 202 on, before any worker has run.
    let asset = house.get(ASSET, "/v1/assets/a-2").await.is(200, "");
    assert_eq!(asset.text("state"), "open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mint_names_what_it_mints_and_the_tenant_fills_in_the_rest() {
    let house = House::new().await;
    let hash = "ab".repeat(32);
    let order = json!({ "valuation_id": format!("{}/{hash}", house.tenant()), "evidence": hash });
    let answer = house.send(MINTS, post(&house, "mints", "k", &order)).await.is(202, "");
    let events = house.corner.events(topics::MINTING).await;
    let [event] = events.as_slice() else { panic!("{events:?}") };
    let envelope = event.envelope();
    assert_eq!(
        (envelope.id.to_string().as_str(), envelope.event_type.as_str()),
        (answer.text("event_id"), MintRequested::TYPE)
    );
    assert_eq!(event.key, format!("{}/a-1", house.tenant()));
    let MintingPayload::Requested(mint) = MintingPayload::decode(&envelope.event_type, event.value.to_string().as_bytes()).unwrap();
    assert_eq!(
        (mint.recipient.to_string().as_str(), mint.units, mint.requested_by.as_str()),
        (RECIPIENT, 1000, "ana")
    );
    assert_eq!(mint.evidence.to_string(), hash);

    let mut own = order.clone();
    own["recipient"] = json!(format!("0x{}", "bb".repeat(20)));
    own["units"] = json!(7);
    house.send(MINTS, post(&house, "mints", "k2", &own)).await.is(202, "");
    let events = house.corner.events(topics::MINTING).await;
    assert!(
        events
            .iter()
            .any(|e| e.value["units"] == 7 && e.value["recipient"] == own["recipient"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mint_lacks_is_named_and_where_to_find_it() {
    let house = House::new().await;
    let refused = async |body: &Value| {
        let answer = house.send(MINTS, post(&house, "mints", "k", body)).await.is(400, "invalid-body");
        let errors = answer.json["errors"].as_array().cloned().unwrap_or_default();
        let fields: Vec<String> = errors.iter().map(|e| e["field"].as_str().unwrap().to_owned()).collect();
        (fields, answer.text("detail").to_owned())
    };
    let (fields, detail) = refused(&json!({})).await;
    assert_eq!(fields, ["valuation_id", "evidence"]);
    assert!(
        detail.contains("GET /v1/assets/a-1") && detail.contains("report_sha256"),
        "{detail}"
    );
    let hash = "ab".repeat(32);
    let wrong = json!({ "valuation_id": format!("other/{hash}"), "evidence": "ab", "recipient": "0x0", "units": 0, "unit": 1 });
    assert_eq!(refused(&wrong).await.0, ["valuation_id", "evidence", "recipient", "units", "unit"]);
    assert!(refused(&json!([])).await.1.contains("JSON object"));
    let zero = json!({
        "valuation_id": format!("{}/{hash}", house.tenant()), "evidence": hash, "recipient": format!("0x{}", "00".repeat(20)),
    });
    assert_eq!(refused(&zero).await.0, ["recipient"]);

    // A tenant with nothing set has to say everything.
    let bare = format!("{}-b", house.tenant());
    let order = json!({ "valuation_id": format!("{bare}/{hash}"), "evidence": hash });
    let request = house
        .http
        .post(format!("{}/v1/assets/a-1/mints", house.intake.url))
        .bearer_auth(house.token_of(&bare))
        .header("idempotency-key", "k")
        .json(&order);
    let answer = house.send(MINTS, request).await.is(400, "invalid-body");
    assert!(
        answer.text("detail").contains("recipient") && answer.text("detail").contains("units"),
        "{}",
        answer.json
    );
    assert!(house.corner.events(topics::MINTING).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_have_small_bodies_and_a_key() {
    let house = House::new().await;
    let large = json!({ "valuation_date": "x".repeat(70_000) });
    house
        .send(VALUATIONS, post(&house, "valuations", "k", &large))
        .await
        .is(413, "too-large");
    let no_key = house.request(Method::POST, "/v1/assets/a-1/valuations");
    house.send(VALUATIONS, no_key).await.is(400, "idempotency-key-missing");
    let date = json!({ "valuation_date": "tomorrow" });
    house
        .send(VALUATIONS, post(&house, "valuations", "k", &date))
        .await
        .is(400, "invalid-body");
}
