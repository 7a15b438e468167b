//! Tables: comparable sales, or single facts as key and value.
//!
//! The text is gone through twice: first to learn how its numbers are written and that it keeps within the limits,
//! then to read it. Nothing but the facts is kept.

use ::csv::StringRecord;
use messages::facts::Locator;

use super::dialect::{Evidence, delimiter, rows};
use super::seen::Seen;
use super::table::{Cell, Table, Writing};
use super::{Facts, MAX_COLUMNS, MAX_COMPARABLES, MAX_FIELD, MAX_ROWS, Reading, Refusal};

pub(super) const EXTRACTOR: &str = "csv/1";

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
    let table = match Table::of(&header.iter().collect::<Vec<_>>(), &mut out) {
        Ok(table) => table,
        Err(why) => return not_recognised(why),
    };
    let writing = learn(text, delimiter, &table, header.len())?;
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
            let column = |place: Option<usize>| place.and_then(|p| header.get(p)).unwrap_or_default();
            let locate = |place| Locator::CsvCell {
                row: at,
                column: column(place).chars().take(100).collect(),
            };
            table.fact(&writing, &cells(&row), locate, &mut out)
        };
        match read {
            Ok(Some(found)) => {
                kept += 1;
                if kept > MAX_COMPARABLES {
                    return Err(Refusal::too_large(format!("there are more than {MAX_COMPARABLES} rows with facts")));
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

/// Sees the table, when no facts are taken from it.
pub(super) fn see(text: &str, seen: &mut Seen) {
    let Some(delimiter) = delimiter(text, true) else { return };
    let too_wide = |line: &str| line.bytes().filter(|b| *b == delimiter).count() >= MAX_COLUMNS;
    if text.split('\n').any(too_wide) {
        return;
    }
    let mut reader = rows(text, delimiter);
    let mut header = StringRecord::new();
    if !matches!(next(&mut reader, &mut header), Ok(true)) {
        return;
    }
    let names: Vec<&str> = header.iter().collect();
    if let Err(why) = Table::of(&names, &mut Facts::by(EXTRACTOR)) {
        let mut row = StringRecord::new();
        let mut count = 0;
        while count <= MAX_ROWS && matches!(next(&mut reader, &mut row), Ok(true)) {
            count += 1;
        }
        let locator = Locator::CsvCell {
            row: 0,
            column: String::new(),
        };
        seen.table(names.into_iter(), count, why, locator);
    }
}

/// The next row; `false` at the end.
fn next(reader: &mut ::csv::Reader<&[u8]>, row: &mut StringRecord) -> Result<bool, Refusal> {
    reader
        .read_record(row)
        .map_err(|e| Refusal::malformed(format!("line {} is not a row of a table: {e}", reader.position().line())))
}

fn cells(row: &StringRecord) -> Vec<Cell<'_>> {
    row.iter().map(|text| Cell { text, typed: false }).collect()
}

/// Learns how the numbers are written: goes through the whole text, which also keeps it to the limits.
fn learn(text: &str, delimiter: u8, table: &Table, width: usize) -> Result<Writing, Refusal> {
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
            Writing::see(&mut columns, table, &cells(&row));
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
    Ok(Writing::decide(columns))
}

#[cfg(test)]
mod tests;
