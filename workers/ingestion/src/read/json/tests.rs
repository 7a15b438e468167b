use messages::facts::Locator;
use proptest::prelude::*;
use serde_json::json;

use super::super::{Facts, MAX_DEPTH, Reading, read};
use crate::sniff::{Detected, Kind};

fn reading(text: &str) -> Reading {
    read(&Detected::new(Kind::Json, "application/json"), text.as_bytes())
}

fn facts(text: &str) -> Facts {
    match reading(text) {
        Reading::Facts(facts) => facts,
        other => panic!("{text}: {other:?}"),
    }
}

fn sheet(rest: &str) -> String {
    format!("{{\"schema\":\"asset-facts/1\",{rest}}}")
}

#[test]
fn income_is_read_with_its_lists() {
    let facts = facts(&sheet(
        r#""income":{"vacancy_rate":0.05,"hold_years":10,"terminal_noi_basis":"forward",
           "tenancies":[{"unit":"Local 1","passing_rent":{"amount":"1450","currency":"EUR"},"frequency":"monthly"},
                        {"unit":"Local 2","passing_rent":1200,"currency":"EUR","frequency":"mensual"},
                        {"unit":"Local 3","frequency":"mensual"}],
           "operating_expenses":[{"type":"IBI","amount":620.5}]}"#,
    ));
    let got: Vec<_> = facts.facts.iter().map(|f| (f.path.as_str(), f.value.clone())).collect();
    let rent = |amount: &str| json!({ "amount": amount, "currency": "EUR" });
    assert_eq!(
        got,
        [
            ("income.vacancy_rate", json!("0.05")),
            ("income.hold_years", json!(10)),
            ("income.terminal_noi_basis", json!("forward")),
            (
                "income.tenancies[]",
                json!({ "unit": "Local 1", "passing_rent": rent("1450"), "frequency": "monthly" })
            ),
            (
                "income.tenancies[]",
                json!({ "unit": "Local 2", "passing_rent": rent("1200"), "frequency": "monthly" })
            ),
            (
                "income.operating_expenses[]",
                json!({ "type": "IBI", "amount": { "amount": "620.5" } })
            ),
        ]
    );
    assert_eq!(
        facts.problems.finish(),
        ["/income/tenancies/2 was left out: passing_rent is missing"]
    );
}

#[test]
fn each_fact_remembers_where_it_stands() {
    let facts = facts(&sheet(
        r#""asset_type":"residential","physical":{"gross_internal_area":96.50,"year_built":"1998"},
           "market":{"trend_per_month":4e-3,"adjustment_rates":{"per_area":3900},
           "comparables":[{"id":"T-1","price":405000.10,"sale_date":"2026-09-14","area":"98.4"}]}"#,
    ));
    assert!(facts.problems.is_empty(), "{:?}", facts.problems);
    let got: Vec<_> = facts
        .facts
        .iter()
        .map(|f| {
            let Locator::JsonPointer { pointer } = &f.locator else {
                panic!("{:?}", f.locator)
            };
            (f.path.as_str(), pointer.as_str(), f.value.clone())
        })
        .collect();
    assert_eq!(
        got,
        [
            ("asset_type", "/asset_type", json!("residential")),
            ("physical.gross_internal_area", "/physical/gross_internal_area", json!("96.5")),
            ("physical.year_built", "/physical/year_built", json!(1998)),
            ("market.trend_per_month", "/market/trend_per_month", json!("0.004")),
            (
                "market.adjustment_rates.per_area",
                "/market/adjustment_rates/per_area",
                json!("3900")
            ),
            (
                "market.comparables[]",
                "/market/comparables/0",
                json!({"id": "T-1", "price": {"amount": "405000.1"}, "sale_date": "2026-09-14", "area": "98.4"})
            ),
        ]
    );
}

#[test]
fn a_number_is_never_a_float() {
    // A float would make 123456789012345.67 of the first and 0.30000000000000004 of no one's.
    let facts = facts(&sheet(
        r#""physical":{"gross_internal_area":123456789012345.678901,"site_area":0.1}"#,
    ));
    assert_eq!(facts.facts[0].value, "123456789012345.678901");
    assert_eq!(facts.facts[1].value, "0.1");
}

#[test]
fn what_is_not_json_is_refused_with_its_line_and_column() {
    for (text, place) in [
        ("{\n  \"a\": 1,\n  \"b\" 2\n}", "line 3 column 7"),
        ("{\"a\":1} x", "line 1 column 9"),
        ("{\"a\":", "line 1 column 5"),
        ("[1,]", "line 1 column 4"),
        ("{\"a\":\"\\q\"}", "line 1 column"),
    ] {
        let Reading::Rejected(refusal) = reading(text) else {
            panic!("{text} was read")
        };
        assert_eq!(refusal.code, "malformed", "{text}");
        assert!(refusal.text.contains(place), "{text}: {}", refusal.text);
    }
}

#[test]
fn depth_is_bounded_and_brackets_in_text_do_not_count() {
    let deep = |n: usize| sheet(&format!("\"x\":{}{}", "[".repeat(n), "]".repeat(n)));
    assert!(matches!(reading(&deep(MAX_DEPTH)), Reading::Rejected(r) if r.code == "too-large-to-read"));
    assert!(matches!(reading(&deep(MAX_DEPTH - 1)), Reading::Facts(_)));
    assert!(matches!(reading(&"[".repeat(1_000_000)), Reading::Rejected(_)));
    assert!(matches!(
        reading(&sheet(&format!("\"x\":\"{}\\\"[\"", "[".repeat(1000)))),
        Reading::Facts(_)
    ));
}

#[test]
fn json_that_is_no_fact_sheet_is_stored_and_says_what_a_fact_sheet_is() {
    for text in [
        "{}",
        "[]",
        "[{\"schema\":\"asset-facts/1\"}]",
        "{\"schema\":\"asset-facts/9\"}",
        "{\"schema\":1}",
        "{\"schema\":null}",
    ] {
        let Reading::NotRead(refusal) = reading(text) else {
            panic!("{text}")
        };
        assert_eq!(refusal.code, "not-recognised");
        assert!(refusal.text.contains("asset-facts/1"), "{}", refusal.text);
    }
}

#[test]
fn what_cannot_be_taken_is_named_and_the_rest_counts() {
    let facts = facts(&sheet(
        r#""physical":{"gross_internal_area":"big","bathrooms":[2],"bedrooms":3,"colour":"red","year_built":null},
           "identity":"none","a/b":1,
           "market":{"comparables":[7,{"id":"T-1"},{"id":"T-2","price":{"amount":1,"currency":"EUR"},"sale_date":"2026-01-02","area":3,"x":1},
                                    {"id":"T-3","id":"T-4","price":1,"sale_date":"2026-01-02","area":3}]}"#,
    ));
    let paths: Vec<_> = facts.facts.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, ["physical.bedrooms", "market.comparables[]"]);
    let problems = facts.problems.finish().join("\n");
    for part in [
        "/physical/gross_internal_area: “big” is not a number",
        "/physical/bathrooms: a plain value is expected, not a list",
        "/identity: an object is expected",
        "/market/comparables/0: an object is expected",
        "/market/comparables/1 was left out: price is missing; sale_date is missing; area is missing",
        "/market/comparables/3 was left out: id stands there twice",
    ] {
        assert!(problems.contains(part), "{part}\nin\n{problems}");
    }
    let notes = facts.notes.finish().join("\n");
    for part in ["/physical/colour", "/a~1b", "/market/comparables/2/x"] {
        assert!(notes.contains(part), "{part} in {notes}");
    }
}

#[test]
fn a_member_that_stands_there_twice_is_a_problem_and_not_a_silent_choice() {
    let facts = facts(&sheet(r#""physical":{"bedrooms":3,"bedrooms":4}"#));
    assert_eq!(facts.facts.len(), 1);
    assert_eq!(facts.facts[0].value, "3");
    assert!(facts.problems.finish()[0].contains("/physical/bedrooms"));
}

#[test]
fn more_comparables_than_a_record_holds_are_refused() {
    let one = r#"{"id":"T","price":1,"sale_date":"2026-01-02","area":3}"#;
    let many = vec![one; 10_001].join(",");
    let text = sheet(&format!("\"market\":{{\"comparables\":[{many}]}}"));
    assert!(matches!(reading(&text), Reading::Rejected(r) if r.code == "too-large-to-read"));
}

fn tree() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        "[ -~áñ\\u{0}-\\u{1f}]{0,12}".prop_map(|s| json!(s)),
    ];
    let name = prop_oneof![
        Just("physical".to_owned()),
        Just("market".to_owned()),
        Just("comparables".to_owned()),
        Just("price".to_owned()),
        Just("tenancies".to_owned()),
        Just("passing_rent".to_owned()),
        Just("id".to_owned()),
        "[a-z/~]{0,4}"
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|v| json!(v)),
            prop::collection::btree_map(name.clone(), inner, 0..6).prop_map(|m| json!(m)),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_gets_a_verdict(text in "\\PC{0,200}") {
        reading(&text);
    }

    #[test]
    fn any_bytes_get_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&Detected::new(Kind::Json, "application/json"), &bytes);
    }

    #[test]
    fn any_json_in_any_place_of_a_sheet_is_read(physical in tree(), market in tree(), income in tree()) {
        let text = json!({ "schema": "asset-facts/1", "physical": physical, "market": market, "income": income }).to_string();
        prop_assert!(matches!(reading(&text), Reading::Facts(_)));
    }

    #[test]
    fn a_sheet_cut_anywhere_is_malformed(cut in 1usize..60) {
        let whole = sheet("\"physical\":{\"bedrooms\":3,\"site_area\":\"12.50\"}");
        prop_assert!(matches!(reading(whole.get(..cut).unwrap_or_default()), Reading::Rejected(r) if r.code == "malformed"));
    }
}
