//! What people call the columns of a table, in Spanish and in English.

use crate::fields::{COMPARABLES, Column, FIELDS, Field, LISTS, List, OPERATING_EXPENSES, TENANCIES};

/// Other names of the columns of a table of sales; each column is also known by its own name.
const SALES: &[(&str, &[&str])] = &[
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

/// Other names of the columns of a rent roll.
const RENTS: &[(&str, &[&str])] = &[
    (
        "unit",
        &[
            "local",
            "unidad",
            "unidad_local",
            "local_unidad",
            "vivienda",
            "modulo",
            "espacio",
            "suite",
            "unit_no",
        ],
    ),
    ("tenant", &["inquilino", "arrendatario", "ocupante", "lessee", "tenant_name"]),
    (
        "area",
        &["superficie", "superficie_m2", "superficie_alquilada_m2", "area_m2", "m2", "sqm"],
    ),
    (
        "passing_rent",
        &[
            "renta",
            "renta_mensual",
            "renta_anual",
            "renta_trimestral",
            "renta_mes",
            "renta_ano",
            "renta_contractual",
            "alquiler",
            "alquiler_mensual",
            "alquiler_anual",
            "rent",
            "monthly_rent",
            "annual_rent",
            "rent_per_month",
            "rent_per_year",
        ],
    ),
    ("currency", &["moneda", "divisa"]),
    ("frequency", &["periodicidad", "frecuencia", "pago"]),
    (
        "start",
        &[
            "inicio",
            "fecha_inicio",
            "fecha_de_inicio",
            "inicio_contrato",
            "inicio_de_contrato",
            "comienzo",
            "lease_start",
            "start_date",
        ],
    ),
    (
        "end",
        &[
            "fin",
            "fecha_fin",
            "fecha_de_fin",
            "vencimiento",
            "fecha_vencimiento",
            "fecha_de_vencimiento",
            "fin_contrato",
            "fin_de_contrato",
            "lease_end",
            "end_date",
            "expiry",
        ],
    ),
];

/// Other names of the columns of a table of expenses.
const EXPENSES: &[(&str, &[&str])] = &[
    ("type", &["gasto", "concepto", "partida", "tipo", "expense"]),
    (
        "amount",
        &[
            "importe",
            "importe_anual",
            "importe_mensual",
            "coste",
            "coste_anual",
            "annual_amount",
        ],
    ),
    ("currency", &["moneda", "divisa"]),
    ("frequency", &["periodicidad", "frecuencia"]),
];

/// The other names of a list's columns.
fn names(list: &List) -> &'static [(&'static str, &'static [&'static str])] {
    match list.path {
        p if p == TENANCIES.path => RENTS,
        p if p == OPERATING_EXPENSES.path => EXPENSES,
        p if p == COMPARABLES.path => SALES,
        _ => &[],
    }
}

/// What a header says beside what it names: `Renta mensual` is a rent, paid every month.
const FREQUENCIES: [(&str, &[&str]); 3] = [
    ("monthly", &["mensual", "mes", "monthly", "month"]),
    ("quarterly", &["trimestral", "trimestre", "quarterly", "quarter"]),
    ("annual", &["anual", "ano", "annual", "year", "yearly"]),
];

/// Names of the two columns of a table of single facts.
const KEYS: [&str; 8] = ["campo", "clave", "dato", "concepto", "key", "field", "fact", "path"];
const VALUES: [&str; 2] = ["valor", "value"];

/// Other names of single facts; each is also known by its path.
const SINGLE: &[(&str, &[&str])] = &[
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
    (
        "income.potential_gross_income",
        &["renta_bruta_potencial", "ingresos_brutos_potenciales", "potential_gross_income"],
    ),
    (
        "income.vacancy_rate",
        &[
            "vacancia",
            "tasa_de_vacancia",
            "tasa_vacancia",
            "desocupacion",
            "tasa_de_desocupacion",
            "vacancy",
            "vacancy_rate",
        ],
    ),
    ("income.other_income", &["otros_ingresos", "otros_ingresos_anuales", "other_income"]),
    (
        "income.management_pct",
        &[
            "gastos_de_gestion",
            "honorarios_de_gestion",
            "gestion",
            "management_pct",
            "management_fee",
        ],
    ),
    ("income.reserves", &["reservas", "reserva_de_reposicion", "reserves"]),
    ("income.cap_rate", &["tasa_de_capitalizacion", "capitalizacion", "cap_rate"]),
    (
        "income.discount_rate",
        &["tasa_de_descuento", "tasa_de_actualizacion", "discount_rate"],
    ),
    (
        "income.growth",
        &["crecimiento", "crecimiento_anual", "crecimiento_de_rentas", "growth"],
    ),
    (
        "income.exit_cap_rate",
        &[
            "tasa_de_salida",
            "tasa_de_capitalizacion_de_salida",
            "exit_cap",
            "exit_cap_rate",
            "exit_yield",
        ],
    ),
    (
        "income.hold_years",
        &[
            "anos_de_tenencia",
            "horizonte",
            "horizonte_anos",
            "periodo_de_tenencia",
            "hold_years",
            "holding_period",
        ],
    ),
    (
        "income.selling_cost_pct",
        &["costes_de_venta", "gastos_de_venta", "selling_costs", "selling_cost_pct"],
    ),
    ("income.terminal_noi_basis", &["base_de_la_renta_final", "terminal_noi_basis"]),
];

/// Currencies that a header may name behind the price, as in `precio_eur`.
const CURRENCIES: [&str; 9] = ["EUR", "USD", "GBP", "CHF", "MXN", "COP", "CLP", "PEN", "BRL"];

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
            let table = super::names(list);
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
