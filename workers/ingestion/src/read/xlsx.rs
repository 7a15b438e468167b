//! Workbooks (`.xlsx`): the tables on their sheets, and labels with a value beside them.
//!
//! The archive is measured before anything is unpacked. Cells are then read one after the other; a sheet is never laid
//! out as a grid, so that a lone cell in the last corner costs one cell. Formulas count by the value that the
//! spreadsheet program stored with them.

use std::io::{Cursor, Read as _};

use calamine::{DataRef, ExcelDateTime, ExcelDateTimeType, Reader as _, SheetVisible, Xlsx, XlsxError};
use messages::facts::Locator;
use rust_decimal::Decimal;

use super::dialect::Evidence;
use super::headers::{normal, single};
use super::table::{Cell, Table, Writing};
use super::{Facts, MAX_COMPARABLES, Reading, Refusal};
use crate::fields::{Form, quoted};

pub(super) const EXTRACTOR: &str = "xlsx/1";
/// Entries of the archive.
const MAX_ENTRIES: usize = 10_000;
/// Bytes of all entries, unpacked.
const MAX_INFLATED: u64 = 512 * 1024 * 1024;
/// How many times larger than packed the entries may be, once they are past [`RATIO_FROM`].
const MAX_RATIO: u64 = 200;
const RATIO_FROM: u64 = 10 * 1024 * 1024;
/// Cells of all sheets.
const MAX_CELLS: usize = 2_000_000;
/// Bytes of text in the cells of all sheets.
const MAX_TEXT: usize = 64 * 1024 * 1024;
/// Sheets that are looked at.
const MAX_SHEETS: usize = 100;
/// Excel's day numbers of the years 1954 to 2119: a bare number in a column of dates is one of these.
const SERIALS: std::ops::RangeInclusive<i64> = 20_000..=80_000;

type Book<'b> = Xlsx<Cursor<&'b [u8]>>;

/// Reads a ZIP archive: a workbook, or something else that is packed.
pub(super) fn read(bytes: &[u8]) -> Result<Reading, Refusal> {
    if let Some(other) = measure(bytes)? {
        return Ok(other);
    }
    let mut book: Book = match Xlsx::new(Cursor::new(bytes)) {
        Ok(book) => book,
        Err(XlsxError::Password) => return Ok(Reading::NeedsPassword(super::password())),
        Err(e) => return Err(broken(&e)),
    };
    let sheets: Vec<(String, bool)> = book
        .sheets_metadata()
        .iter()
        .map(|s| (s.name.clone(), s.visible == SheetVisible::Visible))
        .collect();
    let mut out = Facts::by(EXTRACTOR);
    let mut budget = Budget {
        cells: MAX_CELLS,
        text: MAX_TEXT,
    };
    let mut reasons = Vec::new();
    for (at, (name, visible)) in sheets.into_iter().enumerate() {
        if !visible || at >= MAX_SHEETS {
            out.notes
                .push(format!("ignored: the sheet {} is hidden, or one too many", quoted(&name)));
            continue;
        }
        let rows = match rows(&mut book, &name, &mut budget) {
            Ok(Some(rows)) => rows,
            Ok(None) => continue,
            Err(e) => return Err(e),
        };
        let sheet = Sheet { name: &name, rows: &rows };
        if !sheet.read(&mut out)? {
            reasons.push(quoted(&name));
        }
    }
    if out.facts.is_empty() && out.problems.is_empty() {
        let text = format!(
            "the workbook is stored, but no facts were taken from it: no table or label that we know is on {}",
            if reasons.is_empty() {
                "any sheet".to_owned()
            } else {
                reasons.join(", ")
            }
        );
        return Ok(Reading::NotRead(Refusal::new("not-recognised", text)));
    }
    for name in reasons {
        out.notes
            .push(format!("ignored: the sheet {name} has no table or label that we know"));
    }
    Ok(Reading::Facts(out))
}

fn broken(why: &impl std::fmt::Display) -> Refusal {
    let why: String = why.to_string().chars().take(200).collect();
    Refusal::malformed(format!("the workbook is broken: {why}"))
}

/// Keeps the archive to the limits, and says what it is when it is no workbook.
fn measure(bytes: &[u8]) -> Result<Option<Reading>, Refusal> {
    let bomb = |why: String| {
        let text = format!("{why}: it is kept aside, nothing was unpacked; look at it before sending it again in another form");
        Ok(Some(Reading::Quarantined(Refusal::new("limits-exceeded", text))))
    };
    let mut archive =
        zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| Refusal::malformed(format!("the archive is broken or cut off: {e}")))?;
    if archive.len() > MAX_ENTRIES {
        return bomb(format!("the archive has more than {MAX_ENTRIES} entries"));
    }
    let (mut packed, mut unpacked) = (0u64, 0u64);
    let (mut workbook, mut word, mut binary) = (false, false, false);
    for index in 0..archive.len() {
        let entry = archive
            .by_index_raw(index)
            .map_err(|e| Refusal::malformed(format!("the archive is broken: {e}")))?;
        if entry.encrypted() {
            return Ok(Some(Reading::NeedsPassword(super::password())));
        }
        packed = packed.saturating_add(entry.compressed_size());
        unpacked = unpacked.saturating_add(entry.size());
        workbook |= entry.name_raw() == b"xl/workbook.xml";
        binary |= entry.name_raw() == b"xl/workbook.bin";
        word |= entry.name_raw().starts_with(b"word/");
    }
    if unpacked > MAX_INFLATED || (unpacked > RATIO_FROM && unpacked / MAX_RATIO > packed) {
        return bomb(format!("the archive of {packed} bytes would unpack to {unpacked}"));
    }
    if !workbook {
        let (code, what) = if word || binary {
            ("not-read-yet", "files of this type are not read yet")
        } else {
            ("archive", "archives are not unpacked: send the files in it one by one")
        };
        let text = format!("the document is stored, but no facts were taken from it: {what}");
        return Ok(Some(Reading::NotRead(Refusal::new(code, text))));
    }
    // What the list of entries says can be a lie: each entry is unpacked once, to nothing, up to what it announced.
    for index in 0..archive.len() {
        let entry = archive
            .by_index(index)
            .map_err(|e| Refusal::malformed(format!("the archive is broken: {e}")))?;
        let announced = entry.size();
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let real = std::io::copy(&mut entry.take(announced + 1), &mut std::io::sink())
            .map_err(|e| Refusal::malformed(format!("{} of the archive is broken or cut off: {e}", quoted(&name))))?;
        if real > announced {
            return bomb(format!("{} of the archive unpacks to more than it announces", quoted(&name)));
        }
    }
    Ok(None)
}

/// What is left of the limits of a workbook.
struct Budget {
    cells: usize,
    text: usize,
}

/// A cell that has a value.
struct Kept {
    column: u32,
    text: String,
    /// It is a number, not text that looks like one.
    typed: bool,
    /// A bare number that is some day, if it is in a column of dates.
    day: Option<String>,
}

/// A row that has cells; counted from 0, as columns are.
struct Row {
    row: u32,
    cells: Vec<Kept>,
}

/// The rows of a sheet that have cells; `None` when it is no sheet of cells.
fn rows(book: &mut Book, name: &str, budget: &mut Budget) -> Result<Option<Vec<Row>>, Refusal> {
    let is_1904 = book.has_1904_epoch();
    let mut reader = match book.worksheet_cells_reader(name) {
        Ok(reader) => reader,
        Err(XlsxError::NotAWorksheet(_)) => return Ok(None),
        Err(e) => return Err(broken(&e)),
    };
    let mut rows: Vec<Row> = Vec::new();
    while let Some(cell) = reader.next_cell().map_err(|e| broken(&e))? {
        budget.cells = budget
            .cells
            .checked_sub(1)
            .ok_or_else(|| Refusal::too_large(format!("the workbook has more than {MAX_CELLS} cells: send it in parts")))?;
        let (row, column) = cell.get_position();
        let Some((text, typed, day)) = text_of(cell.get_value(), is_1904) else {
            continue;
        };
        budget.text = budget
            .text
            .checked_sub(text.len())
            .ok_or_else(|| Refusal::too_large(format!("the workbook has more than {MAX_TEXT} bytes of text: send it in parts")))?;
        let kept = Kept { column, text, typed, day };
        match rows.last_mut() {
            Some(last) if last.row == row => last.cells.push(kept),
            Some(_) | None => rows.push(Row { row, cells: vec![kept] }),
        }
    }
    Ok(Some(rows))
}

/// A value as text, whether it is a number, and the day that the number may be.
fn text_of(value: &DataRef<'_>, is_1904: bool) -> Option<(String, bool, Option<String>)> {
    let day = |serial: i64| {
        // Day numbers are far below 2^53.
        let day = ExcelDateTime::new(serial as f64, ExcelDateTimeType::DateTime, is_1904);
        SERIALS.contains(&serial).then(|| date(&day))
    };
    match value {
        DataRef::Int(n) => Some((n.to_string(), true, day(*n))),
        DataRef::Float(n) => {
            let whole = n.fract() == 0.0 && n.abs() < 1e9;
            Some((plain(*n), true, if whole { day(*n as i64) } else { None }))
        }
        DataRef::String(s) => text(s),
        DataRef::SharedString(s) => text(s),
        DataRef::Bool(b) => Some((b.to_string(), false, None)),
        DataRef::DateTime(d) if d.is_duration() => Some((plain(d.as_f64()), true, None)),
        DataRef::DateTime(d) => Some((date(d), false, None)),
        DataRef::DateTimeIso(s) => Some((s.split('T').next().unwrap_or(s).to_owned(), false, None)),
        DataRef::DurationIso(s) => text(s),
        DataRef::Error(e) => Some((e.to_string(), false, None)),
        DataRef::Empty => None,
    }
}

fn text(s: &str) -> Option<(String, bool, Option<String>)> {
    let s = s.trim();
    (!s.is_empty()).then(|| (s.to_owned(), false, None))
}

fn date(d: &ExcelDateTime) -> String {
    let (year, month, day, ..) = d.to_ymd_hms_milli();
    format!("{year:04}-{month:02}-{day:02}")
}

/// A number as spreadsheets show it: they hold binary fractions and keep 15 digits of them.
fn plain(n: f64) -> String {
    let digits = format!("{n:.14e}");
    Decimal::from_scientific(&digits).map_or(digits, |d| d.normalize().to_string())
}

struct Sheet<'s> {
    name: &'s str,
    rows: &'s [Row],
}

impl Sheet<'_> {
    /// Takes the facts of the sheet; `false` when it has nothing that we know.
    fn read(&self, out: &mut Facts) -> Result<bool, Refusal> {
        let before = (out.facts.len(), out.problems.is_empty());
        let mut loose = Vec::new();
        let mut at = 0;
        let mut tables = 0;
        while let Some(row) = self.rows.get(at) {
            match header(row, out) {
                Some(table) => {
                    tables += 1;
                    at = self.table(at, &table, out)?;
                }
                None => {
                    loose.push(row);
                    at += 1;
                }
            }
        }
        self.labels(&loose, out);
        Ok(tables > 0 || before != (out.facts.len(), out.problems.is_empty()))
    }

    /// Reads the table whose header is the row at `from`; returns where it ends.
    fn table(&self, from: usize, (table, first): &(Table, u32), out: &mut Facts) -> Result<usize, Refusal> {
        let header = self.rows.get(from).map_or(&[][..], |r| &r.cells);
        let width = header.last().map_or(0, |c| (c.column - first) as usize + 1);
        let below = self.rows.get(from + 1..).unwrap_or_default();
        let end = below
            .iter()
            .position(|row| is_total(row) || self::header(row, &mut Facts::by(EXTRACTOR)).is_some())
            .unwrap_or(below.len());
        let body = below.get(..end).unwrap_or_default();
        let mut evidence = vec![Evidence::default(); width];
        for row in body {
            Writing::see(&mut evidence, table, &cells(row, *first, width, table));
        }
        let writing = Writing::decide(evidence);
        for row in body {
            let cells = cells(row, *first, width, table);
            let number = row.row + 1;
            // A remark under the table, not a row of it.
            if cells.iter().filter(|c| !c.text.is_empty()).count() < 2 {
                out.notes
                    .push(format!("ignored: row {number} of {} has no two cells", quoted(self.name)));
                continue;
            }
            let locate = |place: Option<usize>| {
                let cell = match place {
                    Some(place) => a1(first + place as u32, row.row),
                    None => format!("{}:{}", a1(*first, row.row), a1(first + width as u32 - 1, row.row)),
                };
                self.at(cell)
            };
            match table.fact(&writing, &cells, locate, out) {
                Ok(Some(found)) if out.facts.len() < MAX_COMPARABLES => out.facts.push(found),
                Ok(Some(_)) => return Err(Refusal::too_large(format!("there are more than {MAX_COMPARABLES} rows with facts"))),
                Ok(None) => {}
                Err(why) => out
                    .problems
                    .push(format!("{} row {number} was left out: {}", quoted(self.name), why.join("; "))),
            }
        }
        let total = below.get(end).is_some_and(is_total);
        Ok(from + 1 + end + usize::from(total))
    }

    /// Takes labels that we know with the value in the next cell; one alone may be a coincidence.
    fn labels(&self, rows: &[&Row], out: &mut Facts) {
        let mut pairs = Vec::new();
        for row in rows {
            let mut cells = row.cells.iter().peekable();
            while let Some(label) = cells.next() {
                let field = Some(label).filter(|c| !c.typed).and_then(|c| single(c.text.trim_end_matches(':')));
                if let (Some(field), Some(value)) = (field, cells.peek())
                    && value.column == label.column + 1
                {
                    pairs.push((field, *value, row.row));
                }
            }
        }
        if pairs.len() < 2 {
            return;
        }
        let mut evidence = Evidence::default();
        pairs
            .iter()
            .filter(|(_, v, _)| !v.typed)
            .for_each(|(_, v, _)| evidence.see(&v.text));
        for (field, value, row) in pairs {
            let at = a1(value.column, row);
            let table = Table::Single { key: 0, value: 1 };
            let mut own = Evidence::default();
            if !value.typed {
                own.see(&value.text);
            }
            // The first place only lends the sheet's evidence.
            let writing = Writing::decide(vec![evidence, own]);
            let cells = [
                Cell {
                    text: field.path,
                    typed: false,
                },
                shown(value, field.form),
            ];
            match table.fact(&writing, &cells, |_| self.at(at.clone()), out) {
                Ok(Some(found)) => out.facts.push(found),
                Ok(None) => {}
                Err(why) => out.problems.push(format!("{} {at}: {}", quoted(self.name), why.join("; "))),
            }
        }
    }

    fn at(&self, cell: String) -> Locator {
        Locator::SheetCell {
            sheet: self.name.to_owned(),
            cell,
        }
    }
}

/// The table that a row is the whole header of, and its first column.
fn header(row: &Row, out: &mut Facts) -> Option<(Table, u32)> {
    if row.cells.len() < 2 || row.cells.iter().any(|c| c.typed) {
        return None;
    }
    let first = row.cells.first()?.column;
    let width = (row.cells.last()?.column - first) as usize + 1;
    if width > super::MAX_COLUMNS {
        return None;
    }
    let mut names = vec![""; width];
    for cell in &row.cells {
        if let Some(name) = names.get_mut((cell.column - first) as usize) {
            *name = &cell.text;
        }
    }
    // What is only almost a header leaves no notes.
    let mut notes = Facts::by(EXTRACTOR);
    let table = Table::of(&names, &mut notes).ok()?;
    out.notes.append(notes.notes);
    Some((table, first))
}

/// The cells of a row under a header.
fn cells<'r>(row: &'r Row, first: u32, width: usize, table: &Table) -> Vec<Cell<'r>> {
    let mut cells = vec![Cell::default(); width];
    for kept in &row.cells {
        let place = kept.column.checked_sub(first).map(|p| p as usize);
        if let Some((cell, place)) = place.and_then(|p| cells.get_mut(p).map(|c| (c, p))) {
            *cell = shown(kept, table.form(place, row.cells.first().map(|c| c.text.as_str())));
        }
    }
    cells
}

fn shown(kept: &Kept, form: impl Into<Option<Form>>) -> Cell<'_> {
    match (&kept.day, form.into()) {
        (Some(day), Some(Form::Date)) => Cell { text: day, typed: false },
        (Some(_) | None, _) => Cell {
            text: &kept.text,
            typed: kept.typed,
        },
    }
}

fn is_total(row: &Row) -> bool {
    row.cells.first().is_some_and(|c| {
        normal(&c.text)
            .split('_')
            .next()
            .is_some_and(|w| matches!(w, "total" | "totales" | "subtotal" | "suma"))
    })
}

/// A cell's name: column 0 of row 0 is `A1`.
fn a1(column: u32, row: u32) -> String {
    let mut letters = Vec::new();
    let mut rest = column + 1;
    while rest > 0 {
        let digit = (rest - 1) % 26;
        // Less than 26.
        letters.push(char::from(b'A' + digit as u8));
        rest = (rest - 1) / 26;
    }
    letters.reverse();
    format!("{}{}", letters.into_iter().collect::<String>(), row + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_the_names_that_spreadsheets_give_them() {
        for (column, row, want) in [(0, 0, "A1"), (25, 8, "Z9"), (26, 0, "AA1"), (16_383, 1_048_575, "XFD1048576")] {
            assert_eq!(a1(column, row), want);
        }
    }

    #[test]
    fn a_binary_fraction_becomes_the_number_that_was_typed() {
        for (n, want) in [
            (0.1 + 0.2, "0.3"),
            (96.5, "96.5"),
            (1998.0, "1998"),
            (-0.02, "-0.02"),
            (478_000.0, "478000"),
            (0.0, "0"),
        ] {
            assert_eq!(plain(n), want);
        }
    }
}
