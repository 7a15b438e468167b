//! What a document may say of an asset, and the form that each fact has to have.
//!
//! One table for every format: a reader only finds the text and its place, the form is checked here. Numbers are
//! decimals from first to last, never floats.

use jiff::civil::Date;
use messages::facts::{AssetType, TerminalNoiBasis};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::Value;

mod lists;

pub use lists::{COMPARABLES, CURRENCY, Column, LISTS, List, OPERATING_EXPENSES, TENANCIES, list_at};

/// Largest magnitude of a number: more than any asset on Earth costs, and small enough that products of a few such
/// numbers fit a decimal's 28 digits.
const MAX_NUMBER: i64 = 1_000_000_000_000_000;
/// Decimals after the point that a number may have.
const MAX_SCALE: u32 = 12;

/// The form of a fact's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Up to this many bytes of UTF-8.
    Text(usize),
    /// ISO 4217.
    Currency,
    /// ISO 3166-1 alpha-2.
    Country,
    AssetType,
    Date,
    /// A year of the calendar.
    Year,
    /// A number above zero.
    Positive,
    /// A number of zero or more.
    Count,
    /// Any number.
    Number,
    /// A fraction: more than -1, less than 1.
    Fraction,
    YesNo,
    /// How often an amount is paid, as `messages::facts::Frequency`.
    Frequency,
    /// `forward` or `trailing`.
    TerminalNoiBasis,
    /// A number of whole years, 1 to 100.
    Years,
}

/// A fact that stands alone.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The path into the fact sheet.
    pub path: &'static str,
    pub form: Form,
}

/// The path of a row of the list of comparables.
pub const COMPARABLE: &str = "market.comparables[]";
/// The path of the valuation date, and of the currency: facts that the sheet holds without their provenance.
pub const VALUATION_DATE: &str = "valuation_date";
pub const VALUATION_CURRENCY: &str = "valuation_currency";

const fn field(path: &'static str, form: Form) -> Field {
    Field { path, form }
}

/// Everything that stands alone, by its path.
pub const FIELDS: [Field; 32] = [
    field("asset_type", Form::AssetType),
    field("jurisdiction", Form::Country),
    field(VALUATION_CURRENCY, Form::Currency),
    field(VALUATION_DATE, Form::Date),
    field("identity.address", Form::Text(500)),
    field("identity.parcel_id", Form::Text(100)),
    field("identity.title_no", Form::Text(100)),
    field("identity.tenure", Form::Text(100)),
    field("identity.owner", Form::Text(300)),
    field("physical.gross_internal_area", Form::Positive),
    field("physical.site_area", Form::Positive),
    field("physical.year_built", Form::Year),
    field("physical.bedrooms", Form::Count),
    field("physical.bathrooms", Form::Count),
    field("physical.parking_spaces", Form::Count),
    field("market.trend_per_month", Form::Fraction),
    field("market.adjustment_rates.per_area", Form::Number),
    field("market.adjustment_rates.per_bathroom", Form::Number),
    field("market.adjustment_rates.per_parking_space", Form::Number),
    field("market.adjustment_rates.per_year_of_age", Form::Number),
    field("income.potential_gross_income", Form::Count),
    field("income.vacancy_rate", Form::Fraction),
    field("income.other_income", Form::Count),
    field("income.management_pct", Form::Fraction),
    field("income.reserves", Form::Count),
    field("income.cap_rate", Form::Fraction),
    field("income.discount_rate", Form::Fraction),
    field("income.growth", Form::Fraction),
    field("income.exit_cap_rate", Form::Fraction),
    field("income.hold_years", Form::Years),
    field("income.selling_cost_pct", Form::Fraction),
    field("income.terminal_noi_basis", Form::TerminalNoiBasis),
];

/// The field of a path.
pub fn field_at(path: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|f| f.path == path)
}

/// A number written plainly: digits, at most one point, an exponent if it must be. Exact or refused.
///
/// # Errors
/// In words, when it is no number, or not one that we take.
pub fn number(text: &str) -> Result<Decimal, String> {
    let plain = |t: &str| Decimal::from_str_exact(t).ok();
    let parsed = match text.split_once(['e', 'E']) {
        // A decimal has 28 digits, so an exponent beyond that cannot be exact anyway.
        Some((base, exponent)) => exponent
            .parse::<i32>()
            .ok()
            .filter(|e| e.abs() <= 28)
            .and_then(|e| plain(base).and_then(|b| shift(b, e))),
        None => plain(text),
    };
    let shape = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    let value = parsed
        .filter(|_| shape)
        .ok_or_else(|| format!("{} is not a number", quoted(text)))?;
    let value = value.normalize();
    if value.abs() >= Decimal::from(MAX_NUMBER) {
        return Err(format!("{} is too large: less than 10^15 is taken", quoted(text)));
    }
    if value.scale() > MAX_SCALE {
        return Err(format!("{} has more than {MAX_SCALE} decimals", quoted(text)));
    }
    Ok(value)
}

/// `base` times ten to the `exponent`, or nothing when that is not exact.
fn shift(base: Decimal, exponent: i32) -> Option<Decimal> {
    let mut value = base;
    for _ in 0..exponent.unsigned_abs() {
        value = if exponent > 0 {
            value.checked_mul(Decimal::TEN)?
        } else {
            let scale = value.scale() + 1;
            let mut shifted = value;
            shifted.set_scale(scale).ok()?;
            shifted
        };
    }
    Some(value)
}

/// The value of a form from its text, as the record keeps it: decimals and dates are text, years whole numbers.
///
/// # Errors
/// In words, without saying where; the reader knows.
pub fn value(form: Form, text: &str) -> Result<Value, String> {
    let text = text.trim();
    let decimal = |check: fn(&Decimal) -> bool, rule: &str| {
        let n = number(text)?;
        if check(&n) {
            Ok(Value::String(n.to_string()))
        } else {
            Err(format!("{} {rule}", quoted(text)))
        }
    };
    match form {
        Form::Text(max) => {
            let length = text.len();
            if length == 0 {
                Err("it is empty".to_owned())
            } else if length > max {
                Err(format!("it has {length} bytes, at most {max} are taken"))
            } else if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
                Err("it contains control characters".to_owned())
            } else {
                Ok(Value::String(text.to_owned()))
            }
        }
        Form::Currency => letters(text, 3, "a currency of three capital letters, e.g. EUR"),
        Form::Country => letters(text, 2, "a country of two capital letters, e.g. ES"),
        Form::AssetType => asset_type(text),
        Form::Date => date(text).map(|d| Value::String(d.to_string())),
        Form::Year => match text.parse::<i16>() {
            Ok(year @ 1000..=9999) => Ok(Value::from(year)),
            Ok(_) | Err(_) => Err(format!("{} is not a year of four digits", quoted(text))),
        },
        Form::Positive => decimal(|n| *n > Decimal::ZERO, "must be more than 0"),
        Form::Count => decimal(|n| *n >= Decimal::ZERO, "must be 0 or more"),
        Form::Number => decimal(|_| true, ""),
        Form::Fraction => decimal(|n| n.abs() < Decimal::ONE, "must be a fraction between -1 and 1, e.g. 0.02 for 2 %"),
        Form::YesNo => yes_no(text).map(Value::Bool),
        Form::Frequency => frequency(text),
        Form::TerminalNoiBasis => {
            let value = Value::String(text.to_lowercase());
            TerminalNoiBasis::deserialize(&value)
                .map(|_| value.clone())
                .map_err(|_| format!("{} is neither forward nor trailing", quoted(text)))
        }
        Form::Years => match text.parse::<u8>() {
            Ok(years @ 1..=100) => Ok(Value::from(years)),
            Ok(_) | Err(_) => Err(format!("{} is not a whole number of years from 1 to 100", quoted(text))),
        },
    }
}

/// In Spanish or English, as the sheet's word.
fn frequency(text: &str) -> Result<Value, String> {
    let word = match text.to_lowercase().as_str() {
        "monthly" | "month" | "mensual" | "mes" => "monthly",
        "quarterly" | "quarter" | "trimestral" | "trimestre" => "quarterly",
        "annual" | "annually" | "yearly" | "year" | "anual" | "año" => "annual",
        _ => return Err(format!("{} is none of monthly, quarterly, annual", quoted(text))),
    };
    Ok(Value::String(word.to_owned()))
}

fn letters(text: &str, count: usize, rule: &str) -> Result<Value, String> {
    if text.len() == count && text.bytes().all(|b| b.is_ascii_uppercase()) {
        Ok(Value::String(text.to_owned()))
    } else {
        Err(format!("{} is not {rule}", quoted(text)))
    }
}

fn asset_type(text: &str) -> Result<Value, String> {
    let value = Value::String(text.to_owned());
    match AssetType::deserialize(&value) {
        Ok(_) => Ok(value),
        Err(_) => Err(format!(
            "{} is none of residential, office, retail, industrial, land, development, plant_equipment",
            quoted(text)
        )),
    }
}

/// A date as ISO 8601 (`2026-09-30`) or day first (`30/09/2026`, `30-9-2026`, `30.09.2026`).
fn date(text: &str) -> Result<Date, String> {
    let refused = || format!("{} is not a date: write 2026-09-30 or 30/09/2026", quoted(text));
    let mut parts = text.split(['-', '/', '.']);
    let (Some(a), Some(b), Some(c), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(refused());
    };
    if ![a, b, c].iter().all(|p| p.bytes().all(|b| b.is_ascii_digit())) {
        return Err(refused());
    }
    let (year, month, day) = match (a.len(), c.len()) {
        (4, 1..=2) => (a, b, c),
        (1..=2, 4) => (c, b, a),
        _ => return Err(refused()),
    };
    match (year.parse(), month.parse(), day.parse()) {
        (Ok(y), Ok(m), Ok(d)) if y >= 1000 => Date::new(y, m, d).map_err(|_| refused()),
        _ => Err(refused()),
    }
}

fn yes_no(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "sí" | "si" | "s" | "yes" | "y" | "true" | "verdadero" | "1" | "x" => Ok(true),
        "no" | "n" | "false" | "falso" | "0" => Ok(false),
        _ => Err(format!("{} is neither yes nor no", quoted(text))),
    }
}

/// Text from a document as an error may show it: short, and on one line.
pub fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(40).is_some() {
        short.push('…');
    }
    format!("“{short}”")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_or_refused() {
        for (text, want) in [
            ("84.50", "84.5"),
            ("0.1", "0.1"),
            ("-0.03", "-0.03"),
            ("4.05e5", "405000"),
            ("125E-2", "1.25"),
            ("405000", "405000"),
            ("0", "0"),
            ("0.000000000001", "0.000000000001"),
            ("999999999999999.000000000001", "999999999999999.000000000001"),
        ] {
            assert_eq!(number(text).unwrap().to_string(), want, "{text}");
        }
        for bad in [
            "",
            ".",
            "1,5",
            "1 000",
            "0x10",
            "1_000",
            "NaN",
            "inf",
            "1e400",
            "1e",
            "--1",
            "1000000000000000",
            "0.0000000000001",
            "0.12345678901234567890123456789012345",
        ] {
            assert!(number(bad).is_err(), "{bad:?} became {:?}", number(bad));
        }
    }

    #[test]
    fn every_form_takes_what_it_promises_and_refuses_the_rest() {
        let table: [(Form, &[&str], &[&str]); 13] = [
            (Form::Text(6), &["Ático", " x "], &["", "  ", "abcdefg", "a\u{0}b"]),
            (Form::Currency, &["EUR"], &["eur", "€", "EURO", ""]),
            (Form::Country, &["ES"], &["es", "ESP", ""]),
            (Form::AssetType, &["residential", "land"], &["house", ""]),
            (
                Form::Date,
                &["2026-09-30", "30/09/2026", "30-9-2026", "1.2.2024", "2024-02-29"],
                &[
                    "2026-13-01",
                    "31/02/2026",
                    "09/30/2026",
                    "30/09/26",
                    "2023-02-29",
                    "today",
                    "2026-09",
                    "",
                ],
            ),
            (Form::Year, &["1965", "2026"], &["65", "196x", "1965.5", "12345", "-500"]),
            (Form::Positive, &["0.01", "84.5"], &["0", "-1", "many"]),
            (Form::Count, &["0", "2", "1.5"], &["-1"]),
            (Form::Fraction, &["-0.03", "0", "0.999"], &["1", "-1", "2"]),
            (Form::YesNo, &["sí", "SI", "No", "true", "0"], &["maybe", "2", ""]),
            (
                Form::Frequency,
                &["monthly", "Mensual", "ANUAL", "quarterly"],
                &["weekly", "12", ""],
            ),
            (Form::TerminalNoiBasis, &["forward", "Trailing"], &["both", ""]),
            (Form::Years, &["1", "10", "100"], &["0", "101", "2.5", "-1", "ten"]),
        ];
        for (form, good, bad) in table {
            for text in good {
                assert!(value(form, text).is_ok(), "{form:?} {text:?}: {:?}", value(form, text));
            }
            for text in bad {
                assert!(value(form, text).is_err(), "{form:?} {text:?}");
            }
        }
        assert_eq!(value(Form::Date, "30/09/2026").unwrap(), "2026-09-30");
    }

    #[test]
    fn an_error_shows_little_of_a_document() {
        let error = value(Form::Positive, &"9a\n".repeat(1000)).unwrap_err();
        assert!(error.chars().count() < 80 && !error.contains('\n'), "{error}");
    }
}
