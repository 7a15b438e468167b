//! The table that valuation carries out approaches by: ingestion asks for exactly what keeps one from applying.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

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

fn paths<'t>(lines: impl IntoIterator<Item = &'t str>) -> BTreeSet<String> {
    let path = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    lines.into_iter().map(path).collect()
}

#[test]
fn what_is_asked_for_is_what_keeps_an_approach_from_applying() {
    let table: Value = serde_json::from_str(include_str!("../../../../shared/messages/tests/approaches.json")).unwrap();
    let cases = table["cases"].as_array().unwrap();
    assert!(cases.len() >= 20);
    for case in cases {
        let mut sheet = table["sheet"].clone();
        merge(&mut sheet, &case["patch"]);
        let sheet: FactSheet = serde_json::from_value(sheet).unwrap();
        let name = &case["name"];
        let wanted = |approach: &str| case[approach].as_array().unwrap().iter().map(|path| path.as_str().unwrap());
        let [market, income] = lacks(&sheet);
        for (approach, lacks) in [("market", &market), ("income", &income)] {
            let mut asked = paths(lacks.missing.iter().map(String::as_str));
            let wanted = paths(wanted(approach));
            // Without a basis to adjust from, valuation does not come to the comparables; they are asked for all the same.
            if !wanted.is_empty() && !wanted.contains("market.comparables") {
                asked.remove("market.comparables");
            }
            assert_eq!(asked, wanted, "{name}: {approach}: {:?}", lacks.missing);
        }
        let complete = market.missing.is_empty() || income.missing.is_empty();
        assert_eq!(missing(&sheet).is_empty(), complete, "{name}");
        if !complete {
            assert_eq!(missing(&sheet), [market, income], "{name}");
        }
    }
}
