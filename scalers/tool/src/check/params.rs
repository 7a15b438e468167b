//! Trigger parameters by KEDA's own list of them, and numbers and switches as KEDA reads them.

use std::sync::LazyLock;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Schema {
    scalers: Vec<Scaler>,
}

/// A kind of trigger.
#[derive(Debug, Deserialize)]
pub struct Scaler {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub parameters: Vec<Parameter>,
}

/// One of its parameters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    pub name: String,
    #[serde(default)]
    pub optional: bool,
    pub default: Option<serde_json::Value>,
    #[serde(default)]
    pub allowed_value: Vec<serde_json::Value>,
    #[serde(default, rename = "metadataVariableReadable")]
    pub in_metadata: bool,
    #[serde(default, rename = "envVariableReadable")]
    pub from_env: bool,
    #[serde(default, rename = "triggerAuthenticationVariableReadable")]
    pub in_authentication: bool,
}

static SCALERS: LazyLock<Vec<Scaler>> = LazyLock::new(|| {
    let schema: Result<Schema, _> = serde_json::from_str(include_str!("../../schema/scalers-schema.json"));
    // A file of ours; a test reads it.
    schema.map(|s| s.scalers).unwrap_or_default()
});

/// The kinds of triggers that there are.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    SCALERS.iter().map(|s| s.kind.as_str())
}

/// What a kind takes.
pub fn of(kind: &str) -> Option<&'static Scaler> {
    SCALERS.iter().find(|s| s.kind == kind)
}

impl Scaler {
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|p| p.name == name)
    }
}

impl Parameter {
    fn default_text(&self) -> String {
        match &self.default {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    /// Whether KEDA reads it as a switch.
    pub fn is_switch(&self) -> bool {
        matches!(self.default_text().as_str(), "true" | "false")
    }

    /// Whether KEDA reads it as a whole number. The list has text only, so what the default says, and the names.
    pub fn is_whole(&self) -> bool {
        self.default_text().parse::<i64>().is_ok() || self.name == "queryValue"
    }

    pub fn allowed(&self) -> Vec<String> {
        let text = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        self.allowed_value.iter().map(text).collect()
    }
}

/// A whole number as JSON writes it: no plus, no leading nought, no exponent.
pub fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// A switch as Go's `ParseBool` reads it.
pub fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// `1-4,8,10-12` as numbers; at most a thousand.
pub fn partitions(text: &str) -> Option<Vec<i32>> {
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.trim().parse::<i32>().ok()?, to.trim().parse::<i32>().ok()?);
        if from < 0 || to < from || to - from > 1000 || all.len() > 1000 {
            return None;
        }
        all.extend(from..=to);
    }
    Some(all)
}

/// The name that is meant, when one is near enough: by typing errors, or by how it begins.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let near = known.filter_map(|k| {
        let other = k.to_lowercase();
        let distance = strsim::damerau_levenshtein(&lower, &other);
        let alike = strsim::jaro_winkler(&lower, &other);
        let meant = distance <= 1 + k.len().min(name.len()) / 3 || alike > 0.88;
        meant.then_some((alike - distance as f64 / 100.0, k))
    });
    near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_parameters_is_there() {
        assert_eq!(SCALERS.len(), 78);
        let kafka = of("kafka").unwrap();
        assert!(kafka.parameter("lagThreshold").unwrap().is_whole());
        assert!(kafka.parameter("allowIdleConsumers").unwrap().is_switch());
        assert!(!kafka.parameter("password").unwrap().in_metadata);
    }

    #[test]
    fn numbers_and_switches_are_keda_s() {
        for wrong in ["1e3", "010", "+10", "10.5", "0x10", "", "-", "٣", "99999999999999999999"] {
            assert_eq!(whole(wrong), None, "{wrong}");
        }
        assert_eq!((whole("0"), whole("-5"), whole("20")), (Some(0), Some(-5), Some(20)));
        assert_eq!((switch("yes"), switch("True"), switch("0")), (None, Some(true), Some(false)));
        assert_eq!(partitions("1-3, 8"), Some(vec![1, 2, 3, 8]));
        assert_eq!((partitions("3-1"), partitions("a"), partitions("0-9999999")), (None, None, None));
    }

    #[test]
    fn the_nearest_name_is_found_and_no_far_one() {
        let known = || of("kafka").unwrap().parameters.iter().map(|p| p.name.as_str());
        assert_eq!(nearest("lagTreshold", known()), Some("lagThreshold"));
        assert_eq!(nearest("consumergroup", known()), Some("consumerGroup"));
        assert_eq!(nearest("somethingElse", known()), None);
    }
}
