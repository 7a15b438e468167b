//! Workbooks (`.xlsx`): the tables on their sheets, and labels with a value beside them.
//!
//! The archive is measured before anything is unpacked. Cells are then read one after the other; a sheet is never laid
//! out as a grid, so that a lone cell in the last corner costs one cell. Formulas count by the value that the
//! spreadsheet program stored with them.

mod archive;
mod cells;
mod seen;

use std::io::Cursor;

use calamine::{Reader as _, SheetVisible, Xlsx, XlsxError};
use messages::facts::Locator;

use super::dialect::Evidence;
use super::headers::{normal, single};
use super::table::{Cell, Table, Writing};
use super::{Facts, MAX_COMPARABLES, Reading, Refusal};
use crate::fields::{Form, quoted};
use archive::measure;
use cells::{Book, Budget, Kept, Row, a1, broken, rows};
pub(super) use seen::see;

pub(super) const EXTRACTOR: &str = "xlsx/1";
/// Sheets that are looked at.
const MAX_SHEETS: usize = 100;
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
    let mut budget = Budget::default();
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
