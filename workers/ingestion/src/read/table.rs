//! Tables of any format: the rows of a list (comparable sales, a rent roll, expenses), or single facts as key and value.
//!
//! A format brings rows of cells and the place of each; what the header means, how numbers are written and what a row
//! states is decided here.

use messages::facts::Locator;
use serde_json::Value;

use super::dialect::{Bare, Decimals, Evidence, plain};
use super::headers::{Named, column, key_value, lists_by_fit, normal, single};
use super::{Facts, Found};
use crate::fields::{CURRENCY, Column, Field, Form, List, number, quoted, value};

/// How often a rent is paid; a header may say it (“Renta mensual”).
const FREQUENCY: &str = "frequency";
/// What stands for the tenant of a unit that nobody rents.
const VACANT: [&str; 8] = [
    "vacio",
    "vacia",
    "vacante",
    "libre",
    "disponible",
    "vacant",
    "empty",
    "sin_arrendar",
];

/// A cell: its text, and whether that is a number from a typed cell, written with a decimal point.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cell<'t> {
    pub text: &'t str,
    pub typed: bool,
}

/// What a header says that the table is.
pub(super) enum Table {
    Rows {
        list: &'static List,
        /// By the place of the column; `None`: not ours.
        columns: Vec<Option<&'static Column>>,
        /// Named in the header of the amount.
        currency: Option<&'static str>,
        frequency: Option<&'static str>,
    },
    Single {
        key: usize,
        value: usize,
    },
}

impl Table {
    /// Reads a header.
    ///
    /// # Errors
    /// In words, when it is not the header of a table that we know.
    pub fn of(header: &[&str], out: &mut Facts) -> Result<Self, String> {
        if let Some((key, value)) = key_value(header) {
            return Ok(Self::Single { key, value });
        }
        let Some(list) = lists_by_fit(header) else {
            return Err("none of its columns is known".to_owned());
        };
        let mut columns: Vec<Option<&'static Column>> = Vec::new();
        let (mut currency, mut frequency) = (None, None);
        for name in header {
            match column(list, name) {
                Some(Named { column, .. }) if columns.contains(&Some(column)) => {
                    out.notes.push(format!("ignored: a second column {}", quoted(name)));
                    columns.push(None);
                }
                Some(named) => {
                    currency = currency.or(named.currency);
                    frequency = frequency.or(named.frequency);
                    columns.push(Some(named.column));
                }
                None => {
                    if !name.trim().is_empty() {
                        out.notes.push(format!("ignored: the column {} is not known", quoted(name)));
                    }
                    columns.push(None);
                }
            }
        }
        let lacks = |c: &&Column| c.required && !columns.contains(&Some(*c)) && !(c.name == FREQUENCY && frequency.is_some());
        let missing: Vec<&str> = list.columns.iter().filter(lacks).map(|c| c.name).collect();
        if missing.is_empty() {
            Ok(Self::Rows {
                list,
                columns,
                currency,
                frequency,
            })
        } else {
            Err(format!(
                "a table in which each row is a {} needs these columns too: {}",
                list.noun,
                missing.join(", ")
            ))
        }
    }

    /// The columns of a row that a fact is read from, with the fact's form.
    fn forms(&self, row: &[Cell]) -> Vec<(usize, Form)> {
        match self {
            Self::Rows { columns, .. } => columns.iter().enumerate().filter_map(|(i, c)| c.map(|c| (i, c.form))).collect(),
            Self::Single { key, value, .. } => {
                let field = row.get(*key).and_then(|cell| single(cell.text));
                field.map(|f| (*value, f.form)).into_iter().collect()
            }
        }
    }

    /// The form of the values in a column; `key` is the text of the row's first cell.
    pub fn form(&self, place: usize, key: Option<&str>) -> Option<Form> {
        match self {
            Self::Rows { columns, .. } => columns.get(place).copied().flatten().map(|c| c.form),
            Self::Single { value, .. } => key.and_then(single).filter(|_| *value == place).map(|f| f.form),
        }
    }

    /// The fact that a row states, or everything that is wrong with it. `locate` names the place of a cell, or of the
    /// whole row.
    pub fn fact(
        &self,
        writing: &Writing,
        row: &[Cell],
        locate: impl Fn(Option<usize>) -> Locator,
        out: &mut Facts,
    ) -> Result<Option<Found>, Vec<String>> {
        match self {
            Self::Rows {
                list,
                columns,
                currency,
                frequency,
            } => {
                if is_vacant(columns, list, row) {
                    return Ok(None);
                }
                let value = entry(list, columns, (*currency, *frequency), writing, row)?;
                Ok(Some(Found {
                    path: list.path.to_owned(),
                    value,
                    locator: locate(None),
                }))
            }
            Self::Single { key, value, .. } => {
                let name = row.get(*key).map_or("", |c| c.text);
                let Some(field) = single(name) else {
                    out.notes.push(format!("ignored: {} is not known", quoted(name)));
                    return Ok(None);
                };
                let Some(cell) = row.get(*value).filter(|c| !c.text.trim().is_empty()) else {
                    return Ok(None);
                };
                let found = single_value(field, writing, *value, *cell).map_err(|why| vec![format!("{}: {why}", field.path)])?;
                Ok(Some(Found {
                    path: field.path.to_owned(),
                    value: found,
                    locator: locate(Some(*value)),
                }))
            }
        }
    }
}

/// A unit without rent whose tenant is nobody: it states no tenancy.
fn is_vacant(columns: &[Option<&'static Column>], list: &List, row: &[Cell]) -> bool {
    let text = |name: &str| {
        let place = columns.iter().position(|c| c.is_some_and(|c| c.name == name))?;
        row.get(place).map(|c| c.text.trim())
    };
    text("tenant").is_some_and(|t| VACANT.contains(&normal(t).as_str()))
        && text(list.money).is_none_or(|rent| matches!(rent, "" | "-" | "0" | "0,00" | "0.00"))
}

/// How the numbers are written: the evidence, then a decision for each column.
pub(super) struct Writing(Vec<Result<Decimals, &'static str>>);

impl Writing {
    /// Learns from one row of the table.
    pub fn see(columns: &mut [Evidence], table: &Table, row: &[Cell]) {
        for (place, form) in table.forms(row) {
            if let (Some(evidence), Some(cell)) = (columns.get_mut(place), row.get(place))
                && is_number(form)
                && !cell.typed
            {
                evidence.see(cell.text);
            }
        }
    }

    pub fn decide(columns: Vec<Evidence>) -> Self {
        let all = columns.iter().fold(Evidence::default(), |all, c| all.and(*c));
        Self(columns.into_iter().map(|c| c.decide(all)).collect())
    }

    /// A cell's number as plain text, and what stood around it.
    fn number(&self, place: usize, cell: Cell) -> Result<(String, Bare), String> {
        let bare = Bare::of(cell.text);
        if cell.typed {
            return Ok((cell.text.to_owned(), bare));
        }
        let has_separator = bare.number.contains(['.', ',']);
        match self.0.get(place).copied().unwrap_or(Ok(Decimals::Point)) {
            Ok(decimals) => plain(&bare.number, decimals),
            Err(_) if !has_separator => plain(&bare.number, Decimals::Point),
            Err(why) => Err(format!("{}: {why}", quoted(cell.text))),
        }
        .map(|text| (text, bare))
    }
}

fn is_number(form: Form) -> bool {
    match form {
        Form::Positive | Form::Count | Form::Number | Form::Fraction => true,
        Form::Text(_) | Form::Currency | Form::Country | Form::AssetType | Form::Date | Form::Year | Form::YesNo => false,
        Form::Frequency | Form::TerminalNoiBasis | Form::Years => false,
    }
}

fn single_value(field: &Field, writing: &Writing, place: usize, cell: Cell) -> Result<Value, String> {
    if is_number(field.form) {
        let (text, bare) = writing.number(place, cell)?;
        value(field.form, &fraction(text, &bare, field.form)?)
    } else {
        value(field.form, cell.text.trim())
    }
}

/// Reads a row of a list.
fn entry(
    list: &List,
    columns: &[Option<&'static Column>],
    (currency, frequency): (Option<&str>, Option<&str>),
    writing: &Writing,
    row: &[Cell],
) -> Result<Value, Vec<String>> {
    let mut texts: Vec<(&'static str, String)> = Vec::new();
    let mut problems = Vec::new();
    let mut euro = false;
    for (place, column) in columns.iter().enumerate() {
        let (Some(column), Some(cell)) = (column, row.get(place).filter(|c| !c.text.trim().is_empty())) else {
            continue;
        };
        if !is_number(column.form) {
            texts.push((column.name, cell.text.trim().to_owned()));
            continue;
        }
        let read = writing.number(place, *cell).and_then(|(text, bare)| {
            euro |= bare.euro && column.name == list.money;
            fraction(text, &bare, column.form)
        });
        match read {
            Ok(text) => texts.push((column.name, text)),
            Err(why) => problems.push(format!("{}: {why}", column.name)),
        }
    }
    let mut named: Vec<&str> = texts.iter().filter(|(n, _)| *n == CURRENCY).map(|(_, t)| t.as_str()).collect();
    named.extend(currency);
    if euro {
        named.push("EUR");
    }
    if named.iter().any(|c| Some(c) != named.first()) {
        problems.push(format!("currency: it is said to be {}", named.join(" and ")));
    }
    let currency = named.first().map(|c| (*c).to_owned());
    if !problems.is_empty() {
        return Err(problems);
    }
    let text_of = |name: &str| texts.iter().find(|(n, _)| *n == name).map(|(_, t)| t.as_str());
    list.row(|name| match name {
        CURRENCY => currency.as_deref(),
        FREQUENCY => text_of(FREQUENCY).or(frequency),
        _ => text_of(name),
    })
}

/// A number as it counts: `-3 %` of a fraction is -0.03. Elsewhere a percent sign has no meaning.
fn fraction(text: String, bare: &Bare, form: Form) -> Result<String, String> {
    if !bare.percent {
        return Ok(text);
    }
    if form != Form::Fraction {
        return Err("a percentage is not expected here".to_owned());
    }
    let mut hundredth = number(&text)?;
    let scale = hundredth.scale() + 2;
    hundredth
        .set_scale(scale)
        .map(|()| hundredth.to_string())
        .map_err(|_| format!("{} has too many decimals", quoted(&text)))
}
