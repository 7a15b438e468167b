use messages::facts::Locator;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Facts, MAX_COLUMNS, MAX_FIELD, MAX_ROWS, Reading, read};
use crate::sniff::{Detected, Kind, detect};

fn reading(text: &str) -> Reading {
    read(&Detected::new(Kind::Csv, "text/csv"), text.as_bytes())
}

fn facts(text: &str) -> Facts {
    match reading(text) {
        Reading::Facts(facts) => facts,
        other => panic!("{text}: {other:?}"),
    }
}

fn values(facts: &Facts) -> Vec<Value> {
    facts.facts.iter().map(|f| f.value.clone()).collect()
}

#[test]
fn a_rent_roll_is_read_and_vacant_units_are_not_tenancies() {
    let facts = facts(
        "Local;Inquilino;Superficie (m²);Renta mensual (€);Inicio;Vencimiento\n\
         Bajo A;Panadería Ejemplo;84,50;1.250,00;01/02/2024;31/01/2029\n\
         Bajo B;Vacío;60,00;;;\n\
         Bajo C;Taller Muestra;120,00;a convenir;01/03/2025;\n",
    );
    let tenancy = json!({
        "unit": "Bajo A", "tenant": "Panadería Ejemplo", "area": "84.5", "frequency": "monthly",
        "passing_rent": { "amount": "1250", "currency": "EUR" }, "start": "2024-02-01", "end": "2029-01-31"
    });
    assert_eq!(facts.facts[0].path, "income.tenancies[]");
    assert_eq!(values(&facts), [tenancy]);
    let problems = facts.problems.finish();
    assert!(problems.len() == 1 && problems[0].contains("row 3 (line 4)"), "{problems:?}");
}

#[test]
fn the_same_sale_is_read_from_every_dialect() {
    let sale = json!({
        "id": "T-1", "price": { "amount": "405000.5", "currency": "EUR" }, "sale_date": "2026-09-14", "area": "98.4",
        "bathrooms": "2", "year_built": 2001, "location_adjustment": "-0.02", "verified": true, "source": "Notaría, Madrid"
    });
    for text in [
        "Referencia;Precio (€);Fecha de venta;Superficie m²;Baños;Año;Ajuste ubicación;Verificado;Fuente\nT-1;405.000,50;14/09/2026;98,40;2;2001;-0,02;sí;Notaría, Madrid\n",
        "\u{feff}REFERENCIA;PRECIO_EUR;FECHA;SUPERFICIE;BAÑOS;AÑO;UBICACIÓN;VERIFICADO;FUENTE\r\nT-1;405.000,50 €;14-9-2026;98,4;2,0;2001;-2 %;SI;Notaría, Madrid\r\n",
        "id,price_eur,sale_date,area,bathrooms,year_built,location_adjustment,verified,source\nT-1,\"405,000.50\",2026-09-14,98.40,2,2001,-0.02,true,\"Notaría, Madrid\"",
        "id\tprice\tcurrency\tsale_date\tarea\tbathrooms\tyear\tlocation\tverified\tsource\nT-1\t405000.5\tEUR\t2026-09-14\t98.4\t2\t2001\t-2%\tyes\tNotaría, Madrid\n",
    ] {
        let facts = facts(text);
        assert!(facts.problems.is_empty(), "{text}: {:?}", facts.problems);
        assert_eq!(values(&facts), std::slice::from_ref(&sale), "{text}");
        assert_eq!(
            facts.facts[0].locator,
            Locator::CsvCell {
                row: 1,
                column: String::new()
            }
        );
    }
}

#[test]
fn a_row_that_cannot_be_read_is_left_out_by_name_and_the_rest_counts() {
    let facts = facts(
        "id;precio_eur;fecha_venta;superficie;comentario\n\
         T-1;405000;2026-01-02;98,4;a\n\
         T-2;mucho;2026-01-02;98,4;\n\
         ;1;;;\n\
         ;;;;\n\
         T-5;1;2026-01-02;98,4;b;c\n\
         T-6;405000;31/02/2026;98,4\n\
         T-7;405000;2026-01-02;98,4\n",
    );
    let ids: Vec<_> = facts.facts.iter().map(|f| f.value["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["T-1", "T-7"]);
    assert!(matches!(&facts.facts[1].locator, Locator::CsvCell { row: 7, .. }));
    let problems = facts.problems.finish();
    assert_eq!(problems.len(), 4, "{problems:#?}");
    for (problem, part) in problems.iter().zip([
        "row 2 (line 3) was left out: price: “mucho” is not a number",
        "row 3 (line 4) was left out: id is missing; sale_date is missing; area is missing",
        "row 5 (line 6) was left out: it has 6 cells, the header 5",
        "row 6 (line 7) was left out: sale_date: “31/02/2026” is not a date",
    ]) {
        assert!(problem.contains(part), "{problem}");
    }
    assert!(facts.notes.finish()[0].contains("comentario"));
}

#[test]
fn a_number_that_can_be_read_two_ways_is_not_guessed_at() {
    let header = "id;precio_eur;fecha;superficie\n";
    let alone = facts(&format!("{header}T-1;405.000;2026-01-02;98\nT-2;405000;2026-01-02;98\n"));
    assert_eq!(values(&alone).len(), 1, "the row without a separator can be read");
    assert!(alone.problems.finish()[0].contains("thousands or decimals"));
    let told = facts(&format!("{header}T-1;405.000;2026-01-02;98,5\n"));
    assert_eq!(values(&told)[0]["price"]["amount"], "405000");
    let mixed = facts(&format!("{header}T-1;405000,5;2026-01-02;98\nT-2;405000.5;2026-01-02;98\n"));
    assert!(mixed.facts.is_empty());
    assert!(mixed.problems.finish()[0].contains("mixes"));
}

#[test]
fn currencies_that_contradict_each_other_are_a_problem() {
    let facts = facts("id;precio_eur;moneda;fecha;superficie\nT-1;5;USD;2026-01-02;9\nT-2;5;EUR;2026-01-02;9\n");
    assert_eq!(values(&facts).len(), 1);
    assert!(facts.problems.finish()[0].contains("USD and EUR"));
}

#[test]
fn single_facts_are_read_by_path_and_by_name_with_their_cell() {
    let facts = facts(
        "Campo;Valor\nDirección;Calle Mayor 1\nsuperficie construida;1.096,50\nphysical.bathrooms;2\ncolor;rojo\nbaños;\nmoneda;EUR\n",
    );
    let got: Vec<_> = facts.facts.iter().map(|f| (f.path.as_str(), f.value.clone())).collect();
    assert_eq!(
        got,
        [
            ("identity.address", json!("Calle Mayor 1")),
            ("physical.gross_internal_area", json!("1096.5")),
            ("physical.bathrooms", json!("2")),
            ("valuation_currency", json!("EUR")),
        ]
    );
    assert_eq!(
        facts.facts[1].locator,
        Locator::CsvCell {
            row: 2,
            column: "Valor".to_owned()
        }
    );
    assert!(facts.notes.finish()[0].contains("color"));
}

#[test]
fn a_table_of_something_else_is_stored_and_says_what_is_wanting() {
    for (text, part) in [
        ("a;b\n1;2\n", "none of its columns"),
        ("id;precio;superficie\n1;2;3\n", "sale_date"),
        ("just a line", "separated"),
    ] {
        let Reading::NotRead(refusal) = reading(text) else {
            panic!("{text}")
        };
        assert_eq!(refusal.code, "not-recognised");
        assert!(refusal.text.contains(part), "{}", refusal.text);
    }
    assert!(!facts("id;precio;fecha;superficie\n").problems.is_empty());
}

#[test]
fn limits_are_kept() {
    let header = "id;precio;fecha;superficie\n";
    let row = "T;1;2026-01-02;3\n";
    let refused = |text: String| match reading(&text) {
        Reading::Rejected(refusal) => refusal.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(format!("{header}{}", ";;;\n".repeat(MAX_ROWS as usize + 1))),
        "too-large-to-read"
    );
    assert_eq!(refused(format!("{header}{}", row.repeat(10_001))), "too-large-to-read");
    assert_eq!(
        refused(format!("{header}\"{}\";;;\n", "x".repeat(MAX_FIELD + 1))),
        "too-large-to-read"
    );
    assert_eq!(refused(format!("{header}{}", ";".repeat(MAX_COLUMNS + 1))), "too-large-to-read");
    assert!(matches!(
        reading(&format!("{header}{}", ";;;\n".repeat(MAX_ROWS as usize))),
        Reading::Facts(_)
    ));
}

#[test]
fn a_quote_that_is_never_closed_is_refused_with_its_line() {
    let Reading::Rejected(refusal) = reading("id;precio;fecha;superficie\nT-1;1;2026-01-02;3\nT-2;1;2026-01-02;\"3\nT-3;1;2026-01-02;3\n")
    else {
        panic!("it was read")
    };
    assert_eq!(refusal.code, "malformed");
    assert!(refusal.text.contains("line 3"), "{}", refusal.text);
}

proptest! {
    #[test]
    fn any_text_gets_a_verdict(text in "([ -~áñ€\\n\\r\\t;,.\"]|\\PC){0,300}") {
        reading(&text);
    }

    #[test]
    fn any_bytes_are_sniffed_and_read(bytes in prop::collection::vec(any::<u8>(), 0..400), whole in any::<bool>()) {
        read(&detect(&bytes, whole), &bytes);
    }

    #[test]
    fn any_cells_under_a_known_header_are_read(cells in prop::collection::vec("[-0-9.,;€% a/\"\\n]{0,12}", 0..40)) {
        let mut text = "id;precio_eur;fecha_venta;superficie;baños\n".to_owned();
        for row in cells.chunks(5) {
            text.push_str(&row.join(";"));
            text.push('\n');
        }
        let reading = reading(&text);
        let fine = matches!(&reading, Reading::Facts(_)) || matches!(&reading, Reading::Rejected(r) if r.code == "malformed");
        prop_assert!(fine, "{reading:?}");
    }

    #[test]
    fn a_price_written_either_way_is_the_same_price(cents in 1u64..100_000_000_000) {
        let (whole, rest) = (cents / 100, cents % 100);
        let digits = whole.to_string();
        let grouped = |separator: &str| {
            let bytes: Vec<String> = digits.as_bytes().rchunks(3).rev().map(|c| String::from_utf8_lossy(c).into_owned()).collect();
            bytes.join(separator)
        };
        let table = |price: String, delimiter: &str| {
            let text = format!("id{delimiter}precio{delimiter}fecha{delimiter}superficie\nT{delimiter}{price}{delimiter}2026-01-02{delimiter}9\n");
            values(&facts(&text))[0]["price"]["amount"].clone()
        };
        let spanish = table(format!("{},{rest:02}", grouped(".")), ";");
        let english = table(format!("\"{}.{rest:02}\"", grouped(",")), ",");
        prop_assert_eq!(&spanish, &english);
        prop_assert_eq!(spanish, rust_decimal::Decimal::new(cents as i64, 2).normalize().to_string());
    }
}
