//! How a table was written: what separates its columns, and what its points and commas mean.

use super::headers;
use crate::fields::quoted;

/// Rows that are looked at to find the separator.
const SAMPLE_ROWS: usize = 20;
/// Bytes of the beginning that are looked at.
const SAMPLE: usize = 64 * 1024;

/// A reader of rows; a row may have any number of cells.
pub(super) fn rows(text: &str, delimiter: u8) -> ::csv::Reader<&[u8]> {
    ::csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes())
}

/// What separates the columns, when the text looks like a table: its header has names that we know, or all its rows
/// have the same number of cells, two or more. `whole` says that the text does not end in the middle.
pub(crate) fn delimiter(text: &str, whole: bool) -> Option<u8> {
    let sample = text.get(..text.floor_char_boundary(SAMPLE)).unwrap_or(text);
    let whole = whole && sample.len() == text.len();
    [b';', b',', b'\t']
        .into_iter()
        .filter_map(|candidate| score(sample, candidate, whole).map(|score| (score, candidate)))
        // The earlier candidate wins a tie.
        .rev()
        .max_by_key(|(score, _)| *score)
        .map(|(_, candidate)| candidate)
}

/// How well a separator fits: names known in the header, then columns.
fn score(sample: &str, delimiter: u8, whole: bool) -> Option<(usize, usize)> {
    let mut lengths = Vec::new();
    let mut reader = rows(sample, delimiter);
    let mut header = None;
    for row in reader.records().take(SAMPLE_ROWS) {
        let row = row.ok()?;
        lengths.push(row.len());
        header.get_or_insert(row);
    }
    if !whole && lengths.len() > 1 && lengths.len() < SAMPLE_ROWS {
        lengths.pop();
    }
    let header = header.filter(|h| h.len() >= 2)?;
    let known = headers::known(&header.iter().collect::<Vec<_>>());
    let even = lengths.len() >= 2 && lengths.iter().all(|l| *l == header.len());
    (known >= 2 || even).then_some((known, header.len()))
}

/// What stands before the decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decimals {
    /// `405,000.50`
    Point,
    /// `405.000,50`
    Comma,
}

/// What the numbers of a column, or of a file, tell about the way they are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    point: bool,
    comma: bool,
    /// `1.250` alone can be one thousand or one and a quarter.
    ambiguous: bool,
}

impl Evidence {
    /// Learns from a cell; one that is no number teaches nothing.
    pub fn see(&mut self, cell: &str) {
        let bare = Bare::of(cell);
        let number = bare.number.trim_start_matches(['-', '+']);
        if !number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b',')) {
            return;
        }
        let (points, commas) = (number.matches('.').count(), number.matches(',').count());
        match (points, commas) {
            (0, 0) => {}
            (1, 0) | (0, 1) => {
                let (before, after) = number.split_once(['.', ',']).unwrap_or_default();
                let thousands = after.len() == 3 && (1..=3).contains(&before.len()) && !before.starts_with('0');
                match (thousands, points) {
                    (true, _) => self.ambiguous = true,
                    (false, 1) => self.point = true,
                    (false, _) => self.comma = true,
                }
            }
            // What stands several times separates thousands.
            (_, 0) => self.comma = true,
            (0, _) => self.point = true,
            (_, _) if number.rfind('.') > number.rfind(',') => self.point = true,
            (_, _) => self.comma = true,
        }
    }

    /// What both tell.
    pub fn and(self, other: Self) -> Self {
        Self {
            point: self.point || other.point,
            comma: self.comma || other.comma,
            ambiguous: self.ambiguous || other.ambiguous,
        }
    }

    /// The way a column is written: by what its own numbers tell, else by what the whole file's do.
    ///
    /// # Errors
    /// In words, when nothing tells, or the column contradicts itself.
    pub fn decide(self, file: Self) -> Result<Decimals, &'static str> {
        match (self.point, self.comma) {
            (true, false) => Ok(Decimals::Point),
            (false, true) => Ok(Decimals::Comma),
            (true, true) => Err("the column mixes decimal points and decimal commas"),
            (false, false) if !self.ambiguous => Ok(Decimals::Point),
            (false, false) => match (file.point, file.comma) {
                (true, false) => Ok(Decimals::Point),
                (false, true) => Ok(Decimals::Comma),
                (true, true) | (false, false) => {
                    Err("it can be thousands or decimals: write it without a thousands separator, or with decimals")
                }
            },
        }
    }
}

/// A number without what people write around it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bare {
    /// Digits, sign and separators, if it is a number at all.
    pub number: String,
    pub euro: bool,
    pub percent: bool,
}

impl Bare {
    pub fn of(cell: &str) -> Self {
        let cell = cell.trim();
        let percent = cell.ends_with('%');
        let euro = cell.starts_with('€') || cell.ends_with('€');
        let number = cell.trim_end_matches('%').trim_matches('€').trim();
        // A space inside, also one that does not break the line, separates thousands.
        let number = number.replace([' ', '\u{a0}', '\u{202f}'], "");
        Self { number, euro, percent }
    }
}

/// The number as plain text: digits, at most one point.
///
/// # Errors
/// In words, when its separators do not stand where the way of writing has them.
pub(super) fn plain(number: &str, decimals: Decimals) -> Result<String, String> {
    let (thousands, point) = match decimals {
        Decimals::Point => (',', '.'),
        Decimals::Comma => ('.', ','),
    };
    let refused = || format!("{} is not a number", quoted(number));
    let (sign, digits) = match number.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = match digits.split_once(point) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let mut groups = whole.split(thousands);
    let first = groups.next().unwrap_or_default();
    let mut joined = first.to_owned();
    let mut grouped = false;
    for group in groups {
        if group.len() != 3 {
            return Err(refused());
        }
        grouped = true;
        joined.push_str(group);
    }
    let sound = !first.is_empty()
        && (!grouped || first.len() <= 3)
        && joined.bytes().all(|b| b.is_ascii_digit())
        && fraction.is_none_or(|f| !f.is_empty() && f.bytes().all(|b| b.is_ascii_digit()));
    if !sound {
        return Err(refused());
    }
    Ok(match fraction {
        Some(fraction) => format!("{sign}{joined}.{fraction}"),
        None => format!("{sign}{joined}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(column: &[&str], file: &[&str]) -> Result<Decimals, &'static str> {
        let mut evidence = [Evidence::default(); 2];
        for (evidence, cells) in evidence.iter_mut().zip([column, file]) {
            cells.iter().for_each(|c| evidence.see(c));
        }
        evidence[0].decide(evidence[1])
    }

    #[test]
    fn separators_are_found() {
        for (text, want) in [
            ("a;b\n1;2\n", Some(b';')),
            ("a,b\n1,2\n", Some(b',')),
            ("a\tb\n1\t2\n", Some(b'\t')),
            // Decimal commas do not make a table of commas.
            ("referencia;precio;superficie\nT1;405.000,50;84,5\nT2;1,5;2,5\n", Some(b';')),
            ("referencia,precio,fecha_venta\nT1,405000,2026-01-02\n", Some(b',')),
            ("referencia;precio", Some(b';')),
            ("\"a;b\",c\n\"1;2\",3\n", Some(b',')),
            ("one line of text", None),
            ("Dear Ana,\nthe flat, as we said, is fine.\nYours\n", None),
            ("", None),
        ] {
            assert_eq!(delimiter(text, true), want, "{text:?}");
        }
    }

    #[test]
    fn points_and_commas_mean_what_the_column_or_else_the_file_shows() {
        use Decimals::{Comma, Point};
        type Cells = &'static [&'static str];
        let table: [(Cells, Cells, Result<Decimals, ()>); 12] = [
            (&["405.000,50"], &[], Ok(Comma)),
            (&["405,000.50"], &[], Ok(Point)),
            (&["1.405.000"], &[], Ok(Comma)),
            (&["84,5", "405.000"], &[], Ok(Comma)),
            (&["84.5", "1,250"], &[], Ok(Point)),
            (&["0,125"], &[], Ok(Comma)),
            (&["405000"], &["1,5"], Ok(Point)),
            (&["405.000"], &["84,5"], Ok(Comma)),
            (&["405.000"], &[], Err(())),
            (&["405.000"], &["84,5", "84.5"], Err(())),
            (&["84,5", "84.5"], &[], Err(())),
            (&["n/a", "", "12 de mayo"], &[], Ok(Point)),
        ];
        for (column, file, want) in table {
            assert_eq!(decide(column, file).map_err(|_| ()), want, "{column:?} in {file:?}");
        }
    }

    #[test]
    fn numbers_become_plain_or_are_refused() {
        use Decimals::{Comma, Point};
        for (text, decimals, want) in [
            ("405.000,50", Comma, Some("405000.50")),
            ("-0,03", Comma, Some("-0.03")),
            ("1.405.000", Comma, Some("1405000")),
            ("405,000.50", Point, Some("405000.50")),
            ("84", Comma, Some("84")),
            ("1234.567", Comma, None),
            ("12.34,5", Comma, None),
            (",5", Comma, None),
            ("5,", Comma, None),
            ("1,2,3", Comma, None),
            ("", Point, None),
            ("abc", Point, None),
            ("--1", Point, None),
        ] {
            assert_eq!(plain(text, decimals).ok().as_deref(), want, "{text:?}");
        }
        assert_eq!(Bare::of(" 405 000,00 € ").number, "405000,00");
        assert!(Bare::of("405.000 €").euro && Bare::of("-3 %").percent);
    }
}
