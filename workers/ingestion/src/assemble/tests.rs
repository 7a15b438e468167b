use messages::facts::{Locator, Provenance};
use serde_json::json;

use super::*;

fn stated(n: u8, facts: &[(&str, Value)]) -> Stated {
    let (document_id, sha256) = (Uuid::from_u128(n.into()), Hash32([n; 32]));
    let fact = |(at, (path, value)): (usize, &(&str, Value))| DocumentFact {
        path: (*path).to_owned(),
        fact: Fact {
            value: value.clone(),
            provenance: Provenance {
                document_id,
                document_sha256: sha256,
                locator: Locator::JsonPointer { pointer: format!("/{at}") },
                extractor: "json/1".to_owned(),
            },
        },
    };
    Stated {
        document_id,
        sha256,
        detected_type: "application/json".to_owned(),
        facts: facts.iter().enumerate().map(fact).collect(),
    }
}

fn assemble(documents: Vec<Stated>) -> Dossier {
    let mut assembly = Assembly::default();
    documents.into_iter().for_each(|d| assembly.add(d));
    let asset = AssetKey::new("demo".parse().unwrap(), "a-1".parse().unwrap());
    assembly.finish(&asset, "2030-05-06".parse().unwrap())
}

fn sale(id: &str, amount: &str, currency: Option<&str>) -> (&'static str, Value) {
    let price = match currency {
        Some(currency) => json!({ "amount": amount, "currency": currency }),
        None => json!({ "amount": amount }),
    };
    (
        COMPARABLES.path,
        json!({ "id": id, "price": price, "sale_date": "2026-01-02", "area": "90" }),
    )
}

#[test]
fn the_later_document_wins_and_the_conflict_is_kept() {
    let area = "physical.gross_internal_area";
    let dossier = assemble(vec![
        stated(1, &[(area, json!("90")), ("physical.bathrooms", json!("2"))]),
        stated(2, &[(area, json!("96.5")), ("physical.bathrooms", json!("2"))]),
    ]);
    let physical = &dossier.sheet.physical;
    let taken = physical.gross_internal_area.as_ref().unwrap();
    assert_eq!(
        (taken.value.to_string().as_str(), taken.provenance.document_id),
        ("96.5", Uuid::from_u128(2))
    );
    // Agreement is no conflict, and is known from the first who said it.
    assert_eq!(physical.bathrooms.as_ref().unwrap().provenance.document_id, Uuid::from_u128(1));
    let [conflict] = &dossier.sheet.conflicts[..] else {
        panic!("{:?}", dossier.sheet.conflicts)
    };
    assert_eq!((conflict.path.as_str(), conflict.rule), (area, ConflictRule::Latest));
    let candidates: Vec<_> = conflict.candidates.iter().map(|c| c.value.as_str()).collect();
    assert_eq!(candidates, ["96.5", "90"]);
}

#[test]
fn comparables_are_known_by_their_id_and_stay_in_the_order_of_arrival() {
    let eur = Some("EUR");
    let dossier = assemble(vec![
        stated(1, &[sale("T-2", "100", eur), sale("T-1", "200", eur)]),
        stated(2, &[sale("T-3", "300", eur), sale("T-2", "150", eur), sale("T-1", "200", eur)]),
    ]);
    let sales: Vec<_> = dossier
        .sheet
        .market
        .comparables
        .iter()
        .map(|f| (f.value.id.as_str(), f.value.price.amount.to_string()))
        .collect();
    assert_eq!(
        sales,
        [("T-2", "150".to_owned()), ("T-1", "200".to_owned()), ("T-3", "300".to_owned())]
    );
    let paths: Vec<_> = dossier.sheet.conflicts.iter().map(|c| c.path.as_str()).collect();
    assert_eq!(paths, ["market.comparables[T-2]"]);
}

#[test]
fn the_same_bytes_count_once_and_where_they_first_stood() {
    let first = stated(1, &[("physical.bedrooms", json!("2"))]);
    let again = Stated {
        document_id: Uuid::from_u128(9),
        ..first.clone()
    };
    let second = stated(2, &[("physical.bedrooms", json!("3"))]);
    let once = assemble(vec![first.clone(), second.clone()]);
    let twice = assemble(vec![first, second, again]);
    assert_eq!(once, twice);
}

#[test]
fn currency_and_date_are_the_sheets_or_else_the_comparables_and_the_closing() {
    let bare = assemble(vec![stated(1, &[sale("T-1", "1", Some("USD")), sale("T-2", "1", None)])]);
    assert_eq!(bare.sheet.valuation_currency, "USD");
    assert_eq!(bare.sheet.valuation_date.to_string(), "2030-05-06");
    assert!(bare.sheet.market.comparables.iter().all(|f| f.value.price.currency == "USD"));
    let named = assemble(vec![stated(
        1,
        &[
            (VALUATION_CURRENCY, json!("EUR")),
            (VALUATION_DATE, json!("2026-09-30")),
            sale("T-1", "1", Some("USD")),
            sale("T-2", "1", None),
        ],
    )]);
    assert_eq!(named.sheet.valuation_currency, "EUR");
    assert_eq!(named.sheet.valuation_date.to_string(), "2026-09-30");
    let currencies: Vec<_> = named
        .sheet
        .market
        .comparables
        .iter()
        .map(|f| f.value.price.currency.as_str())
        .collect();
    assert_eq!(currencies, ["USD", "EUR"]);
    let torn = assemble(vec![stated(
        1,
        &[sale("T-1", "1", Some("USD")), sale("T-2", "1", Some("EUR")), sale("T-3", "1", None)],
    )]);
    assert_eq!(torn.sheet.valuation_currency, NO_CURRENCY);
    assert!(torn.notes[0].contains("T-3"), "{:?}", torn.notes);
    assert!(torn.missing[0].missing[0].contains("valuation_currency"));
}

#[test]
fn a_fact_of_another_form_is_left_out_and_said() {
    let dossier = assemble(vec![stated(
        1,
        &[
            ("physical.gross_internal_area", json!({"m2": 90})),
            ("physical.colour", json!("red")),
        ],
    )]);
    assert!(dossier.sheet.physical.gross_internal_area.is_none());
    let notes = dossier.notes.join("\n");
    assert!(
        notes.contains("physical.gross_internal_area was left out") && notes.contains("physical.colour"),
        "{notes}"
    );
}

#[test]
fn however_many_documents_disagree_the_sheet_stays_bounded() {
    let documents: Vec<Stated> = (0..200)
        .map(|n| stated(n, &[("physical.bedrooms", json!(n.to_string()))]))
        .collect();
    let dossier = assemble(documents);
    assert_eq!(dossier.sheet.conflicts[0].candidates.len(), MAX_CANDIDATES);
    assert_eq!(dossier.sheet.physical.bedrooms.unwrap().value.to_string(), "199");
    let sales: Vec<_> = (0..=MAX_COMPARABLES).map(|n| sale(&n.to_string(), "1", None)).collect();
    let other: Vec<_> = (0..=MAX_COMPARABLES).map(|n| sale(&n.to_string(), "2", None)).collect();
    let dossier = assemble(vec![stated(1, &sales), stated(2, &other)]);
    assert_eq!(dossier.sheet.conflicts.len(), MAX_CONFLICTS);
    assert!(dossier.notes.len() <= 51 && dossier.notes.last().unwrap().contains("more"));
}

fn let_unit(unit: &str, start: &str, rent: &str) -> (&'static str, Value) {
    let row = json!({ "unit": unit, "start": start, "passing_rent": { "amount": rent }, "frequency": "monthly" });
    (TENANCIES.path, row)
}

fn expense(kind: &str, amount: &str, currency: &str) -> (&'static str, Value) {
    let row = json!({ "type": kind, "amount": { "amount": amount, "currency": currency } });
    (OPERATING_EXPENSES.path, row)
}

#[test]
fn a_rent_roll_is_told_apart_by_unit_and_start_and_the_later_document_wins() {
    let dossier = assemble(vec![
        stated(
            1,
            &[
                let_unit("1 A", "2020-01-01", "700"),
                let_unit("1 A", "2025-01-01", "800"),
                ("income.cap_rate", json!("0.06")),
            ],
        ),
        stated(2, &[let_unit("1 A", "2025-01-01", "820"), expense("IBI", "610", "EUR")]),
    ]);
    let income = &dossier.sheet.income;
    let rents: Vec<_> = income.tenancies.iter().map(|t| t.value.passing_rent.amount.to_string()).collect();
    assert_eq!(rents, ["700", "820"]);
    assert!(income.tenancies.iter().all(|t| t.value.passing_rent.currency == "EUR"));
    assert_eq!(dossier.sheet.valuation_currency, "EUR");
    assert_eq!(income.cap_rate.as_ref().unwrap().value.to_string(), "0.06");
    let paths: Vec<_> = dossier.sheet.conflicts.iter().map(|c| c.path.as_str()).collect();
    assert_eq!(paths, ["income.tenancies[1 A, 2025-01-01]"]);
}

#[test]
fn two_expenses_of_one_document_count_twice_and_a_later_document_replaces_them_in_order() {
    let repairs = |n, amounts: &[&str]| stated(n, &amounts.iter().map(|a| expense("repairs", a, "EUR")).collect::<Vec<_>>());
    let amounts = |dossier: Dossier| {
        let expenses = dossier.sheet.income.operating_expenses.into_iter();
        expenses.map(|e| e.value.amount.amount.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(amounts(assemble(vec![repairs(1, &["100", "250"])])), ["100", "250"]);
    assert_eq!(
        amounts(assemble(vec![repairs(1, &["100", "250"]), repairs(2, &["120"])])),
        ["120", "250"]
    );
}

#[test]
fn amounts_in_two_currencies_leave_the_currency_open() {
    let dossier = assemble(vec![stated(1, &[expense("IBI", "1", "EUR"), expense("rates", "1", "GBP")])]);
    assert_eq!(dossier.sheet.valuation_currency, NO_CURRENCY);
    assert_eq!(dossier.sheet.income.operating_expenses.len(), 2);
}
