//! The table that ingestion asks for facts by: valuation carries out an approach exactly where nothing is asked for.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use valuation::appraise::{Impossible, appraise};

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let members = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn paths(missing: &Value) -> BTreeSet<String> {
    let lines = missing.as_array().unwrap().iter().map(|line| line.as_str().unwrap());
    lines.map(|line| line.split([':', ' ']).next().unwrap().to_owned()).collect()
}

#[test]
fn an_approach_applies_exactly_where_nothing_is_asked_for() {
    let table: Value = serde_json::from_str(include_str!("../../../shared/messages/tests/approaches.json")).unwrap();
    let cases = table["cases"].as_array().unwrap();
    assert!(cases.len() >= 20);
    for case in cases {
        let mut sheet = table["sheet"].clone();
        merge(&mut sheet, &case["patch"]);
        let approaches = match appraise(&serde_json::from_value(sheet).unwrap()) {
            Ok(appraisal) => serde_json::from_str::<Value>(&appraisal.text).unwrap()["approaches"].clone(),
            Err(Impossible::NoApproach(missing)) => json!(missing),
            Err(other) => panic!("{}: {other}", case["name"]),
        };
        for approach in ["market", "income"] {
            let said = approaches.as_array().unwrap().iter().find(|a| a["approach"] == approach).unwrap();
            let missing = said.get("missing").cloned().unwrap_or_else(|| json!([]));
            assert_eq!(paths(&missing), paths(&case[approach]), "{}: {approach}: {missing}", case["name"]);
        }
    }
}
