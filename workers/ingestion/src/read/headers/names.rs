//! The other names of columns and single facts, in Spanish and English, without case, accents and punctuation.

use crate::fields::{COMPARABLES, List, OPERATING_EXPENSES, TENANCIES};

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
            "lease_from",
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
            "lease_to",
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
pub(super) fn names(list: &List) -> &'static [(&'static str, &'static [&'static str])] {
    match list.path {
        p if p == TENANCIES.path => RENTS,
        p if p == OPERATING_EXPENSES.path => EXPENSES,
        p if p == COMPARABLES.path => SALES,
        _ => &[],
    }
}

/// Names of the two columns of a table of single facts.
pub(super) const KEYS: [&str; 8] = ["campo", "clave", "dato", "concepto", "key", "field", "fact", "path"];
pub(super) const VALUES: [&str; 2] = ["valor", "value"];

/// Other names of single facts; each is also known by its path.
pub(super) const SINGLE: &[(&str, &[&str])] = &[
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
pub(super) const CURRENCIES: [&str; 9] = ["EUR", "USD", "GBP", "CHF", "MXN", "COP", "CLP", "PEN", "BRL"];
