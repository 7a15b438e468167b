use std::path::Path;

use messages::facts::{Fact, Provenance};
use messages::{AssetKey, Hash32};
use stores::records::DocumentFact;
use uuid::Uuid;

use super::*;
use crate::{Assembly, Reading, Stated, detect, read};

/// The sheet of the example dossier.
fn example() -> FactSheet {
    let dossier = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/dossier");
    let mut assembly = Assembly::default();
    for (n, name) in (1u8..).zip(["ficha.json", "testigos.csv"]) {
        let bytes = std::fs::read(dossier.join(name)).unwrap();
        let detected = detect(&bytes, true);
        let Reading::Facts(facts) = read(&detected, &bytes) else {
            panic!("{name} was not read")
        };
        let (document_id, sha256) = (Uuid::from_bytes([n; 16]), Hash32([n; 32]));
        let fact = |found: crate::Found| DocumentFact {
            path: found.path,
            fact: Fact {
                value: found.value,
                provenance: Provenance {
                    document_id,
                    document_sha256: sha256,
                    locator: found.locator,
                    extractor: facts.extractor.clone(),
                },
            },
        };
        assembly.add(Stated {
            document_id,
            sha256,
            detected_type: detected.media_type,
            facts: facts.facts.into_iter().map(fact).collect(),
        });
    }
    let asset = AssetKey::new("acme".parse().unwrap(), "piso-1".parse().unwrap());
    assembly.finish(&asset, "2035-01-01".parse().unwrap()).sheet
}

fn lacks(change: impl FnOnce(&mut FactSheet)) -> String {
    let mut sheet = example();
    change(&mut sheet);
    missing(&sheet).into_iter().flat_map(|m| m.missing).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_dossier_suffices_whenever_it_is_closed() {
    let sheet = example();
    assert_eq!(missing(&sheet), []);
    assert_eq!(sheet.valuation_date.to_string(), "2026-09-30");
    assert_eq!(sheet.market.comparables.len(), 7);
    assert_eq!(sheet.conflicts, []);
}

#[test]
fn each_thing_that_is_missing_is_named_by_its_path() {
    type Change = fn(&mut FactSheet);
    let table: [(&str, Change); 7] = [
        ("physical.gross_internal_area", |s| s.physical.gross_internal_area = None),
        ("market.adjustment_rates.per_area", |s| s.market.adjustment_rates.per_area = None),
        ("market.trend_per_month", |s| s.market.trend_per_month = None),
        ("physical.bathrooms", |s| s.physical.bathrooms = None),
        ("physical.year_built", |s| s.physical.year_built = None),
        ("valuation_currency", |s| s.valuation_currency = NO_CURRENCY.to_owned()),
        ("market.comparables", |s| s.market.comparables.truncate(2)),
    ];
    for (path, change) in table {
        let text = lacks(change);
        assert!(text.starts_with(path), "{path}: {text}");
    }
}

#[test]
fn sales_that_cannot_be_used_are_counted_by_their_reason() {
    let text = lacks(|s| s.valuation_date = "2029-01-01".parse().unwrap());
    assert!(text.contains("of 7 comparables 0 can be used (7 sold too long before)"), "{text}");
    let text = lacks(|s| s.valuation_date = "2025-02-01".parse().unwrap());
    assert!(text.contains("1 can be used (6 sold after the valuation date)"), "{text}");
    let text = lacks(|s| s.market.comparables.iter_mut().for_each(|c| c.value.verified = Some(false)));
    assert!(text.contains("7 marked as not verified"), "{text}");
    let text = lacks(|s| s.market.comparables.iter_mut().for_each(|c| c.value.parking_spaces = None));
    assert!(text.contains("7 without parking_spaces"), "{text}");
}

#[test]
fn three_usable_sales_are_enough_and_the_oldest_day_still_counts() {
    assert_eq!(lacks(|s| s.market.comparables.truncate(3)), "");
    let text = lacks(|s| {
        s.market.comparables.truncate(3);
        s.market.comparables[0].value.sale_date = "2024-09-30".parse().unwrap();
    });
    assert_eq!(text, "");
    let text = lacks(|s| {
        s.market.comparables.truncate(3);
        s.market.comparables[0].value.sale_date = "2024-09-29".parse().unwrap();
    });
    assert!(text.contains("1 sold too long before"), "{text}");
}
