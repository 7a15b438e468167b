//! Reads, and that writes need nothing that only reads have.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use bson::serde_helpers::HumanReadable;
use messages::facts::{Fact, Locator, Provenance};
use messages::{Hash32, TraceParent};
use serde_json::json;
use stores::Cache;
use stores::records::{
    AssetRecord, DocumentFact, DocumentRecord, DocumentState, MintSection, MintState, Move, Reason, ValuationSection, ValuationStatus,
};
use support::*;
use uuid::Uuid;

const NO_REDIS: (&str, &str) = ("REDIS_URL", "redis://127.0.0.1:1/0");
const NO_MONGO: (&str, &str) = (
    "MONGODB_URI",
    "mongodb://127.0.0.1:1/?directConnection=true&serverSelectionTimeoutMS=300",
);

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_there_right_after_the_202() {
    // By its cache entry, by the inbox without Redis; and the entry alone answers while the database is down.
    for settings in [&[][..], &[NO_REDIS][..], &[NO_MONGO][..]] {
        let house = House::with(settings).await;
        let upload = house.upload("k", "a,b").header("content-disposition", "inline; filename=x.csv");
        let accepted = house.send(DOCUMENTS, upload).await.is(202, "");
        let seen = house.get(DOCUMENT, accepted.header("location")).await.is(200, "");
        assert_eq!(
            (seen.text("state"), seen.text("asset_id"), seen.text("filename")),
            ("accepted", "a-1", "x.csv")
        );
        assert_eq!(
            (seen.text("sha256"), seen.json["size"].as_u64()),
            (accepted.text("sha256"), Some(3))
        );
        assert_eq!(seen.json["history"][0]["to"], "accepted");
        if settings != [NO_MONGO] {
            let asset = house.get(ASSET, "/v1/assets/a-1").await.is(200, "");
            assert_eq!(asset.text("state"), "open");
            assert!(asset.text("next").contains("POST /v1/assets/a-1/valuations"));
        }
        // Another tenant sees nothing of it.
        let other = house.token_of(&format!("{}-b", house.tenant()));
        if settings != [NO_MONGO] {
            for (route, path) in [(DOCUMENT, accepted.header("location")), (ASSET, "/v1/assets/a-1")] {
                let request = house.http.get(format!("{}{path}", house.intake.url)).bearer_auth(&other);
                house.send(route, request).await.is(404, "not-found");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_accepted_with_the_database_down_and_reads_say_that_it_is() {
    let house = House::with(&[NO_MONGO]).await;
    house.send(DOCUMENTS, house.upload("k", "x")).await.is(202, "");
    let order = house
        .request(reqwest::Method::POST, "/v1/assets/a-1/valuations")
        .header("idempotency-key", "k");
    house.send(VALUATIONS, order).await.is(202, "");
    house.get(ASSET, "/v1/assets/a-1").await.is(503, "storage-unavailable");
}

/// The write routes, and all that they are made of, know nothing of a database.
#[test]
fn the_write_routes_have_no_database() {
    let write_path = [
        ("door", include_str!("../src/door.rs")),
        ("upload", include_str!("../src/upload.rs")),
        ("gate", include_str!("../src/gate.rs")),
        ("documents", include_str!("../src/routes/documents.rs")),
        ("form", include_str!("../src/form.rs")),
        ("references", include_str!("../src/routes/references.rs")),
        ("commands", include_str!("../src/routes/commands.rs")),
        ("valuations", include_str!("../src/routes/valuations.rs")),
        ("mints", include_str!("../src/routes/mints.rs")),
    ];
    for (name, text) in write_path {
        for word in ["Mongo", "mongo", "bson", "reads::", "read_model"] {
            assert!(!text.contains(word), "{name} mentions {word}");
        }
    }
    assert!(
        include_str!("../src/routes/reads.rs").contains("Mongo"),
        "the words above are the right ones"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unknown_is_not_found() {
    let house = House::new().await;
    house.get(DOCUMENT, "/v1/documents/not-an-id").await.is(404, "not-found");
    house
        .get(DOCUMENT, &format!("/v1/documents/{}", Uuid::now_v7()))
        .await
        .is(404, "not-found");
    house.get(ASSET, "/v1/assets/nothing").await.is(404, "not-found");
    house.get(ASSET, "/v1/assets/a%20b").await.is(400, "invalid-name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_deletes_the_entry_is_seen_at_once_and_the_cache_serves_between() {
    let house = House::new().await;
    let accepted = house.send(DOCUMENTS, house.upload("k", "x")).await.is(202, "");
    let id: Uuid = accepted.text("document_id").parse().unwrap();
    let path = accepted.header("location").to_owned();
    let mongo = house.corner.mongo().await;
    let record = document(&house, id);
    mongo.documents().insert_one(HumanReadable(record)).await.unwrap();
    assert_eq!(
        house.get(DOCUMENT, &path).await.is(200, "").text("state"),
        "accepted",
        "the entry answers"
    );
    house
        .corner
        .cache()
        .delete(&Cache::document_key(&house.tenant().parse().unwrap(), id))
        .await;
    let seen = house.get(DOCUMENT, &path).await.is(200, "");
    assert_eq!((seen.text("state"), seen.text("detected_type")), ("partial", "text/csv"));
    assert_eq!(
        (seen.json["reason"]["code"].as_str(), seen.json["facts"]["count"].as_u64()),
        (Some("not-read-yet"), Some(1))
    );
    assert_eq!(seen.json["facts"]["list"][0]["path"], "physical.site_area");
    assert_eq!(
        (&seen.json["history"][1]["to"], &seen.json["notes"]),
        (&json!("partial"), &json!(["a note"]))
    );
    // Filled by that read: a change that nobody announced shows later.
    mongo.documents().delete_one(bson::doc! {}).await.unwrap();
    assert_eq!(house.get(DOCUMENT, &path).await.is(200, "").text("state"), "partial");
    let text = house.intake.metrics.render().unwrap();
    assert!(
        text.contains("libertum_intake_cache_lookups_total{") && text.contains("result=\"hit\""),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_tells_where_it_is_and_what_to_do() {
    let house = House::new().await;
    let mongo = house.corner.mongo().await;
    let id = Uuid::now_v7();
    mongo.documents().insert_one(HumanReadable(document(&house, id))).await.unwrap();
    let trace = TraceParent::root();
    let tenant: messages::Tenant = house.tenant().parse().unwrap();
    let hash = Hash32([5; 32]);
    let now = jiff::Timestamp::now();
    let mut record = AssetRecord {
        id: format!("{tenant}/a-1"),
        tenant: tenant.clone(),
        asset_id: "a-1".parse().unwrap(),
        documents: vec![id],
        facts_version: 0,
        facts: None,
        valuation: None,
        mint: None,
    };
    let write = async |record: &AssetRecord| {
        let assets = mongo.assets();
        assets.delete_one(bson::doc! {}).await.unwrap();
        assets.insert_one(HumanReadable(record.clone())).await.unwrap();
        house.corner.cache().delete(&Cache::asset_key(&record.key())).await;
        house.get(ASSET, "/v1/assets/a-1").await.is(200, "")
    };
    let seen = write(&record).await;
    assert_eq!((seen.text("state"), seen.json["documents_total"].as_u64()), ("open", Some(1)));
    assert_eq!(seen.json["documents"], json!([{ "id": id, "state": "partial" }]));
    assert_eq!(seen.json["history"][1]["of"], format!("documents/{id}"));
    assert_eq!(seen.json["dossier"], json!(null));

    record.valuation = Some(ValuationSection {
        facts_version: 1,
        status: ValuationStatus::Indicative,
        reason: None,
        valuation_id: Some(format!("{tenant}/{hash}")),
        value: Some("402000.00".to_owned()),
        currency: Some("EUR".to_owned()),
        report_sha256: Some(hash),
        review: true,
        mint_request: None,
        at: now,
        cause: Uuid::now_v7(),
        trace_id: trace.trace_id(),
    });
    record.mint = Some(MintSection {
        state: MintState::Minted,
        reason: None,
        valuation_id: format!("{tenant}/{hash}"),
        evidence: hash,
        recipient: RECIPIENT.parse().unwrap(),
        units: 1000,
        chain_id: 31337,
        contract: RECIPIENT.parse().unwrap(),
        token_id: format!("0x{}", "1".repeat(64)),
        tx: Some(format!("0x{}", "2".repeat(64))),
        block: Some(7),
        block_hash: None,
        at: now,
        cause: Uuid::now_v7(),
        trace_id: trace.trace_id(),
    });
    let seen = write(&record).await;
    assert_eq!((seen.text("state"), seen.json["mint"]["block"].as_u64()), ("minted", Some(7)));
    assert_eq!(seen.json["valuation"]["report_sha256"], hash.to_string());
    assert_eq!(seen.json["valuation"]["value"], "402000.00");
    let last = seen.json["history"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["of"], &last["to"], &last["trace_id"]),
        (&json!("mint"), &json!("minted"), &json!(trace.trace_id()))
    );
}

fn document(house: &House, id: Uuid) -> DocumentRecord {
    let now = jiff::Timestamp::now();
    let tenant: messages::Tenant = house.tenant().parse().unwrap();
    let trace = TraceParent::root();
    let provenance = Provenance {
        document_id: id,
        document_sha256: Hash32([1; 32]),
        locator: Locator::JsonPointer {
            pointer: "/site_area".to_owned(),
        },
        extractor: "json/1".to_owned(),
    };
    DocumentRecord {
        id: DocumentRecord::id_of(&tenant, id),
        tenant,
        document_id: id,
        asset_id: "a-1".parse().unwrap(),
        state: DocumentState::Partial,
        reason: Some(Reason {
            code: "not-read-yet".to_owned(),
            text: "not read yet".to_owned(),
        }),
        sha256: Hash32([1; 32]),
        size: 1,
        declared_type: None,
        detected_type: Some("text/csv".to_owned()),
        filename: None,
        inbox: messages::BlobRef {
            container: "inbox".to_owned(),
            name: "x".to_owned(),
            etag: "x".to_owned(),
        },
        stored: None,
        facts: vec![DocumentFact {
            path: "physical.site_area".to_owned(),
            fact: Fact {
                value: json!("12"),
                provenance,
            },
        }],
        notes: vec!["a note".to_owned()],
        received_at: now,
        history: vec![
            Move::new(now, DocumentState::Accepted, id, trace),
            Move::new(now, DocumentState::Partial, id, trace),
        ],
    }
}
