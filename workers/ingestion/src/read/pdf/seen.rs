//! Labels with a value behind them on the lines of a PDF's pages.

use lopdf::{Document, LoadOptions};
use messages::facts::Locator;

use super::labels::knows;
use super::lines::{self, TAB};
use super::{MAX_CONTENT, MAX_STREAM};
use crate::read::seen::{Seen, is_label};

/// Pages that are looked at; more would not be shown.
const MAX_PAGES: usize = 50;
/// Characters of a quote.
const MAX_QUOTE: usize = 200;

pub(in crate::read) fn see(bytes: &[u8], seen: &mut Seen) {
    let start = bytes.windows(5).take(1024).position(|w| w == b"%PDF-").unwrap_or(0);
    let options = LoadOptions::with_max_decompressed_size(MAX_STREAM);
    let Ok(document) = Document::load_mem_with_options(bytes.get(start..).unwrap_or(bytes), options) else {
        return;
    };
    if document.is_encrypted() && document.encryption_state.is_none() {
        return;
    }
    let mut left = MAX_CONTENT;
    let mut first = None;
    for (number, page) in (1u32..).zip(document.page_iter().take(MAX_PAGES)) {
        let Ok(content) = document.get_page_content_with_limit(page, MAX_STREAM.min(left)) else {
            continue;
        };
        left = left.saturating_sub(content.len());
        for line in lines::of_page(&document, page, &content).unwrap_or_default() {
            see_line(number, &line, seen);
            if first.is_none() && !line.trim().is_empty() {
                first = Some((number, line.replace(TAB, " ")));
            }
        }
    }
    if let (true, Some((page, line))) = (seen.sights.is_empty(), first) {
        let quote = line.chars().take(MAX_QUOTE).collect();
        seen.text(&line, Locator::PdfPage { page, quote });
    }
}

fn see_line(page: u32, line: &str, seen: &mut Seen) {
    let columns: Vec<&str> = line.split(TAB).map(str::trim).filter(|c| !c.is_empty()).collect();
    let mut at = 0;
    while let Some(column) = columns.get(at) {
        let next = columns.get(at + 1).copied();
        let pair = match (column.split_once(':'), next) {
            (Some((label, value)), _) if value.starts_with(char::is_whitespace) => Some((label, value.trim())),
            (Some((label, "")), Some(next)) => Some((label, next)),
            (None, Some(next)) if columns.len() == 2 => Some((*column, next)),
            (Some(_) | None, _) => None,
        };
        at += 1;
        if let Some((label, value)) = pair
            && is_label(label)
            && !value.is_empty()
            && !knows(label)
        {
            at += usize::from(next == Some(value));
            let quote = line.replace(TAB, " ").chars().take(MAX_QUOTE).collect();
            seen.labelled(label, value, Locator::PdfPage { page, quote });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::seen::What;

    #[test]
    fn labels_that_we_do_not_know_are_seen_and_prose_is_not() {
        let lines = [
            "Plazas de garaje: 2".to_owned(),
            format!("Planta{TAB}Tercera"),
            format!("Expediente:{TAB}2026/114"),
            "Superficie construida: 96,50 m²".to_owned(),
            "Visto a las 10:30 por el técnico, que lo halla conforme".to_owned(),
        ];
        let mut seen = Seen::default();
        for line in &lines {
            see_line(3, line, &mut seen);
        }
        let labelled: Vec<(String, String)> = seen
            .sights
            .iter()
            .filter_map(|s| match (&s.what, &s.locator) {
                (What::Labelled { label, value }, Locator::PdfPage { page: 3, .. }) => Some((label.clone(), value.clone())),
                (What::Labelled { .. } | What::Table { .. } | What::Text { .. }, _) => None,
            })
            .collect();
        let expected = [("Plazas de garaje", "2"), ("Planta", "Tercera"), ("Expediente", "2026/114")];
        assert_eq!(labelled, expected.map(|(l, v)| (l.to_owned(), v.to_owned())));
    }
}
