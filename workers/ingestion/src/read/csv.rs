//! Tables: comparable sales, or single facts as key and value.
//!
//! The text is gone through twice: first to learn how its numbers are written and that it keeps within the limits,
//! then to read it. Nothing but the facts is kept.

use ::csv::StringRecord;
use messages::facts::Locator;
use serde_json::Value;

use super::comparable::{COLUMNS, CURRENCY, Column, PRICE, comparable};
use super::dialect::{Bare, Decimals, Evidence, delimiter, plain, rows};
use super::headers::{key_value, sale_column, single};
use super::{Facts, Found, MAX_COLUMNS, MAX_COMPARABLES, MAX_FIELD, MAX_ROWS, Reading, Refusal};
use crate::fields::{COMPARABLE, Field, Form, number, quoted, value};

pub(super) const EXTRACTOR: &str = "csv/1";

/// What the header says that the table is.
enum Table {
    Sales {
        /// By the place of the column; `None`: not ours.
        columns: Vec<Option<&'static Column>>,
        /// Named in the header of the price.
        currency: Option<&'static str>,
    },
    Single {
        key: usize,
        value: usize,
        /// The header of the column of values.
        header: String,
    },
}

/// Reads a table.
pub(super) fn read(text: &str) -> Result<Reading, Refusal> {
    let not_recognised = |why: String| {
        let text = format!("the table is stored, but no facts were taken from it: {why}");
        Ok(Reading::NotRead(Refusal::new("not-recognised", text)))
    };
    let Some(delimiter) = delimiter(text, true) else {
        return not_recognised("its columns are not separated by semicolons, commas or tabs".to_owned());
    };
    // A row is held in memory with a mark for each of its cells: millions of empty ones would outweigh the file.
    let width = |line: &str| line.bytes().filter(|b| *b == delimiter).count();
    if let Some(line) = text.split('\n').position(|line| width(line) >= MAX_COLUMNS) {
        return Err(Refusal::too_large(format!("line {} has more than {MAX_COLUMNS} columns", line + 1)));
    }
    let mut out = Facts::by(EXTRACTOR);
    let mut header = StringRecord::new();
    next(&mut rows(text, delimiter), &mut header)?;
    let table = match table(&header, &mut out) {
        Ok(table) => table,
        Err(why) => return not_recognised(why),
    };
    let writing = Writing::learn(text, delimiter, &table, header.len())?;
    let mut reader = rows(text, delimiter);
    let mut row = StringRecord::new();
    next(&mut reader, &mut row)?;
    let mut at = 0u64;
    let mut kept = 0usize;
    while next(&mut reader, &mut row)? {
        at += 1;
        if row.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        let line = row.position().map_or(0, ::csv::Position::line);
        let read = if row.len() > header.len() {
            Err(vec![format!("it has {} cells, the header {}", row.len(), header.len())])
        } else {
            fact(&table, &writing, &row, at, &mut out)
        };
        match read {
            Ok(Some(found)) => {
                kept += usize::from(found.path == COMPARABLE);
                if kept > MAX_COMPARABLES {
                    return Err(Refusal::too_large(format!("there are more than {MAX_COMPARABLES} comparables")));
                }
                out.facts.push(found);
            }
            Ok(None) => {}
            Err(why) => out
                .problems
                .push(format!("row {at} (line {line}) was left out: {}", why.join("; "))),
        }
    }
    if at == 0 {
        out.problems.push("the table has a header but no rows");
    }
    Ok(Reading::Facts(out))
}

/// The next row; `false` at the end.
fn next(reader: &mut ::csv::Reader<&[u8]>, row: &mut StringRecord) -> Result<bool, Refusal> {
    reader
        .read_record(row)
        .map_err(|e| Refusal::malformed(format!("line {} is not a row of a table: {e}", reader.position().line())))
}

/// Reads the header.
///
/// # Errors
/// In words, when it is not the header of a table that we know.
fn table(header: &StringRecord, out: &mut Facts) -> Result<Table, String> {
    if let Some((key, value)) = key_value(header) {
        let header = header.get(value).unwrap_or_default().chars().take(100).collect();
        return Ok(Table::Single { key, value, header });
    }
    let mut columns: Vec<Option<&'static Column>> = Vec::new();
    let mut currency = None;
    for name in header {
        let column = sale_column(name);
        match column {
            Some((column, _)) if columns.contains(&Some(column)) => {
                out.notes.push(format!("ignored: a second column {}", quoted(name)));
                columns.push(None);
            }
            Some((column, named)) => {
                currency = currency.or(named);
                columns.push(Some(column));
            }
            None => {
                if !name.trim().is_empty() {
                    out.notes.push(format!("ignored: the column {} is not known", quoted(name)));
                }
                columns.push(None);
            }
        }
    }
    let lacks = |c: &&Column| c.required && !columns.contains(&Some(*c));
    let missing: Vec<&str> = COLUMNS.iter().filter(lacks).map(|c| c.name).collect();
    if columns.iter().flatten().count() == 0 {
        Err("none of its columns is known".to_owned())
    } else if !missing.is_empty() {
        Err(format!(
            "a table of comparable sales needs these columns too: {}",
            missing.join(", ")
        ))
    } else {
        Ok(Table::Sales { columns, currency })
    }
}

/// How the numbers are written: a decision for each column.
struct Writing(Vec<Result<Decimals, &'static str>>);

impl Writing {
    /// Goes through the whole text, which also keeps it to the limits.
    fn learn(text: &str, delimiter: u8, table: &Table, width: usize) -> Result<Self, Refusal> {
        let mut columns = vec![Evidence::default(); width];
        let mut reader = rows(text, delimiter);
        let mut row = StringRecord::new();
        let mut count = 0u64;
        let mut last = (1, false);
        while next(&mut reader, &mut row)? {
            let line = row.position().map_or(0, ::csv::Position::line);
            if count > MAX_ROWS {
                return Err(Refusal::too_large(format!("the table has more than {MAX_ROWS} rows")));
            }
            if row.iter().any(|cell| cell.len() > MAX_FIELD) {
                return Err(Refusal::too_large(format!(
                    "a cell of the row on line {line} has more than {MAX_FIELD} bytes; is a quote not closed?"
                )));
            }
            last = (line, row.iter().any(|cell| cell.contains('\n')));
            if count > 0 {
                for (place, form) in numeric(table, &row) {
                    if let (Some(evidence), Some(cell)) = (columns.get_mut(place), row.get(place))
                        && is_number(form)
                    {
                        evidence.see(cell);
                    }
                }
            }
            count += 1;
        }
        // Quotes come in pairs; an open one swallows the rest of the file into the last cell.
        if last.1 && text.bytes().filter(|b| *b == b'"').count() % 2 == 1 {
            return Err(Refusal::malformed(format!(
                "a quote is opened in the row on line {} and never closed",
                last.0
            )));
        }
        let file = columns.iter().fold(Evidence::default(), |all, c| all.and(*c));
        Ok(Self(columns.into_iter().map(|c| c.decide(file)).collect()))
    }

    /// A cell's number as plain text, and what stood around it.
    fn number(&self, place: usize, cell: &str) -> Result<(String, Bare), String> {
        let bare = Bare::of(cell);
        let has_separator = bare.number.contains(['.', ',']);
        match self.0.get(place).copied().unwrap_or(Ok(Decimals::Point)) {
            Ok(decimals) => plain(&bare.number, decimals),
            Err(_) if !has_separator => plain(&bare.number, Decimals::Point),
            Err(why) => Err(format!("{}: {why}", quoted(cell))),
        }
        .map(|text| (text, bare))
    }
}

/// The columns of a row that a fact is read from, with the fact's form.
fn numeric(table: &Table, row: &StringRecord) -> Vec<(usize, Form)> {
    match table {
        Table::Sales { columns, .. } => columns.iter().enumerate().filter_map(|(i, c)| c.map(|c| (i, c.form))).collect(),
        Table::Single { key, value, .. } => {
            let field = row.get(*key).and_then(single);
            field.map(|f| (*value, f.form)).into_iter().collect()
        }
    }
}

fn is_number(form: Form) -> bool {
    match form {
        Form::Positive | Form::Count | Form::Number | Form::Fraction => true,
        Form::Text(_) | Form::Currency | Form::Country | Form::AssetType | Form::Date | Form::Year | Form::YesNo => false,
        Form::Frequency | Form::TerminalNoiBasis | Form::Years => false,
    }
}

/// The fact that a row states, or everything that is wrong with it.
fn fact(table: &Table, writing: &Writing, row: &StringRecord, at: u64, out: &mut Facts) -> Result<Option<Found>, Vec<String>> {
    match table {
        Table::Sales { columns, currency } => sale(columns, *currency, writing, row).map(|value| {
            Some(Found {
                path: COMPARABLE.to_owned(),
                value,
                locator: Locator::CsvCell {
                    row: at,
                    column: String::new(),
                },
            })
        }),
        Table::Single { key, value, header } => {
            let name = row.get(*key).unwrap_or_default();
            let Some(field) = single(name) else {
                out.notes.push(format!("ignored: row {at}: {} is not known", quoted(name)));
                return Ok(None);
            };
            let cell = row.get(*value).unwrap_or_default().trim();
            if cell.is_empty() {
                return Ok(None);
            }
            let found = single_value(field, writing, *value, cell).map_err(|why| vec![format!("{}: {why}", field.path)])?;
            Ok(Some(Found {
                path: field.path.to_owned(),
                value: found,
                locator: Locator::CsvCell {
                    row: at,
                    column: header.clone(),
                },
            }))
        }
    }
}

fn single_value(field: &Field, writing: &Writing, place: usize, cell: &str) -> Result<Value, String> {
    if is_number(field.form) {
        let (text, bare) = writing.number(place, cell)?;
        value(field.form, &fraction(text, &bare, field.form)?)
    } else {
        value(field.form, cell)
    }
}

/// Reads a row of a table of sales.
fn sale(columns: &[Option<&'static Column>], currency: Option<&str>, writing: &Writing, row: &StringRecord) -> Result<Value, Vec<String>> {
    let mut texts: Vec<(&'static str, String)> = Vec::new();
    let mut problems = Vec::new();
    let mut euro = false;
    for (place, column) in columns.iter().enumerate() {
        let (Some(column), Some(cell)) = (column, row.get(place).map(str::trim).filter(|c| !c.is_empty())) else {
            continue;
        };
        if !is_number(column.form) {
            texts.push((column.name, cell.to_owned()));
            continue;
        }
        let read = writing.number(place, cell).and_then(|(text, bare)| {
            euro |= bare.euro && column.name == PRICE;
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
    comparable(|name| match name {
        CURRENCY => currency.as_deref(),
        _ => texts.iter().find(|(n, _)| *n == name).map(|(_, t)| t.as_str()),
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

#[cfg(test)]
mod tests;
