//! What people call the columns of a table, in Spanish and in English.

mod names;

use crate::fields::{Column, FIELDS, Field, LISTS, List};
use names::{CURRENCIES, KEYS, SINGLE, VALUES, names};

/// What a header says beside what it names: `Renta mensual` is a rent, paid every month.
const FREQUENCIES: [(&str, &[&str]); 3] = [
    ("monthly", &["mensual", "mes", "monthly", "month"]),
    ("quarterly", &["trimestral", "trimestre", "quarterly", "quarter"]),
    ("annual", &["anual", "ano", "annual", "year", "yearly"]),
];

/// A header without case, accents and punctuation: `Año de construcción` is `ano_de_construccion`.
pub(super) fn normal(header: &str) -> String {
    let mut out = String::new();
    for c in header
        .trim()
        .trim_start_matches('\u{feff}')
        .chars()
        .take(100)
        .flat_map(char::to_lowercase)
    {
        match c {
            'á' | 'à' => out.push('a'),
            'é' | 'è' => out.push('e'),
            'í' => out.push('i'),
            'ó' | 'ò' => out.push('o'),
            'ú' | 'ü' => out.push('u'),
            'ñ' => out.push('n'),
            'ç' => out.push('c'),
            '²' => out.push('2'),
            '€' => out.push_str("_eur"),
            c if c.is_ascii_alphanumeric() => out.push(c),
            _ if !out.ends_with('_') => out.push('_'),
            _ => {}
        }
    }
    out.replace("__", "_").trim_matches('_').to_owned()
}

/// What a header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    pub column: &'static Column,
    pub currency: Option<&'static str>,
    pub frequency: Option<&'static str>,
}

/// The column of a list that a header means, and what else it says.
pub(super) fn column(list: &'static List, header: &str) -> Option<Named> {
    let name = normal(header);
    let find = |name: &str| {
        let other = names(list).iter().find(|(own, other)| *own == name || other.contains(&name));
        let own = other.map_or(name, |(own, _)| own);
        list.columns.iter().find(|c| c.name == own)
    };
    let (column, stem, currency) = match find(&name) {
        Some(column) => (column, name.as_str(), None),
        None => {
            let (stem, currency) = name.rsplit_once('_')?;
            let currency = CURRENCIES.iter().find(|c| c.eq_ignore_ascii_case(currency))?;
            let column = find(stem).filter(|c| c.name == list.money)?;
            (column, stem, Some(*currency))
        }
    };
    let words = || stem.split('_');
    let frequency = FREQUENCIES.iter().find(|(_, known)| words().any(|w| known.contains(&w)));
    Some(Named {
        column,
        currency,
        frequency: frequency.filter(|_| column.name == list.money).map(|(own, _)| *own),
    })
}

/// How many names of a header are columns of a list, each counted once.
fn fit(list: &'static List, header: &[&str]) -> usize {
    let mut seen: Vec<&str> = header.iter().filter_map(|h| column(list, h)).map(|n| n.column.name).collect();
    seen.sort_unstable();
    seen.dedup();
    seen.len()
}

/// The list that a header fits best, if any: whose required columns are there, else of whose columns most are.
pub(super) fn lists_by_fit(header: &[&str]) -> Option<&'static List> {
    const ALL: &[List] = &LISTS;
    let whole = |list: &'static List| {
        let there = |name: &str| header.iter().any(|h| column(list, h).is_some_and(|n| n.column.name == name));
        let often = || header.iter().any(|h| column(list, h).is_some_and(|n| n.frequency.is_some()));
        list.columns
            .iter()
            .filter(|c| c.required)
            .all(|c| there(c.name) || (c.name == "frequency" && often()))
    };
    ALL.iter()
        .map(|list| (list, fit(list, header)))
        .filter(|(_, fit)| *fit > 0)
        // The earlier list wins a tie.
        .rev()
        .max_by_key(|(list, fit)| (whole(list), *fit))
        .map(|(list, _)| list)
}

/// The single fact that a key means: its path, or a name for it.
pub(super) fn single(key: &str) -> Option<&'static Field> {
    let path = key.trim();
    if let Some(field) = FIELDS.iter().find(|f| f.path.eq_ignore_ascii_case(path)) {
        return Some(field);
    }
    let name = normal(key);
    let (path, _) = SINGLE.iter().find(|(_, other)| other.contains(&name.as_str()))?;
    FIELDS.iter().find(|f| f.path == *path)
}

/// The places of the columns of keys and of values, if this is the header of a table of single facts.
pub(super) fn key_value(header: &[&str]) -> Option<(usize, usize)> {
    let place = |names: &[&str]| header.iter().position(|h| names.contains(&normal(h).as_str()));
    place(&KEYS).zip(place(&VALUES))
}

/// How many names of a header are known.
pub(super) fn known(header: &[&str]) -> usize {
    let listed = lists_by_fit(header).map_or(0, |list| fit(list, header));
    listed.max(if key_value(header).is_some() { 2 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::{COMPARABLES, OPERATING_EXPENSES, TENANCIES};

    #[test]
    fn headers_are_known_however_people_write_them() {
        for (header, column, currency) in [
            ("Referencia", "id", None),
            ("PRECIO_EUR", "price", Some("EUR")),
            ("Precio (€)", "price", Some("EUR")),
            ("Precio de venta", "price", None),
            ("price_usd", "price", Some("USD")),
            ("Fecha venta", "sale_date", None),
            ("superficie_m2", "area", None),
            ("Superficie construida (m²)", "area", None),
            ("Baños", "bathrooms", None),
            ("año", "year_built", None),
            ("Plazas de garaje", "parking_spaces", None),
            ("ajuste_ubicación", "location_adjustment", None),
            ("\u{feff}id", "id", None),
        ] {
            let named = super::column(&COMPARABLES, header).unwrap_or_else(|| panic!("{header:?} is not known"));
            assert_eq!((named.column.name, named.currency), (column, currency), "{header:?}");
        }
        for unknown in ["", "comentarios", "superficie_eur", "precio_xyz", "_"] {
            assert!(super::column(&COMPARABLES, unknown).is_none(), "{unknown:?}");
        }
    }

    #[test]
    fn every_other_name_belongs_to_a_column_or_field_and_to_one_only() {
        for list in &LISTS {
            let table = names(list);
            let mut all: Vec<&str> = table.iter().flat_map(|(own, other)| other.iter().chain([own])).copied().collect();
            assert!(table.iter().all(|(own, _)| list.columns.iter().any(|c| c.name == *own)));
            assert!(all.iter().all(|n| normal(n) == *n), "{all:?}");
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count, "{}", list.path);
        }
        let mut single: Vec<&str> = SINGLE.iter().flat_map(|(_, other)| *other).copied().collect();
        let count = single.len();
        single.sort_unstable();
        single.dedup();
        assert_eq!(single.len(), count);
        assert!(SINGLE.iter().all(|(path, _)| FIELDS.iter().any(|f| f.path == *path)));
    }

    #[test]
    fn a_rent_says_in_its_header_how_often_it_is_paid() {
        for (header, frequency, currency) in [
            ("Renta mensual (€)", Some("monthly"), Some("EUR")),
            ("Renta anual", Some("annual"), None),
            ("Monthly rent USD", Some("monthly"), Some("USD")),
            ("Renta", None, None),
        ] {
            let named = super::column(&TENANCIES, header).unwrap_or_else(|| panic!("{header:?} is not known"));
            assert_eq!(named.column.name, "passing_rent", "{header}");
            assert_eq!((named.frequency, named.currency), (frequency, currency), "{header}");
        }
        let roll = [
            "Local",
            "Inquilino",
            "Superficie (m²)",
            "Renta mensual (€)",
            "Inicio",
            "Vencimiento",
        ];
        assert_eq!(lists_by_fit(&roll).map(|l| l.path), Some(TENANCIES.path));
        assert_eq!(
            lists_by_fit(&["Concepto", "Importe anual"]).map(|l| l.path),
            Some(OPERATING_EXPENSES.path)
        );
        assert_eq!(lists_by_fit(&["color", "peso"]), None);
    }

    #[test]
    fn single_facts_are_known_by_path_and_by_name() {
        for key in ["physical.gross_internal_area", "Superficie construida", "superficie_m2"] {
            assert_eq!(single(key).map(|f| f.path), Some("physical.gross_internal_area"), "{key}");
        }
        assert!(single("color").is_none());
    }
}
