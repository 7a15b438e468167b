//! The description of the interface, held against the interface.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;

use serde_json::Value;
use support::*;

/// Every `$ref` below a value.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                found.insert(reference.clone());
            }
            map.values().for_each(|v| references(v, found));
        }
        Value::Array(list) => list.iter().for_each(|v| references(v, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_lists_exactly_the_routes_that_there_are_and_is_complete_in_itself() {
    let house = House::new().await;
    let paths = house.description["paths"].as_object().unwrap();
    let listed: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|m| (m.to_uppercase(), path.clone())))
        .collect();
    let wanted = [
        ("POST", DOCUMENTS),
        ("POST", REFERENCES),
        ("POST", VALUATIONS),
        ("POST", MINTS),
        ("GET", DOCUMENT),
        ("GET", ASSET),
    ];
    assert_eq!(listed, wanted.map(|(m, p)| (m.to_owned(), p.to_owned())).into());

    let mut found = BTreeSet::new();
    references(&house.description, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.trim_start_matches('#');
        assert!(house.description.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for (method, path) in listed {
        let operation = &house.description["paths"][&path][method.to_lowercase()];
        assert!(operation["security"][0]["bearer"].is_array(), "{path} is not open to all");
        for status in ["400", "401", "403", "429", "500", "503"] {
            let content = &operation["responses"][status]["content"]["application/problem+json"];
            assert_eq!(content["schema"]["$ref"], "#/components/schemas/ProblemDocument", "{path} {status}");
        }
        // The route is there: without a token it asks for one, with another method it names this one.
        let url = format!(
            "{}{}",
            house.intake.url,
            path.replace("{asset_id}", "a").replace("{document_id}", "b")
        );
        let bare = house.http.request(method.parse().unwrap(), &url).send().await.unwrap();
        assert_eq!(bare.status(), 401, "{method} {path}");
        let other = house.http.delete(&url).send().await.unwrap();
        assert_eq!(other.status(), 405, "{path}");
        assert!(other.headers()["allow"].to_str().unwrap().contains(&method), "{path}");
    }
}
