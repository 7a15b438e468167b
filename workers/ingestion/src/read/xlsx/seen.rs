//! What stands on the sheets of a workbook: blocks of rows are tables, or labels with a value beside them.

use std::io::Cursor;

use calamine::{Reader as _, SheetVisible, Xlsx};
use messages::facts::Locator;

use super::MAX_SHEETS;
use super::archive::measure;
use super::cells::{Book, Budget, Row, a1, rows};
use crate::read::Facts;
use crate::read::headers::single;
use crate::read::seen::{Seen, is_label};
use crate::read::table::Table;

pub(in crate::read) fn see(bytes: &[u8], seen: &mut Seen) {
    if !matches!(measure(bytes), Ok(None)) {
        return;
    }
    let Ok(mut book): Result<Book, _> = Xlsx::new(Cursor::new(bytes)) else {
        return;
    };
    let visible = book.sheets_metadata().iter().filter(|s| s.visible == SheetVisible::Visible);
    let names: Vec<String> = visible.take(MAX_SHEETS).map(|s| s.name.clone()).collect();
    let mut budget = Budget::default();
    for name in names {
        let Ok(Some(rows)) = rows(&mut book, &name, &mut budget) else {
            continue;
        };
        for block in rows.chunk_by(|a, b| a.row + 1 == b.row) {
            see_block(&name, block, seen);
        }
    }
}

/// Rows without an empty one between them.
fn see_block(sheet: &str, block: &[Row], seen: &mut Seen) {
    let at = |cell: String| Locator::SheetCell {
        sheet: sheet.to_owned(),
        cell,
    };
    // A table may have one column; then its name must look like one.
    let is_header = |r: &Row| match r.cells.as_slice() {
        [only] => !only.typed && is_label(&only.text) && block.iter().all(|r| r.cells.len() == 1),
        cells => cells.iter().all(|c| !c.typed),
    };
    let header = block.iter().position(is_header);
    let Some((header, body)) = header.and_then(|h| Some((block.get(h)?, block.get(h + 1..)?))) else {
        return see_labels(block, at, seen);
    };
    let full = body.iter().filter(|r| r.cells.len() > 1 || header.cells.len() == 1).count();
    // Two columns of text are labels and what they label, more likely than a table.
    let pairs = header.cells.len() == 2 && !body.iter().all(|r| r.cells.get(1).is_some_and(|c| c.typed));
    if full == 0 || pairs {
        return see_labels(block, at, seen);
    }
    let names: Vec<&str> = header.cells.iter().map(|c| c.text.as_str()).collect();
    if let Err(why) = Table::of(&names, &mut Facts::by("")) {
        let ends = header.cells.first().zip(header.cells.last());
        let cell = ends.map(|(a, b)| format!("{}:{}", a1(a.column, header.row), a1(b.column, header.row)));
        seen.table(names.into_iter(), full as u64, why, at(cell.unwrap_or_default()));
    }
}

fn see_labels(block: &[Row], at: impl Fn(String) -> Locator, seen: &mut Seen) {
    for row in block {
        let mut cells = row.cells.iter().peekable();
        while let Some(label) = cells.next() {
            let name = label.text.trim().trim_end_matches(':');
            if let Some(value) = cells.next_if(|v| v.column == label.column + 1 && !label.typed && is_label(name))
                && single(name).is_none()
            {
                seen.labelled(name, &value.text, at(a1(value.column, row.row)));
            }
        }
    }
}
