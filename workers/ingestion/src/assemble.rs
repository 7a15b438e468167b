//! From what each document says to one sheet for the asset.
//!
//! Documents are added in the order of their arrival. Where they disagree the later one wins, and the disagreement is
//! kept. The same bytes sent twice say nothing new: they count where they first stood, so that repeating an upload
//! leaves the sheet, and its digest, as they were.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::civil::Date;
use messages::facts::{AdjustmentRates, Conflict, ConflictRule, Fact, FactSheet, Identity, Income, Market, Physical, SCHEMA, Source};
use messages::{AssetKey, Hash32, MissingFacts};
use serde::de::DeserializeOwned;
use serde_json::Value;
use stores::records::{DocumentFact, DocumentRecord};
use uuid::Uuid;

use crate::fields::{COMPARABLES, LISTS, List, OPERATING_EXPENSES, TENANCIES, VALUATION_CURRENCY, VALUATION_DATE, field_at, list_at};
use crate::missing::missing;
use crate::read::{Lines, MAX_COMPARABLES};

pub use messages::facts::NO_CURRENCY;
/// Values of one fact that are remembered beside the one that was taken.
const MAX_CANDIDATES: usize = 10;
/// Conflicts that a sheet lists; further ones are counted in the notes.
const MAX_CONFLICTS: usize = 200;

/// What one document states.
#[derive(Debug, Clone)]
pub struct Stated {
    pub document_id: Uuid,
    pub sha256: Hash32,
    pub detected_type: String,
    pub facts: Vec<DocumentFact>,
}

impl From<DocumentRecord> for Stated {
    fn from(record: DocumentRecord) -> Self {
        Self {
            document_id: record.document_id,
            sha256: record.sha256,
            detected_type: record.detected_type.unwrap_or_default(),
            facts: record.facts,
        }
    }
}

/// A dossier as it is closed.
#[derive(Debug, Clone, PartialEq)]
pub struct Dossier {
    pub sheet: FactSheet,
    /// Empty when some approach has all that it needs.
    pub missing: Vec<MissingFacts>,
    /// Facts that are in the documents and not in the sheet, and why.
    pub notes: Vec<String>,
}

/// Every value that was stated for one fact, in the order of arrival.
type Values = Vec<Fact<Value>>;

/// The documents so far.
#[derive(Debug, Default)]
pub struct Assembly {
    sources: Vec<Source>,
    seen: HashSet<Hash32>,
    single: BTreeMap<String, Values>,
    /// By the path of the list.
    lists: BTreeMap<&'static str, Rows>,
    /// Rows of all lists.
    rows: usize,
    notes: Lines,
}

/// The rows of a list.
#[derive(Debug, Default)]
struct Rows {
    /// Their keys in the order in which they were first named.
    order: Vec<String>,
    stated: HashMap<String, Values>,
}

/// What tells rows of a list apart, across documents: the parts that are there, joined.
fn key_of(list: &List, row: &Value) -> Option<String> {
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    match list.path {
        p if p == TENANCIES.path => text("unit").map(|unit| match text("start") {
            Some(start) => format!("{unit}, {start}"),
            None => unit.to_owned(),
        }),
        p if p == OPERATING_EXPENSES.path => text("type").map(str::to_owned),
        _ => text("id").map(str::to_owned),
    }
}

impl Assembly {
    /// Adds what the next document states.
    pub fn add(&mut self, document: Stated) {
        if document.facts.is_empty() || !self.seen.insert(document.sha256) {
            return;
        }
        self.sources.push(Source {
            document_id: document.document_id,
            sha256: document.sha256,
            detected_type: document.detected_type,
        });
        let mut named: HashMap<(&str, String), usize> = HashMap::new();
        for DocumentFact { path, fact } in document.facts {
            if let Some(list) = list_at(&path) {
                let Some(mut key) = key_of(list, &fact.value) else {
                    self.notes.push(format!("a {} without a name was left out", list.noun));
                    continue;
                };
                // A sale has an id. Elsewhere two lines of one document are two things, whatever they are called.
                if list.path != COMPARABLES.path {
                    let nth = named.entry((list.path, key.clone())).or_default();
                    *nth += 1;
                    if *nth > 1 {
                        key = format!("{key} ({nth})");
                    }
                }
                self.add_row(list, key, fact);
            } else if field_at(&path).is_some() {
                remember(self.single.entry(path).or_default(), fact);
            } else {
                self.notes.push(format!("{path} is not a fact of this version's sheet"));
            }
        }
    }

    fn add_row(&mut self, list: &List, key: String, fact: Fact<Value>) {
        let rows = self.lists.entry(list.path).or_default();
        if !rows.stated.contains_key(&key) {
            if self.rows == MAX_COMPARABLES {
                self.notes.push(format!(
                    "{} {key} was left out: a sheet has at most {MAX_COMPARABLES} rows",
                    list.noun
                ));
                return;
            }
            self.rows += 1;
            rows.order.push(key.clone());
        }
        remember(rows.stated.entry(key).or_default(), fact);
    }

    /// The sheet, and what it lacks. `date` is the valuation date when no document names one.
    pub fn finish(mut self, asset: &AssetKey, date: Date) -> Dossier {
        let mut picked = Picked {
            single: BTreeMap::new(),
            conflicts: Vec::new(),
            notes: std::mem::take(&mut self.notes),
        };
        for (path, values) in std::mem::take(&mut self.single) {
            if let Some(fact) = picked.settle(&path, values) {
                picked.single.insert(path, fact);
            }
        }
        let mut lists = BTreeMap::new();
        for list in &LISTS {
            let mut rows = self.lists.remove(list.path).unwrap_or_default();
            let mut settled = Vec::with_capacity(rows.order.len());
            for key in rows.order {
                let values = rows.stated.remove(&key).unwrap_or_default();
                settled.extend(picked.settle(&format!("{}[{key}]", list.path.trim_end_matches("[]")), values));
            }
            lists.insert(list.path, settled);
        }
        let currency = picked.take(VALUATION_CURRENCY).map(|f: Fact<String>| f.value);
        let currency = currency.or_else(|| only_currency(&lists)).unwrap_or_else(|| NO_CURRENCY.to_owned());
        let valuation_date = picked.take(VALUATION_DATE).map_or(date, |f: Fact<Date>| f.value);
        let sheet = picked.sheet(asset, currency, valuation_date, lists, self.sources);
        Dossier {
            missing: missing(&sheet),
            notes: picked.notes.finish(),
            sheet,
        }
    }
}

/// Adds a value; in a long row of different values the oldest but the first is forgotten.
fn remember(values: &mut Values, fact: Fact<Value>) {
    if values.len() >= MAX_CANDIDATES {
        values.remove(1);
    }
    values.push(fact);
}

/// The one currency that all amounts which name a currency share.
fn only_currency(lists: &Lists) -> Option<String> {
    let mut named = LISTS.iter().flat_map(|list| {
        let rows = lists.get(list.path).into_iter().flatten();
        rows.filter_map(|row| row.value.get(list.money)?.get("currency")?.as_str())
    });
    let first = named.next()?;
    named.all(|c| c == first).then(|| first.to_owned())
}

/// One value for each row, by the path of the list.
type Lists = BTreeMap<&'static str, Vec<Fact<Value>>>;

/// One value for each fact, and what was decided on the way.
struct Picked {
    single: BTreeMap<String, Fact<Value>>,
    conflicts: Vec<Conflict>,
    notes: Lines,
}

impl Picked {
    /// Takes the latest value; when values differ, that is a conflict. Equal values keep the first provenance.
    fn settle(&mut self, path: &str, values: Values) -> Option<Fact<Value>> {
        let first = values.first()?;
        if values.iter().all(|f| f.value == first.value) {
            return values.into_iter().next();
        }
        let latest = values.last()?.clone();
        if self.conflicts.len() < MAX_CONFLICTS {
            let text = |fact: &Fact<Value>| Fact {
                value: fact.value.as_str().map_or_else(|| fact.value.to_string(), str::to_owned),
                provenance: fact.provenance.clone(),
            };
            self.conflicts.push(Conflict {
                path: path.to_owned(),
                candidates: values.iter().rev().map(text).collect(),
                rule: ConflictRule::Latest,
            });
        } else {
            self.notes.push(format!("{path}: documents disagree, the latest was taken"));
        }
        Some(latest)
    }

    /// A fact as its type. One that does not convert, as from another version of the reader, is left out and noted.
    fn take<T: DeserializeOwned>(&mut self, path: &str) -> Option<Fact<T>> {
        let fact = self.single.remove(path)?;
        match serde_json::from_value(fact.value) {
            Ok(value) => Some(Fact {
                value,
                provenance: fact.provenance,
            }),
            Err(e) => {
                self.notes.push(format!(
                    "{path} was left out: document {} does not say it in our form: {e}",
                    fact.provenance.document_id
                ));
                None
            }
        }
    }

    /// The rows of a list as their type; an amount without a currency is in the currency of the valuation.
    fn rows<T: DeserializeOwned>(&mut self, list: &List, lists: &mut Lists, currency: &str) -> Vec<Fact<T>> {
        let mut typed = Vec::new();
        for Fact { mut value, provenance } in lists.remove(list.path).unwrap_or_default() {
            let key = key_of(list, &value).unwrap_or_default();
            if let Some(money) = value.get_mut(list.money).and_then(Value::as_object_mut)
                && currency != NO_CURRENCY
            {
                money.entry("currency").or_insert_with(|| Value::String(currency.to_owned()));
            }
            match serde_json::from_value(value) {
                Ok(value) => typed.push(Fact { value, provenance }),
                Err(e) => self.notes.push(format!("{} {key} was left out: {e}", list.noun)),
            }
        }
        typed
    }

    fn sheet(
        &mut self,
        asset: &AssetKey,
        valuation_currency: String,
        valuation_date: Date,
        mut lists: Lists,
        sources: Vec<Source>,
    ) -> FactSheet {
        let comparables = self.rows(&COMPARABLES, &mut lists, &valuation_currency);
        let income = self.income(&mut lists, &valuation_currency);
        FactSheet {
            schema: SCHEMA.to_owned(),
            tenant: asset.tenant.clone(),
            asset_id: asset.asset_id.clone(),
            asset_type: self.take("asset_type"),
            jurisdiction: self.take("jurisdiction"),
            valuation_currency,
            valuation_date,
            identity: Identity {
                address: self.take("identity.address"),
                parcel_id: self.take("identity.parcel_id"),
                title_no: self.take("identity.title_no"),
                tenure: self.take("identity.tenure"),
                owner: self.take("identity.owner"),
            },
            physical: Physical {
                gross_internal_area: self.take("physical.gross_internal_area"),
                site_area: self.take("physical.site_area"),
                year_built: self.take("physical.year_built"),
                bedrooms: self.take("physical.bedrooms"),
                bathrooms: self.take("physical.bathrooms"),
                parking_spaces: self.take("physical.parking_spaces"),
            },
            market: Market {
                comparables,
                trend_per_month: self.take("market.trend_per_month"),
                adjustment_rates: AdjustmentRates {
                    per_area: self.take("market.adjustment_rates.per_area"),
                    per_bathroom: self.take("market.adjustment_rates.per_bathroom"),
                    per_parking_space: self.take("market.adjustment_rates.per_parking_space"),
                    per_year_of_age: self.take("market.adjustment_rates.per_year_of_age"),
                },
            },
            income,
            sources,
            conflicts: std::mem::take(&mut self.conflicts),
        }
    }

    fn income(&mut self, lists: &mut Lists, currency: &str) -> Income {
        Income {
            tenancies: self.rows(&TENANCIES, lists, currency),
            potential_gross_income: self.take("income.potential_gross_income"),
            vacancy_rate: self.take("income.vacancy_rate"),
            other_income: self.take("income.other_income"),
            operating_expenses: self.rows(&OPERATING_EXPENSES, lists, currency),
            management_pct: self.take("income.management_pct"),
            reserves: self.take("income.reserves"),
            cap_rate: self.take("income.cap_rate"),
            discount_rate: self.take("income.discount_rate"),
            growth: self.take("income.growth"),
            exit_cap_rate: self.take("income.exit_cap_rate"),
            hold_years: self.take("income.hold_years"),
            selling_cost_pct: self.take("income.selling_cost_pct"),
            terminal_noi_basis: self.take("income.terminal_noi_basis"),
        }
    }
}

#[cfg(test)]
mod tests;
