//! Facts behind labels, as deeds, registers and reports write them in Spanish and English.
//!
//! A fact is taken only when the label stands at the beginning of a line or column (or, for what has a form of its
//! own, such as an area with its unit, anywhere) and the value behind it has that form. Where a document states two
//! values for one fact, none is taken: a person must say which.

mod rules;
mod values;

use std::collections::BTreeMap;

use messages::facts::Locator;
use serde_json::Value;

use super::lines::TAB;
use crate::fields::{field_at, quoted, value};
use crate::read::Facts;
use rules::{RULES, Rule, Shape};
use values::{area, cadastral};

/// Characters of a quote.
const MAX_QUOTE: usize = 200;
/// Characters behind a label within which an area stands: deeds write the number in words first.
const REACH: usize = 160;

/// What was found so far, by path: each value once, with its first place.
#[derive(Default)]
pub(super) struct Found(BTreeMap<&'static str, Vec<(Value, Locator)>>);

impl Found {
    /// Looks through a page.
    pub fn page(&mut self, page: u32, lines: &[String]) {
        for line in lines {
            let columns: Vec<&str> = line.split(TAB).map(str::trim).collect();
            for (at, column) in columns.iter().enumerate() {
                self.column(page, column, columns.get(at + 1).copied());
            }
        }
        // Sentences run over the ends of lines.
        let text = lines.join(" ").replace(TAB, " ");
        let folded: Vec<char> = text.chars().map(fold).collect();
        let original: Vec<char> = text.chars().collect();
        for rule in RULES.iter().filter(|r| matches!(r.shape, Shape::Area | Shape::Cadastral)) {
            for label in rule.labels {
                self.sentences(page, rule, label, &original, &folded);
            }
        }
    }

    /// A column of a line that may begin with a label.
    fn column(&mut self, page: u32, column: &str, next: Option<&str>) {
        let folded: String = column.chars().map(fold).collect();
        for rule in &RULES {
            if matches!(rule.shape, Shape::Area | Shape::Cadastral) {
                continue;
            }
            // The longest label: “titular registral” is not “titular”.
            let Some(label) = rule.labels.iter().filter(|l| begins(&folded, l)).max_by_key(|l| l.len()) else {
                continue;
            };
            let behind: String = column.chars().skip(label.chars().count()).collect();
            let behind = behind.trim();
            let (text, marked) = match (behind.strip_prefix(':'), next) {
                (Some(rest), _) if !rest.trim().is_empty() => (rest.trim(), true),
                (Some(_), Some(next)) => (next, true),
                (None, Some(next)) if behind.is_empty() => (next, true),
                (_, _) => (behind, false),
            };
            if let Some(found) = values::read(rule, text, marked) {
                self.add(page, rule.path, found, &format!("{column} {}", next.unwrap_or_default()));
            }
        }
    }

    /// Every place of a label in the running text, for values that are known by their form.
    fn sentences(&mut self, page: u32, rule: &Rule, label: &str, original: &[char], folded: &[char]) {
        let label: Vec<char> = label.chars().collect();
        let mut from = 0;
        while let Some(at) = folded
            .get(from..)
            .and_then(|rest| rest.windows(label.len()).position(|w| w == label))
        {
            let start = from + at;
            let end = start + label.len();
            from = end;
            if start > 0 && folded.get(start - 1).is_some_and(|c| c.is_alphanumeric()) {
                continue;
            }
            let reach = original.get(end..(end + REACH).min(original.len())).unwrap_or_default();
            let taken = match rule.shape {
                Shape::Area => area(reach, is_english(&label)),
                Shape::Cadastral => cadastral(reach),
                Shape::Line | Shape::Entry | Shape::Number | Shape::Use => None,
            };
            if let Some((found, length)) = taken {
                let quote: String = original.get(start..end + length).unwrap_or_default().iter().collect();
                self.add(page, rule.path, found, &quote);
            }
        }
    }

    fn add(&mut self, page: u32, path: &'static str, text: String, quote: &str) {
        let Some(Ok(value)) = field_at(path).map(|f| value(f.form, &text)) else {
            return;
        };
        let values = self.0.entry(path).or_default();
        if values.len() < 10 && values.iter().all(|(known, _)| *known != value) {
            let quote = quote
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .chars()
                .take(MAX_QUOTE)
                .collect();
            values.push((value, Locator::PdfPage { page, quote }));
        }
    }

    /// The facts that are stated once, or always alike; the others are problems.
    pub fn finish(self, out: &mut Facts) {
        for (path, mut values) in self.0 {
            if values.len() == 1 {
                out.facts.extend(values.pop().map(|(value, locator)| crate::read::Found {
                    path: path.to_owned(),
                    value,
                    locator,
                }));
                continue;
            }
            let each = values.iter().map(|(value, locator)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let page = match locator {
                    Locator::PdfPage { page, .. } => *page,
                    Locator::JsonPointer { .. } | Locator::CsvCell { .. } | Locator::SheetCell { .. } => 0,
                };
                format!("{} on page {page}", quoted(&text))
            });
            let each: Vec<String> = each.collect();
            out.problems
                .push(format!("{path} was left out: the document states {}", each.join(" and ")));
        }
    }
}

/// Whether a label is one that a fact stands behind.
pub(super) fn knows(label: &str) -> bool {
    let folded: String = label.trim().chars().map(fold).collect();
    RULES.iter().any(|rule| rule.labels.iter().any(|l| begins(&folded, l)))
}

/// A letter without case and accent; always one for one.
fn fold(c: char) -> char {
    match c.to_lowercase().next().unwrap_or(c) {
        'á' | 'à' => 'a',
        'é' | 'è' => 'e',
        'í' => 'i',
        'ó' | 'ò' => 'o',
        'ú' | 'ü' => 'u',
        'ñ' => 'n',
        '°' => 'º',
        c if c.is_whitespace() => ' ',
        c => c,
    }
}

fn begins(folded: &str, label: &str) -> bool {
    folded
        .strip_prefix(label)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
}

fn is_english(label: &[char]) -> bool {
    label.ends_with(&['a', 'r', 'e', 'a'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(lines: &[&str]) -> (Vec<(String, Value)>, Vec<String>) {
        let mut found = Found::default();
        found.page(1, &lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>());
        let mut out = Facts::by("test");
        found.finish(&mut out);
        (out.facts.into_iter().map(|f| (f.path, f.value)).collect(), out.problems.finish())
    }

    #[test]
    fn labels_with_a_value_of_their_form_are_facts() {
        for (lines, path, want) in [
            (&["Superficie construida: 96,50 m²"][..], "physical.gross_internal_area", "96.5"),
            (&["Superficie construida\t1.250 m2"], "physical.gross_internal_area", "1250"),
            (&["Gross internal area: 1,250.5 sqm"], "physical.gross_internal_area", "1250.5"),
            (
                &[
                    "con una superficie construida de noventa y seis metros con",
                    "cincuenta decímetros cuadrados (96,50 m²).",
                ],
                "physical.gross_internal_area",
                "96.5",
            ),
            (
                &["REFERENCIA CATASTRAL: 0000000 XX0000X 0003 ZZ"],
                "identity.parcel_id",
                "0000000XX0000X0003ZZ",
            ),
            (&["Finca registral nº 12.345 de Madrid"], "identity.title_no", "12.345"),
            (&["Dirección: Calle Mayor 1, Madrid."], "identity.address", "Calle Mayor 1, Madrid"),
            (&["Titular registral:\tEjemplo, S.L."], "identity.owner", "Ejemplo, S.L."),
            (&["Baños: 2"], "physical.bathrooms", "2"),
            (&["Uso principal\tResidencial"], "asset_type", "residential"),
        ] {
            let (facts, problems) = facts(lines);
            assert_eq!(facts, [(path.to_owned(), Value::from(want))], "{lines:?} {problems:?}");
        }
        for line in ["Año de construcción: 1998", "Año de construcción 1998"] {
            assert_eq!(facts(&[line]).0[0].1, 1998);
        }
    }

    #[test]
    fn what_is_unclear_is_no_fact() {
        for line in [
            "Superficie construida y superficie útil: 96,50 m²",
            "La superficie construida se mide según la norma 2021.",
            "superficie construida de 96,50",
            "Referencia catastral: 12345",
            "La dirección de la obra corrió a cargo de un técnico",
            "Titular",
            "Baños: 2,5",
            "Dirección General",
            "Año de construcción: hacia 1998",
        ] {
            assert_eq!(facts(&[line]).0, [], "{line}");
        }
    }

    #[test]
    fn two_values_for_one_fact_are_a_problem_and_the_same_twice_is_none() {
        let (found, problems) = facts(&["Superficie construida: 96,50 m²", "Superficie construida: 98 m²"]);
        assert!(
            found.is_empty() && problems[0].contains("96.5") && problems[0].contains("98"),
            "{problems:?}"
        );
        let (found, problems) = facts(&["Superficie construida: 96,50 m²", "superficie construida 96,5 m²"]);
        assert!(found.len() == 1 && problems.is_empty());
    }
}
