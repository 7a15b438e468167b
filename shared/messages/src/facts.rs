//! The fact sheet: what is known of an asset, and from where each fact is known.
//!
//! Ingestion assembles it when a dossier is closed, valuation values it. Every fact carries the document and the
//! place in it that it was read from. Numbers are decimals, written as text; nothing here is a float.

use jiff::civil::Date;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AssetId, Hash32, Tenant};

mod income;
mod needs;

pub use income::{Frequency, Income, OperatingExpense, Tenancy, TerminalNoiBasis};
pub use needs::{IncomeLacks, NO_CURRENCY};

/// The schema that sheets of this shape name.
pub const SCHEMA: &str = "asset-fact-sheet/1";

/// An approach to value, as the International Valuation Standards divide them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Approach {
    Market,
    Income,
    Cost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AssetType {
    Residential,
    Office,
    Retail,
    Industrial,
    Land,
    Development,
    PlantEquipment,
}

/// Where in a document a fact stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Locator {
    /// RFC 6901.
    JsonPointer { pointer: String },
    /// `row` counts lines of data from 1, the header is row 0; `column` is the header's text, empty for the whole row.
    CsvCell { row: u64, column: String },
    /// `cell` in A1 notation.
    SheetCell { sheet: String, cell: String },
    /// Counted from 1; `quote` is the text that was read.
    PdfPage { page: u32, quote: String },
}

/// Which document says so, where in it, and which reader read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    pub document_id: Uuid,
    pub document_sha256: Hash32,
    pub locator: Locator,
    /// The reader's name and version, e.g. `csv/1`.
    pub extractor: String,
}

/// A value and where it is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fact<T> {
    pub value: T,
    pub provenance: Provenance,
}

/// An amount in a currency (ISO 4217).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Money {
    pub amount: Decimal,
    #[schemars(regex(pattern = r"^[A-Z]{3}$"))]
    pub currency: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Identity {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Fact<String>>,
    /// The cadastral reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parcel_id: Option<Fact<String>>,
    /// The entry in the land register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title_no: Option<Fact<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenure: Option<Fact<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Fact<String>>,
}

/// Areas in square metres, years of the calendar, the rest counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Physical {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gross_internal_area: Option<Fact<Decimal>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site_area: Option<Fact<Decimal>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub year_built: Option<Fact<i16>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bedrooms: Option<Fact<Decimal>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bathrooms: Option<Fact<Decimal>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parking_spaces: Option<Fact<Decimal>>,
}

/// A sale of something like the asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Comparable {
    pub id: String,
    pub price: Money,
    pub sale_date: Date,
    /// Square metres.
    pub area: Decimal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bathrooms: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parking_spaces: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub year_built: Option<i16>,
    /// How much better (+) the asset's location is than this one's, as a fraction of the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location_adjustment: Option<Decimal>,
    /// What unusual conditions of the sale are worth, as a fraction of the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions_of_sale: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// What a difference between the asset and a comparable is worth, in the valuation currency.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdjustmentRates {
    /// A square metre.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_area: Option<Fact<Decimal>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_bathroom: Option<Fact<Decimal>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_parking_space: Option<Fact<Decimal>>,
    /// A year of age; negative where older is worth less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_year_of_age: Option<Fact<Decimal>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Market {
    pub comparables: Vec<Fact<Comparable>>,
    /// How prices move, as a fraction a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trend_per_month: Option<Fact<Decimal>>,
    pub adjustment_rates: AdjustmentRates,
}

/// A fact that documents disagree on: the candidates, and which was taken by which rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conflict {
    /// A path into the sheet, e.g. `physical.gross_internal_area`.
    pub path: String,
    /// The values as text, each with its provenance; the first is the one that was taken.
    pub candidates: Vec<Fact<String>>,
    pub rule: ConflictRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConflictRule {
    /// The document that was submitted last wins.
    Latest,
}

/// A document that the sheet draws on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    pub document_id: Uuid,
    pub sha256: Hash32,
    pub detected_type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FactSheet {
    pub schema: String,
    pub tenant: Tenant,
    pub asset_id: AssetId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset_type: Option<Fact<AssetType>>,
    /// ISO 3166-1 alpha-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<Fact<String>>,
    /// ISO 4217.
    pub valuation_currency: String,
    /// The date as of which the asset is valued: the documents', else the one asked for, else the day of closing.
    pub valuation_date: Date,
    #[serde(default)]
    pub identity: Identity,
    #[serde(default)]
    pub physical: Physical,
    #[serde(default)]
    pub market: Market,
    #[serde(default, skip_serializing_if = "Income::is_empty")]
    pub income: Income,
    pub sources: Vec<Source>,
    #[serde(default)]
    pub conflicts: Vec<Conflict>,
}
