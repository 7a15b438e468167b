//! Files of other projects, which nobody prepared for us, and the example dossier: what `ingestion inspect` answers.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::{Value, json};

fn inspect(files: &[String]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_ingestion"))
        .arg("inspect")
        .args(files)
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Inspects the files of a project, and compares type, state, code and a part of what is said to a person.
fn check(project: &str, expected: &[(&str, &str, &str, &str, &str)]) {
    let path = |name: &str| format!("{}/tests/data/{project}/{name}", env!("CARGO_MANIFEST_DIR"));
    let files: Vec<String> = expected.iter().map(|(name, ..)| path(name)).collect();
    let found = inspect(&files);
    for (document, (name, media_type, state, code, part)) in found["documents"].as_array().unwrap().iter().zip(expected) {
        assert_eq!(document["detected_type"], *media_type, "{name}");
        assert_eq!(document["state"], *state, "{name}: {document}");
        assert_eq!(document["reason"]["code"], *code, "{name}: {document}");
        assert!(document["reason"]["text"].as_str().unwrap().contains(part), "{name}: {document}");
        assert_eq!(document["facts"], Value::Array(Vec::new()), "{name}");
    }
    // Nothing was made up: the dossier lacks what it lacks, and says so.
    assert_eq!(found["dossier"]["complete"], false);
    let missing = found["dossier"]["missing"].to_string();
    assert!(
        missing.contains("physical.gross_internal_area") && missing.contains("comparables"),
        "{missing}"
    );
}

const PDF: &str = "application/pdf";
const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

#[test]
fn files_of_pypdf_are_answered() {
    check(
        "pypdf",
        &[
            ("crazyones.pdf", PDF, "partial", "not-recognised", "none of the labels"),
            ("imagemagick-lzw.pdf", PDF, "partial", "no-text", "only pictures"),
            (
                "r6-both-passwords.pdf",
                PDF,
                "needs_password",
                "needs-password",
                "without its password",
            ),
            ("issue-297.pdf", PDF, "partial", "partly-read", "damaged"),
        ],
    );
}

#[test]
fn workbooks_of_agate_excel_are_answered() {
    check(
        "agate-excel",
        &[
            ("test_sheets.xlsx", XLSX, "partial", "not-recognised", "“not this sheet”, “data”"),
            ("test_ambiguous_date.xlsx", XLSX, "partial", "not-recognised", "“Sheet1”"),
            (
                "test_ambiguous_date.xls",
                "application/vnd.ms-excel",
                "partial",
                "not-read-yet",
                "save it as .xlsx",
            ),
        ],
    );
}

#[test]
fn tables_of_csvkit_are_answered() {
    check(
        "csvkit",
        &[
            ("iris.csv", "text/csv", "partial", "not-recognised", "none of its columns"),
            ("test_latin1.csv", "text/csv", "partial", "not-recognised", "none of its columns"),
            (
                "null_byte.csv",
                "application/octet-stream",
                "partial",
                "not-read-yet",
                "application/octet-stream",
            ),
        ],
    );
}

/// What was seen in the files of a project: type, what, and where.
fn seen(project: &str, names: &[&str]) -> Vec<Value> {
    let path = |name: &&str| format!("{}/tests/data/{project}/{name}", env!("CARGO_MANIFEST_DIR"));
    let found = inspect(&names.iter().map(path).collect::<Vec<_>>());
    found["documents"].as_array().unwrap().iter().map(|d| d["seen"].clone()).collect()
}

#[test]
fn what_no_fact_was_taken_from_is_shown_with_its_place() {
    let none_known = "none of its columns is known";
    assert_eq!(
        seen("csvkit", &["iris.csv", "test_latin1.csv", "null_byte.csv"]),
        [
            json!([{ "saw": "table", "columns": ["sepal_length", "sepal_width", "petal_length", "petal_width", "species"], "rows": 150,
                "why": none_known, "locator": { "kind": "csv_cell", "row": 0, "column": "" } }]),
            json!([{ "saw": "table", "columns": ["a", "b", "c"], "rows": 2, "why": none_known,
                "locator": { "kind": "csv_cell", "row": 0, "column": "" } }]),
            json!([]),
        ]
    );
    assert_eq!(
        seen("agate-excel", &["test_sheets.xlsx", "test_ambiguous_date.xlsx"]),
        [
            json!([{ "saw": "table", "columns": ["number", "text", "boolean", "date", "datetime"], "rows": 2,
                "why": "a table in which each row is a comparable needs these columns too: id, price, area",
                "locator": { "kind": "sheet_cell", "sheet": "data", "cell": "A1:E1" } }]),
            json!([{ "saw": "table", "columns": ["s"], "rows": 1, "why": none_known,
                "locator": { "kind": "sheet_cell", "sheet": "Sheet1", "cell": "A1:A1" } }]),
        ]
    );
    let pages = seen("pypdf", &["crazyones.pdf", "imagemagick-lzw.pdf", "r6-both-passwords.pdf"]);
    assert_eq!(pages[0][0]["saw"], "text");
    assert_eq!(pages[0][0]["locator"]["page"], 1);
    let begins = pages[0][0]["begins"].as_str().unwrap();
    assert!(begins.starts_with("The Crazy Ones"), "{begins}");
    // Of pictures, and of what needs a password, nothing can be seen.
    assert_eq!(pages[1..], [json!([]), json!([])]);
}

#[test]
fn the_example_dossier_is_read_whole_and_each_fact_has_its_place() {
    let example = |name: &str| format!("{}/../../docs/examples/dossier/{name}", env!("CARGO_MANIFEST_DIR"));
    let names = ["nota-simple.pdf", "rentas.xlsx", "testigos.csv", "ficha.json"];
    let found = inspect(&names.map(example));
    for document in found["documents"].as_array().unwrap() {
        assert_eq!(document["state"], "ingested", "{document}");
    }
    let fact = |document: usize, path: &str| {
        let facts = found["documents"][document]["facts"].as_array().unwrap();
        let fact = facts
            .iter()
            .find(|f| f["path"] == path)
            .unwrap_or_else(|| panic!("no {path}: {facts:#?}"));
        (fact["fact"]["value"].clone(), fact["fact"]["provenance"]["locator"].clone())
    };
    let (area, place) = fact(0, "physical.gross_internal_area");
    assert_eq!((area, &place["page"]), (Value::from("96.5"), &Value::from(1)));
    assert!(place["quote"].as_str().unwrap().ends_with("(96,50 m²"), "{place}");
    assert_eq!(fact(0, "physical.year_built").0, 1998);
    assert_eq!(fact(0, "identity.parcel_id").0, "0000000XX0000X0003ZZ");
    assert_eq!(fact(0, "identity.owner").0, "Ejemplo Residencial, S.L.");
    assert_eq!(fact(0, "identity.title_no").0, "14.003");
    let (tenancy, place) = fact(1, "income.tenancies[]");
    assert_eq!(tenancy["passing_rent"], serde_json::json!({ "amount": "1650", "currency": "EUR" }));
    assert_eq!(
        (&tenancy["frequency"], &tenancy["start"]),
        (&Value::from("monthly"), &Value::from("2024-02-01"))
    );
    assert_eq!(
        place,
        serde_json::json!({ "kind": "sheet_cell", "sheet": "Rentas", "cell": "A5:G5" })
    );
    // A formula counts by its stored value.
    assert_eq!(fact(1, "income.operating_expenses[]").0["amount"]["amount"], "1320");
    assert_eq!(fact(1, "income.cap_rate").0, "0.037");
    assert_eq!(found["dossier"]["complete"], true, "{}", found["dossier"]["missing"]);
    assert_eq!(found["dossier"]["sheet"]["conflicts"], Value::Array(Vec::new()));
    assert_eq!(found["dossier"]["sheet"]["valuation_date"], "2026-09-30");
}
