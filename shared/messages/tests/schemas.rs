//! `docs/schemas/` is generated from the Rust types; `UPDATE_SCHEMAS=1 cargo test -p messages` writes it anew.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use messages::facts::FactSheet;
use messages::*;
use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

struct Described {
    event_type: &'static str,
    topic: &'static str,
    schema: Value,
}

fn described<M: Message + JsonSchema>() -> Described {
    Described {
        event_type: M::TYPE,
        topic: M::TOPIC,
        schema: schema_for!(M).to_value(),
    }
}

fn events() -> Vec<Described> {
    vec![
        described::<DocumentSubmitted>(),
        described::<DossierClosed>(),
        described::<ValuationRequested>(),
        described::<MintRequested>(),
        described::<BackupRequested>(),
        described::<DocumentIngested>(),
        described::<DocumentPartial>(),
        described::<DocumentRejected>(),
        described::<DocumentQuarantined>(),
        described::<DocumentNeedsPassword>(),
        described::<DocumentFailed>(),
        described::<AssetIncomplete>(),
        described::<AssetValued>(),
        described::<ValuationFailed>(),
        described::<AssetMinted>(),
        described::<MintRejected>(),
        described::<MintFailed>(),
        described::<BackupCompleted>(),
        described::<BackupFailed>(),
        described::<RedriveClaimed>(),
        described::<RedriveDone>(),
    ]
}

/// AsyncAPI 3.0: which topic carries what.
fn asyncapi() -> Value {
    let mut channels: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for event in events() {
        let message = json!({
            "contentType": "application/json",
            "headers": { "$ref": "#/components/schemas/headers" },
            "payload": { "$ref": format!("schemas/{}.json", event.event_type) },
        });
        channels.entry(event.topic).or_default().insert(event.event_type, message);
    }
    let channels: BTreeMap<&str, Value> = channels
        .into_iter()
        .map(|(topic, messages)| (topic, json!({ "address": topic, "messages": messages })))
        .collect();
    let header = |text: &str| json!({ "type": "string", "description": text });
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Libertum worker pool",
            "version": "1",
            "description": "CloudEvents 1.0 in binary content mode on Kafka. The key is tenant/asset, of backups the cluster's name, of redrives the topic. Delivery is at least once: the same cause always gives the same ce_id.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "channels": channels,
        "components": { "schemas": { "headers": {
            "type": "object",
            "required": [header::SPEC_VERSION, header::ID, header::SOURCE, header::TYPE, header::SUBJECT, header::TIME, header::TENANT, header::PARTITION_KEY],
            "properties": {
                header::SPEC_VERSION: { "const": "1.0" },
                header::ID: { "type": "string", "format": "uuid" },
                header::SOURCE: header("/libertum/ and the name of the process"),
                header::TYPE: header("the name of the message here"),
                header::SUBJECT: header("assets/…, documents/…, backups/… or redrives/…"),
                header::TIME: { "type": "string", "format": "date-time" },
                header::TENANT: header("1 to 40 of a-z, 0-9 and -"),
                header::PARTITION_KEY: header("the Kafka key"),
                header::TRACE_PARENT: header("W3C Trace Context"),
            },
        } } },
    })
}

#[test]
fn the_schemas_in_docs_are_those_of_the_types() {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut files: BTreeMap<PathBuf, Value> = events()
        .into_iter()
        .map(|e| (docs.join("schemas").join(format!("{}.json", e.event_type)), e.schema))
        .collect();
    files.insert(docs.join("schemas/asset-fact-sheet.v1.json"), schema_for!(FactSheet).to_value());
    files.insert(docs.join("asyncapi.json"), asyncapi());
    let update = std::env::var_os("UPDATE_SCHEMAS").is_some();
    for (path, value) in &files {
        let text = format!("{}\n", serde_json::to_string_pretty(value).unwrap());
        if update {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        } else {
            let there = std::fs::read_to_string(path).unwrap_or_default();
            assert!(
                there == text,
                "{} is not what the types say: UPDATE_SCHEMAS=1 cargo test -p messages",
                path.display()
            );
        }
    }
    let known: Vec<PathBuf> = std::fs::read_dir(docs.join("schemas"))
        .unwrap()
        .map(|e| e.unwrap().path().file_name().unwrap().into())
        .collect();
    for name in known {
        assert!(
            files.contains_key(&docs.join("schemas").join(&name)),
            "docs/schemas/{} describes nothing",
            name.display()
        );
    }
}

#[test]
fn every_outcome_is_described() {
    let described: Vec<&str> = events().iter().map(|e| e.event_type).collect();
    for event_type in Outcome::TYPES {
        assert!(described.contains(event_type), "{event_type}");
    }
}
