//! What people call the columns of a table, in Spanish and in English.

use ::csv::StringRecord;

use super::comparable::{COLUMNS, Column, PRICE};
use crate::fields::{FIELDS, Field};

/// Other names of the columns of a table of sales; each column is also known by its own name.
const SALES: [(&str, &[&str]); 12] = [
    ("id", &["ref", "referencia", "testigo", "comparable", "codigo"]),
    ("price", &["precio", "precio_venta", "precio_de_venta", "importe", "sale_price"]),
    ("currency", &["moneda", "divisa"]),
    ("sale_date", &["fecha_venta", "fecha_de_venta", "fecha", "fecha_escritura", "date"]),
    (
        "area",
        &[
            "superficie",
            "superficie_m2",
            "superficie_construida",
            "superficie_construida_m2",
            "area_m2",
            "m2",
            "metros",
        ],
    ),
    ("bathrooms", &["banos", "num_banos", "baths"]),
    (
        "parking_spaces",
        &[
            "garajes",
            "garaje",
            "plazas",
            "plazas_garaje",
            "plazas_de_garaje",
            "parking",
            "garages",
        ],
    ),
    ("year_built", &["ano", "ano_construccion", "ano_de_construccion", "year"]),
    (
        "location_adjustment",
        &["ajuste_ubicacion", "ajuste_por_ubicacion", "ubicacion", "location"],
    ),
    (
        "conditions_of_sale",
        &[
            "condiciones",
            "condiciones_venta",
            "condiciones_de_venta",
            "ajuste_condiciones",
            "conditions",
        ],
    ),
    ("verified", &["verificado", "verificada", "comprobado"]),
    ("source", &["fuente", "origen"]),
];

/// Names of the two columns of a table of single facts.
const KEYS: [&str; 8] = ["campo", "clave", "dato", "concepto", "key", "field", "fact", "path"];
const VALUES: [&str; 2] = ["valor", "value"];

/// Other names of single facts; each is also known by its path.
const SINGLE: [(&str, &[&str]); 20] = [
    ("asset_type", &["tipo", "tipo_activo", "tipo_de_activo"]),
    ("jurisdiction", &["pais", "country"]),
    ("valuation_currency", &["moneda", "divisa", "currency"]),
    ("valuation_date", &["fecha_valoracion", "fecha_de_valoracion"]),
    ("identity.address", &["direccion", "address"]),
    ("identity.parcel_id", &["referencia_catastral", "parcel_id"]),
    ("identity.title_no", &["finca", "finca_registral", "title_no"]),
    ("identity.tenure", &["tenencia", "regimen", "tenure"]),
    ("identity.owner", &["titular", "propietario", "owner"]),
    (
        "physical.gross_internal_area",
        &[
            "superficie",
            "superficie_m2",
            "superficie_construida",
            "superficie_construida_m2",
            "gross_internal_area",
            "area",
        ],
    ),
    ("physical.site_area", &["superficie_parcela", "parcela", "site_area"]),
    ("physical.year_built", &["ano_construccion", "ano_de_construccion", "year_built"]),
    ("physical.bedrooms", &["dormitorios", "habitaciones", "bedrooms"]),
    ("physical.bathrooms", &["banos", "bathrooms"]),
    (
        "physical.parking_spaces",
        &["plazas_garaje", "plazas_de_garaje", "garajes", "parking_spaces"],
    ),
    ("market.trend_per_month", &["tendencia_mensual", "trend_per_month"]),
    ("market.adjustment_rates.per_area", &["ajuste_m2", "ajuste_por_m2", "per_area"]),
    (
        "market.adjustment_rates.per_bathroom",
        &["ajuste_bano", "ajuste_por_bano", "per_bathroom"],
    ),
    (
        "market.adjustment_rates.per_parking_space",
        &["ajuste_garaje", "ajuste_por_plaza", "per_parking_space"],
    ),
    (
        "market.adjustment_rates.per_year_of_age",
        &["ajuste_antiguedad", "ajuste_por_ano", "per_year_of_age"],
    ),
];

/// Currencies that a header may name behind the price, as in `precio_eur`.
const CURRENCIES: [&str; 9] = ["EUR", "USD", "GBP", "CHF", "MXN", "COP", "CLP", "PEN", "BRL"];

/// A header without case, accents and punctuation: `Año de construcción` is `ano_de_construccion`.
fn normal(header: &str) -> String {
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

/// The column of a table of sales that a header means, and the currency that it names.
pub(super) fn sale_column(header: &str) -> Option<(&'static Column, Option<&'static str>)> {
    let name = normal(header);
    let find = |name: &str| {
        let (own, _) = SALES.iter().find(|(own, other)| *own == name || other.contains(&name))?;
        COLUMNS.iter().find(|c| c.name == *own)
    };
    if let Some(column) = find(&name) {
        return Some((column, None));
    }
    let (stem, currency) = name.rsplit_once('_')?;
    let currency = CURRENCIES.iter().find(|c| c.eq_ignore_ascii_case(currency))?;
    find(stem).filter(|c| c.name == PRICE).map(|c| (c, Some(*currency)))
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
pub(super) fn key_value(header: &StringRecord) -> Option<(usize, usize)> {
    let place = |names: &[&str]| header.iter().position(|h| names.contains(&normal(h).as_str()));
    place(&KEYS).zip(place(&VALUES))
}

/// How many names of a header are known.
pub(super) fn known(header: &StringRecord) -> usize {
    let sales = header.iter().filter(|h| sale_column(h).is_some()).count();
    sales.max(if key_value(header).is_some() { 2 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let (got, named) = sale_column(header).unwrap_or_else(|| panic!("{header:?} is not known"));
            assert_eq!((got.name, named), (column, currency), "{header:?}");
        }
        for unknown in ["", "comentarios", "superficie_eur", "precio_xyz", "_"] {
            assert!(sale_column(unknown).is_none(), "{unknown:?}");
        }
    }

    #[test]
    fn every_other_name_belongs_to_a_column_or_field_and_to_one_only() {
        let mut names: Vec<&str> = SALES.iter().flat_map(|(own, other)| other.iter().chain([own])).copied().collect();
        assert!(SALES.iter().all(|(own, _)| COLUMNS.iter().any(|c| c.name == *own)));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(SINGLE.iter().all(|(path, _)| FIELDS.iter().any(|f| f.path == *path)));
        assert!(names.iter().all(|n| normal(n) == *n));
    }

    #[test]
    fn single_facts_are_known_by_path_and_by_name() {
        for key in ["physical.gross_internal_area", "Superficie construida", "superficie_m2"] {
            assert_eq!(single(key).map(|f| f.path), Some("physical.gross_internal_area"), "{key}");
        }
        assert!(single("color").is_none());
    }
}
