//! Which labels stand for which fact, and what a value behind them looks like.

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The rest of the line, behind a colon or in the next column.
    Line,
    /// 20 letters and digits, perhaps in groups.
    Cadastral,
    /// A number with points: `12.345`.
    Entry,
    /// A number of square metres with its unit, in the same sentence.
    Area,
    /// Four digits, or a small number, behind a colon or in the next column.
    Number,
    /// `Residencial`, `Oficinas` …
    Use,
}

pub(super) struct Rule {
    pub path: &'static str,
    pub shape: Shape,
    /// Without case and accents.
    pub labels: &'static [&'static str],
}

const fn rule(path: &'static str, shape: Shape, labels: &'static [&'static str]) -> Rule {
    Rule { path, shape, labels }
}

pub(super) const RULES: [Rule; 11] = [
    rule(
        "identity.parcel_id",
        Shape::Cadastral,
        &["referencia catastral", "ref. catastral", "cadastral reference"],
    ),
    rule(
        "identity.title_no",
        Shape::Entry,
        &["finca registral", "numero de finca", "nº de finca", "finca nº", "title number"],
    ),
    rule(
        "identity.address",
        Shape::Line,
        &[
            "direccion",
            "situacion",
            "localizacion",
            "emplazamiento",
            "property address",
            "address",
        ],
    ),
    rule(
        "identity.owner",
        Shape::Line,
        &["titular registral", "titular", "propietario", "registered owner", "owner"],
    ),
    rule("identity.tenure", Shape::Line, &["regimen de tenencia", "tenencia", "tenure"]),
    rule(
        "physical.gross_internal_area",
        Shape::Area,
        &[
            "superficie construida",
            "superficie total construida",
            "gross internal area",
            "built area",
        ],
    ),
    rule(
        "physical.site_area",
        Shape::Area,
        &[
            "superficie de la parcela",
            "superficie de parcela",
            "superficie del solar",
            "site area",
            "plot area",
        ],
    ),
    rule(
        "physical.year_built",
        Shape::Number,
        &["ano de construccion", "ano construccion", "year built"],
    ),
    rule("physical.bedrooms", Shape::Number, &["dormitorios", "bedrooms"]),
    rule("physical.bathrooms", Shape::Number, &["banos", "cuartos de bano", "bathrooms"]),
    rule("asset_type", Shape::Use, &["uso principal", "uso", "main use"]),
];

pub(super) const USES: [(&str, &[&str]); 4] = [
    ("residential", &["residencial", "vivienda", "residential"]),
    ("office", &["oficinas", "oficina", "office", "offices"]),
    ("retail", &["comercial", "retail"]),
    ("industrial", &["industrial"]),
];
