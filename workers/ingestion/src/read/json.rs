//! The JSON fact sheet (`asset-facts/1`).
//!
//! The text is checked as a whole first, so that a syntax error has its line and column. Then only the objects that
//! the sheet knows are opened, level by level, and values stay the text that stands in the file: a number is never a
//! float on its way.

use std::fmt;

use messages::facts::Locator;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::seen::Seen;
use super::{Facts, Found, MAX_COMPARABLES, MAX_DEPTH, Reading, Refusal};
use crate::fields::{CURRENCY, Field, List, field_at, list_at, quoted, value};

pub(super) const EXTRACTOR: &str = "json/1";
/// What a fact sheet says in its `schema`.
pub const INPUT_SCHEMA: &str = "asset-facts/1";
/// The objects of the sheet whose members are facts.
const SECTIONS: [&str; 5] = ["identity", "physical", "market", "market.adjustment_rates", "income"];

/// Reads a fact sheet.
pub(super) fn read(text: &str) -> Result<Reading, Refusal> {
    check_depth(text)?;
    let root: &RawValue = serde_json::from_str(text).map_err(|e| Refusal::malformed(format!("not valid JSON: {e}")))?;
    let not_a_sheet = |why: String| {
        let text = format!(
            "the document is stored, but no facts were taken from it: {why}; a fact sheet is a JSON object with \"schema\": \"{INPUT_SCHEMA}\""
        );
        Ok(Reading::NotRead(Refusal::new("not-recognised", text)))
    };
    let Members::Object(members) = open(root)? else {
        return not_a_sheet("it is not a JSON object".to_owned());
    };
    match members.iter().find(|(name, _)| name == "schema").map(|(_, raw)| scalar(raw)) {
        Some(Ok(Some(schema))) if schema == INPUT_SCHEMA => {}
        Some(Ok(Some(schema))) => return not_a_sheet(format!("its schema is {}", quoted(&schema))),
        Some(Ok(None) | Err(_)) | None => return not_a_sheet("it names no schema".to_owned()),
    }
    let mut sheet = Sheet {
        out: Facts::by(EXTRACTOR),
        rows: 0,
    };
    sheet.members("", "", members)?;
    Ok(Reading::Facts(sheet.out))
}

/// Sees the members of an object that is no fact sheet, and the lists of objects in it.
pub(super) fn see(text: &str, seen: &mut Seen) {
    let root: Result<&RawValue, _> = serde_json::from_str(text);
    let Some(root) = root.ok().filter(|_| check_depth(text).is_ok()) else {
        return;
    };
    match open(root) {
        Ok(Members::Object(members)) => {
            let is_sheet = |(name, raw): &(String, &RawValue)| name == "schema" && matches!(scalar(raw), Ok(Some(s)) if s == INPUT_SCHEMA);
            if members.iter().any(is_sheet) {
                return;
            }
            for (name, raw) in members {
                let pointer = format!("/{}", escape(&name));
                match scalar(raw) {
                    Ok(Some(value)) => seen.labelled(&name, &value, Locator::JsonPointer { pointer }),
                    Ok(None) => {}
                    Err(_) => see_list(raw, pointer, seen),
                }
            }
        }
        Ok(Members::List(_)) => see_list(root, String::new(), seen),
        Ok(Members::Null | Members::Scalar) | Err(_) => {}
    }
}

/// A list of objects is a table to a person.
fn see_list(raw: &RawValue, pointer: String, seen: &mut Seen) {
    if let Ok(Members::List(rows)) = open(raw)
        && let Some(Ok(Members::Object(first))) = rows.first().map(|row| open(row))
    {
        let why = "it is not in a fact sheet".to_owned();
        let names = first.iter().map(|(name, _)| name.as_str());
        seen.table(names, rows.len() as u64, why, Locator::JsonPointer { pointer });
    }
}

/// Refuses text whose objects and lists stand too deep within each other, before anything opens them.
fn check_depth(text: &str) -> Result<(), Refusal> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Refusal::too_large(format!(
                        "objects and lists stand more than {MAX_DEPTH} deep within each other"
                    )));
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

struct Sheet {
    out: Facts,
    /// Rows of lists so far.
    rows: usize,
}

impl Sheet {
    /// Takes the facts of an object: `path` into the sheet, `pointer` into the document.
    fn members(&mut self, path: &str, pointer: &str, members: Vec<(String, &RawValue)>) -> Result<(), Refusal> {
        let mut seen = std::collections::HashSet::new();
        for (name, raw) in members {
            let at = format!("{pointer}/{}", escape(&name));
            if !seen.insert(name.clone()) {
                self.out
                    .problems
                    .push(format!("{} stands there twice, the first one was taken", short(&at)));
                continue;
            }
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if let Some(field) = field_at(&path) {
                self.fact(field, at, raw);
            } else if SECTIONS.contains(&path.as_str()) {
                match open(raw)? {
                    Members::Object(inner) => self.members(&path, &at, inner)?,
                    Members::Null => {}
                    Members::List(_) | Members::Scalar => self.out.problems.push(format!("{at}: an object is expected")),
                }
            } else if let Some(list) = list_at(&format!("{path}[]")) {
                self.rows(list, &at, raw)?;
            } else if path != "schema" {
                self.out
                    .notes
                    .push(format!("ignored: {} is not a field of a fact sheet", short(&at)));
            }
        }
        Ok(())
    }

    fn fact(&mut self, field: &Field, pointer: String, raw: &RawValue) {
        let found = scalar(raw).and_then(|text| text.map(|t| value(field.form, &t)).transpose());
        match found {
            Ok(Some(value)) => self.out.facts.push(Found {
                path: field.path.to_owned(),
                value,
                locator: Locator::JsonPointer { pointer },
            }),
            Ok(None) => {}
            Err(why) => self.out.problems.push(format!("{pointer}: {why}")),
        }
    }

    fn rows(&mut self, list: &List, pointer: &str, raw: &RawValue) -> Result<(), Refusal> {
        let items = match open(raw)? {
            Members::List(items) => items,
            Members::Null => return Ok(()),
            Members::Object(_) | Members::Scalar => {
                self.out.problems.push(format!("{pointer}: a list is expected"));
                return Ok(());
            }
        };
        for (index, item) in items.into_iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            self.rows += 1;
            if self.rows > MAX_COMPARABLES {
                return Err(Refusal::too_large(format!(
                    "there are more than {MAX_COMPARABLES} rows in its lists"
                )));
            }
            let Members::Object(members) = open(item)? else {
                self.out.problems.push(format!("{pointer}: an object is expected"));
                continue;
            };
            match self.row(list, &pointer, members)? {
                Ok(value) => self.out.facts.push(Found {
                    path: list.path.to_owned(),
                    value,
                    locator: Locator::JsonPointer { pointer },
                }),
                Err(problems) => self.out.problems.push(format!("{pointer} was left out: {}", problems.join("; "))),
            }
        }
        Ok(())
    }

    fn row(
        &mut self,
        list: &List,
        pointer: &str,
        members: Vec<(String, &RawValue)>,
    ) -> Result<Result<serde_json::Value, Vec<String>>, Refusal> {
        let mut texts: Vec<(&'static str, String)> = Vec::new();
        let mut problems = Vec::new();
        for (name, raw) in members {
            let Some(column) = list.columns.iter().find(|c| c.name == name) else {
                let at = format!("{pointer}/{}", escape(&name));
                self.out
                    .notes
                    .push(format!("ignored: {} is not a field of a row of {}", short(&at), list.path));
                continue;
            };
            if column.name == list.money
                && let Members::Object(money) = open(raw)?
            {
                for (part, raw) in money {
                    let column = match part.as_str() {
                        "amount" => list.money,
                        "currency" => CURRENCY,
                        _ => continue,
                    };
                    take(column, raw, &mut texts, &mut problems);
                }
                continue;
            }
            take(column.name, raw, &mut texts, &mut problems);
        }
        if !problems.is_empty() {
            return Ok(Err(problems));
        }
        Ok(list.row(|name| texts.iter().find(|(n, _)| *n == name).map(|(_, t)| t.as_str())))
    }
}

fn take(column: &'static str, raw: &RawValue, texts: &mut Vec<(&'static str, String)>, problems: &mut Vec<String>) {
    match scalar(raw) {
        Ok(Some(_)) if texts.iter().any(|(n, _)| *n == column) => problems.push(format!("{column} stands there twice")),
        Ok(Some(text)) => texts.push((column, text)),
        Ok(None) => {}
        Err(why) => problems.push(format!("{column}: {why}")),
    }
}

/// A value that stands alone, as text: what a string says, or a number or a word as it is written. `null` is nothing.
fn scalar(raw: &RawValue) -> Result<Option<String>, String> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text)
            .map(Some)
            .map_err(|_| "the text has an escape that stands for no character".to_owned()),
        Some(b'{') => Err("a plain value is expected, not an object".to_owned()),
        Some(b'[') => Err("a plain value is expected, not a list".to_owned()),
        Some(b'n') => Ok(None),
        Some(_) | None => Ok(Some(text.to_owned())),
    }
}

enum Members<'r> {
    Object(Vec<(String, &'r RawValue)>),
    List(Vec<&'r RawValue>),
    Null,
    Scalar,
}

/// Opens one level of a value.
fn open(raw: &RawValue) -> Result<Members<'_>, Refusal> {
    let text = raw.get();
    let refused = |e: serde_json::Error| Refusal::malformed(format!("not valid JSON: {e}"));
    match text.as_bytes().first() {
        Some(b'{') => serde_json::from_str(text).map(|Entries(m)| Members::Object(m)).map_err(refused),
        Some(b'[') => serde_json::from_str(text).map(Members::List).map_err(refused),
        Some(b'n') => Ok(Members::Null),
        Some(_) | None => Ok(Members::Scalar),
    }
}

/// The members of an object in the order of the text, repeated names too.
struct Entries<'r>(Vec<(String, &'r RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A name as a step of a JSON pointer (RFC 6901).
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A pointer as a message may show it: names of unknown fields can be of any length.
fn short(pointer: &str) -> String {
    let mut text: String = pointer.chars().take(120).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if pointer.chars().nth(120).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
