//! A sale, whatever it was read from: a row of a table or an object in JSON.

use serde_json::{Map, Value, json};

use crate::fields::{Form, value};

/// A column of the table of sales, and the name of the field in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub name: &'static str,
    pub form: Form,
    pub required: bool,
}

const fn column(name: &'static str, form: Form, required: bool) -> Column {
    Column { name, form, required }
}

pub(super) const PRICE: &str = "price";
pub(super) const CURRENCY: &str = "currency";

pub(super) const COLUMNS: [Column; 12] = [
    column("id", Form::Text(100), true),
    column(PRICE, Form::Positive, true),
    column(CURRENCY, Form::Currency, false),
    column("sale_date", Form::Date, true),
    column("area", Form::Positive, true),
    column("bathrooms", Form::Count, false),
    column("parking_spaces", Form::Count, false),
    column("year_built", Form::Year, false),
    column("location_adjustment", Form::Fraction, false),
    column("conditions_of_sale", Form::Fraction, false),
    column("verified", Form::YesNo, false),
    column("source", Form::Text(300), false),
];

/// Makes a comparable from the text of its columns; empty text is no value.
///
/// The price's currency is left out when the document does not name one: it is then taken to be in the currency of
/// the valuation, which another document may name.
///
/// # Errors
/// Everything that is wrong with it, each in words that begin with the column's name.
pub(super) fn comparable<'t>(text_of: impl Fn(&'static str) -> Option<&'t str>) -> Result<Value, Vec<String>> {
    let mut fields = Map::new();
    let mut problems = Vec::new();
    for column in COLUMNS {
        match text_of(column.name).map(str::trim).filter(|t| !t.is_empty()) {
            Some(text) => match value(column.form, text) {
                Ok(value) => {
                    fields.insert(column.name.to_owned(), value);
                }
                Err(why) => problems.push(format!("{}: {why}", column.name)),
            },
            None if column.required => problems.push(format!("{} is missing", column.name)),
            None => {}
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let currency = fields.remove(CURRENCY);
    if let Some(amount) = fields.remove(PRICE) {
        let price = match currency {
            Some(currency) => json!({ "amount": amount, "currency": currency }),
            None => json!({ "amount": amount }),
        };
        fields.insert(PRICE.to_owned(), price);
    }
    Ok(Value::Object(fields))
}
