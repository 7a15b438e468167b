//! The lists of a fact sheet, whatever a row was read from: a row of a table or an object in JSON.

use serde_json::{Map, Value, json};

use super::{Form, value};

/// A column of a list, and the name of the field in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub form: Form,
    pub required: bool,
}

/// A list of the fact sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List {
    /// The path of a row.
    pub path: &'static str,
    /// One row of it, in words.
    pub noun: &'static str,
    pub columns: &'static [Column],
    /// The column that is an amount; [`CURRENCY`] is its currency.
    pub money: &'static str,
}

/// The column with the currency of a row's amount.
pub const CURRENCY: &str = "currency";

const fn column(name: &'static str, form: Form, required: bool) -> Column {
    Column { name, form, required }
}

/// Sales of similar assets.
pub const COMPARABLES: List = List {
    path: super::COMPARABLE,
    noun: "comparable",
    columns: &[
        column("id", Form::Text(100), true),
        column("price", Form::Positive, true),
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
    ],
    money: "price",
};

/// The rent roll. `frequency` is how often the rent is paid.
pub const TENANCIES: List = List {
    path: "income.tenancies[]",
    noun: "tenancy",
    columns: &[
        column("unit", Form::Text(100), true),
        column("tenant", Form::Text(300), false),
        column("area", Form::Positive, false),
        column("passing_rent", Form::Count, true),
        column(CURRENCY, Form::Currency, false),
        column("frequency", Form::Frequency, true),
        column("start", Form::Date, false),
        column("end", Form::Date, false),
    ],
    money: "passing_rent",
};

/// What it costs to run the asset; an amount without `frequency` is a year's.
pub const OPERATING_EXPENSES: List = List {
    path: "income.operating_expenses[]",
    noun: "operating expense",
    columns: &[
        column("type", Form::Text(100), true),
        column("amount", Form::Count, true),
        column(CURRENCY, Form::Currency, false),
        column("frequency", Form::Frequency, false),
    ],
    money: "amount",
};

/// Every list of the sheet.
pub const LISTS: [List; 3] = [COMPARABLES, TENANCIES, OPERATING_EXPENSES];

/// The list that a path is a row of.
pub fn list_at(path: &str) -> Option<&'static List> {
    const ALL: &[List] = &LISTS;
    ALL.iter().find(|l| l.path == path)
}

impl List {
    /// Makes a row from the text of its columns; empty text is no value.
    ///
    /// The currency is left out when the document does not name one: the amount is then taken to be in the currency
    /// of the valuation, which another document may name.
    ///
    /// # Errors
    /// Everything that is wrong with it, each in words that begin with the column's name.
    pub fn row<'t>(&self, text_of: impl Fn(&'static str) -> Option<&'t str>) -> Result<Value, Vec<String>> {
        let mut fields = Map::new();
        let mut problems = Vec::new();
        for column in self.columns {
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
        if let Some(amount) = fields.remove(self.money) {
            let money = match currency {
                Some(currency) => json!({ "amount": amount, "currency": currency }),
                None => json!({ "amount": amount }),
            };
            fields.insert(self.money.to_owned(), money);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(list: &List, texts: &[(&'static str, &'static str)]) -> Result<Value, Vec<String>> {
        list.row(|name| texts.iter().find(|(n, _)| *n == name).map(|(_, t)| *t))
    }

    #[test]
    fn a_line_of_the_rent_roll_becomes_a_tenancy() {
        let texts = [
            ("unit", "Local 1"),
            ("passing_rent", "1450.00"),
            ("currency", "EUR"),
            ("frequency", "Mensual"),
            ("start", "01/02/2024"),
            ("end", ""),
        ];
        let value = row(&TENANCIES, &texts).unwrap();
        let tenancy: messages::facts::Tenancy = serde_json::from_value(value).unwrap();
        assert_eq!(tenancy.passing_rent.amount.to_string(), "1450");
        assert_eq!(tenancy.frequency, messages::facts::Frequency::Monthly);
        assert_eq!((tenancy.start.unwrap().to_string().as_str(), tenancy.end), ("2024-02-01", None));
    }

    #[test]
    fn everything_that_is_wrong_with_a_row_is_said() {
        let problems = row(&TENANCIES, &[("passing_rent", "-5"), ("frequency", "weekly")]).unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(row(&OPERATING_EXPENSES, &[("type", "IBI"), ("amount", "620")]).is_ok());
    }
}
