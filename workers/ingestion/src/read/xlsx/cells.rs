//! The cells of a sheet, one after the other, as text.

use std::io::Cursor;

use calamine::{DataRef, ExcelDateTime, ExcelDateTimeType, Xlsx, XlsxError};
use rust_decimal::Decimal;

use crate::read::Refusal;

/// Cells of all sheets.
const MAX_CELLS: usize = 2_000_000;
/// Bytes of text in the cells of all sheets.
const MAX_TEXT: usize = 64 * 1024 * 1024;
/// Excel's day numbers of the years 1954 to 2119: a bare number in a column of dates is one of these.
const SERIALS: std::ops::RangeInclusive<i64> = 20_000..=80_000;

pub(super) type Book<'b> = Xlsx<Cursor<&'b [u8]>>;

pub(super) fn broken(why: &impl std::fmt::Display) -> Refusal {
    let why: String = why.to_string().chars().take(200).collect();
    Refusal::malformed(format!("the workbook is broken: {why}"))
}

/// What is left of the limits of a workbook.
pub(super) struct Budget {
    pub cells: usize,
    pub text: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            cells: MAX_CELLS,
            text: MAX_TEXT,
        }
    }
}

/// A cell that has a value.
pub(super) struct Kept {
    pub column: u32,
    pub text: String,
    /// It is a number, not text that looks like one.
    pub typed: bool,
    /// A bare number that is some day, if it is in a column of dates.
    pub day: Option<String>,
}

/// A row that has cells; counted from 0, as columns are.
pub(super) struct Row {
    pub row: u32,
    pub cells: Vec<Kept>,
}

/// The rows of a sheet that have cells; `None` when it is no sheet of cells.
pub(super) fn rows(book: &mut Book, name: &str, budget: &mut Budget) -> Result<Option<Vec<Row>>, Refusal> {
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

/// A cell's name: column 0 of row 0 is `A1`.
pub(super) fn a1(column: u32, row: u32) -> String {
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
