//! The model against figures that were calculated apart from it, with 50-digit decimals in another language.
#![allow(clippy::unwrap_used)]

mod common;

use common::{V01, comparable, d, fact, sheet};
use jiff::civil::date;
use serde_json::{Value, json};
use valuation::appraise::{Impossible, appraise};

fn report(sheet: &messages::facts::FactSheet) -> Value {
    serde_json::from_str(&appraise(sheet).unwrap().text).unwrap()
}

#[test]
fn the_first_vector_comes_out_to_the_cent() {
    let r = report(&sheet());
    assert_eq!(r["value"], "420235.65");
    assert_eq!(
        r["range"],
        json!({"coverage": "0.90", "low": "395138.69", "high": "445332.61", "standard_deviation": "15256.51"})
    );
    assert_eq!(r["confidence"]["score"], "85.5");
    assert_eq!(r["confidence"]["forecast_standard_deviation"], "0.036305");
    let market = &r["approaches"][0];
    assert_eq!(
        (&market["outcome"], &market["approach"], &market["weight"]),
        (&json!("applied"), &json!("market"), &json!("1.000000"))
    );
    // id, adjusted price, gross adjustment, weight
    let expected = [
        ("C1", "420643.32", "0.061302", "0.243980"),
        ("C2", "412757.09", "0.149518", "0.109055"),
        ("C3", "425445.72", "0.145211", "0.112082"),
        ("C4", "461221.88", "0.151679", "0.107598"),
        ("C5", "410223.94", "0.030713", "0.427285"),
    ];
    for (line, (id, adjusted, gross, weight)) in market["market"]["comparables"].as_array().unwrap().iter().zip(expected) {
        assert_eq!(
            (&line["id"], &line["adjusted_price"], &line["gross_adjustment"], &line["weight"]),
            (&json!(id), &json!(adjusted), &json!(gross), &json!(weight))
        );
    }
    let c2 = &market["market"]["comparables"][1];
    assert_eq!(
        c2["adjustments"],
        json!({"conditions_of_sale": "0.00", "time": "12893.90", "location": "-14036.82", "area": "-23100.00",
               "bathrooms": "0.00", "parking_spaces": "-12000.00", "age": "-6000.00"})
    );
}

#[test]
fn its_sensitivity_comes_out_to_the_cent() {
    let s = report(&sheet())["sensitivity"].clone();
    let values = |list: &Value| {
        list.as_array()
            .unwrap()
            .iter()
            .map(|s| s["value"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        values(&s["scenarios"]),
        ["399540.72", "417812.33", "419584.40", "440925.08", "422589.25", "420864.77"]
    );
    assert_eq!(s["scenarios"][0]["change"], "comparables' prices -5 %");
    assert_eq!(s["scenarios"][4]["change"], "trend +0.1 percentage points a month");
    assert_eq!(
        values(&s["without_comparable"]),
        ["420104.09", "421151.06", "419577.99", "415293.91", "427705.10"]
    );
}

/// If this fails, reports changed: raise `MODEL_VERSION`, then write the new digest here.
#[test]
fn a_report_of_this_version_is_the_same_for_ever() {
    let digests = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| appraise(&sheet()).unwrap().report_sha256.to_string()))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(digests, vec![common::V01_REPORT; 8]);
}

#[test]
fn a_comparable_that_cannot_be_used_is_listed_with_the_reason() {
    let mut s = sheet();
    let row = |id: &'static str| comparable((id, 400_000, date(2026, 1, 15), 120, 2, 2014, 1, "0", "0"));
    let mut add = |id, change: fn(&mut messages::facts::Comparable)| {
        let mut c = row(id);
        change(&mut c);
        s.market.comparables.push(fact(c));
    };
    add("old", |c| c.sale_date = date(2024, 6, 14));
    add("just", |c| c.sale_date = date(2024, 6, 15));
    add("future", |c| c.sale_date = date(2026, 6, 16));
    add("usd", |c| c.price.currency = "USD".to_owned());
    add("rumour", |c| c.verified = Some(false));
    add("unchecked", |c| c.verified = None);
    add("gift", |c| c.price.amount = d("0"));
    add("point", |c| c.area = d("0"));
    add("bare", |c| c.bathrooms = None);
    add("collapse", |c| c.conditions_of_sale = Some(d("-1")));
    add("C1", |c| c.price.amount = d("1"));
    s.market.comparables.push(fact(comparable(V01[4])));
    let r = report(&s);
    let market = &r["approaches"][0]["market"];
    let ids = |list: &Value| {
        list.as_array()
            .unwrap()
            .iter()
            .map(|c| c["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&market["comparables"]), ["C2", "C3", "C4", "C5", "just", "unchecked"]);
    assert_eq!(
        ids(&market["rejected"]),
        [
            "C1", "C1", "C5", "bare", "collapse", "future", "gift", "old", "point", "rumour", "usd"
        ]
    );
    for (n, part) in [
        (0, "says otherwise"),
        (2, "listed twice"),
        (3, "bathrooms"),
        (4, "nothing is left"),
        (5, "after the valuation date"),
        (7, "more than 24 months"),
        (10, "its price is in USD"),
    ] {
        let reason = market["rejected"][n]["reason"].as_str().unwrap();
        assert!(reason.contains(part), "{reason}");
    }
}

#[test]
fn too_little_to_go_by_is_said_by_name() {
    let mut s = sheet();
    s.market.comparables.truncate(2);
    s.market.comparables[0].value.verified = Some(false);
    let error = appraise(&s).unwrap_err();
    assert_eq!(error.code(), "no-approach-applies");
    let text = error.to_string();
    assert!(
        text.contains("3 usable sales are needed, there are 1") && text.contains("C1: the sale is marked"),
        "{text}"
    );

    let mut s = sheet();
    s.physical.gross_internal_area = None;
    s.physical.bathrooms = None;
    s.market.trend_per_month = None;
    let text = appraise(&s).unwrap_err().to_string();
    for path in ["physical.gross_internal_area", "physical.bathrooms", "market.trend_per_month"] {
        assert!(text.contains(path), "{text}");
    }
}

#[test]
fn a_difference_without_a_rate_is_not_adjusted_and_that_is_said() {
    let mut s = sheet();
    s.market.adjustment_rates.per_parking_space = None;
    s.market.comparables[0].value.location_adjustment = None;
    let r = report(&s);
    let limitations = r["limitations"].to_string();
    assert!(limitations.contains("no adjustment for parking spaces"), "{limitations}");
    assert!(
        limitations.contains("no adjustment for location, and are taken as equal in it: 1"),
        "{limitations}"
    );
    assert!(!r["inputs"]["used"].to_string().contains("physical.parking_spaces"));
    assert_eq!(
        r["approaches"][0]["market"]["comparables"][1]["adjustments"]["parking_spaces"],
        "0.00"
    );
}

#[test]
fn figures_that_do_not_fit_fail_the_valuation_and_not_the_process() {
    let mut s = sheet();
    s.market.comparables[2].value.price.amount = d("79228162514264337593543950335");
    assert!(matches!(appraise(&s).unwrap_err(), Impossible::Overflow(_)));
    let mut s = sheet();
    s.market.trend_per_month = Some(fact(d("79228162514264337593543950335")));
    assert_eq!(appraise(&s).unwrap_err().code(), "figures-too-large");
    let mut s = sheet();
    s.market.adjustment_rates.per_area = Some(fact(d("-99999999999")));
    assert!(appraise(&s).is_err());
}

#[test]
fn the_report_says_what_it_is_and_keeps_the_owner_out() {
    let r = report(&sheet());
    assert_eq!(r["status"], "indicative");
    assert!(r["limitations"][0].as_str().unwrap().contains("not a valuation signed by a valuer"));
    assert!(!r.to_string().contains("Inmuebles"));
    assert_eq!(r["rounding"]["amount_decimals"], 2);
    let not_used = r["approaches"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|a| a["outcome"] == "not_applicable");
    assert_eq!(not_used.filter(|a| !a["missing"].as_array().unwrap().is_empty()).count(), 2);
    let mut yen = sheet();
    yen.valuation_currency = "JPY".to_owned();
    for c in &mut yen.market.comparables {
        c.value.price.currency = "JPY".to_owned();
    }
    assert_eq!(report(&yen)["value"], "420236");
}
