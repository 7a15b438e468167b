//! KEDA's custom resource definitions: what the API server takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Value as Json, json};

use super::finding::{Finding, Level};
use super::params::nearest;
use crate::yaml::{Node, Value, parse};

/// The kinds that are checked, and their definitions.
const KINDS: [(&str, &str); 4] = [
    ("ScaledJob", include_str!("../../schema/keda.sh_scaledjobs.yaml")),
    ("ScaledObject", include_str!("../../schema/keda.sh_scaledobjects.yaml")),
    (
        "TriggerAuthentication",
        include_str!("../../schema/keda.sh_triggerauthentications.yaml"),
    ),
    (
        "ClusterTriggerAuthentication",
        include_str!("../../schema/keda.sh_clustertriggerauthentications.yaml"),
    ),
];

/// Keys of a ScaledObject that people put into a ScaledJob: they have a rule of their own.
const OBJECT_ONLY: [&str; 6] = [
    "cooldownPeriod",
    "initialCooldownPeriod",
    "idleReplicaCount",
    "fallback",
    "advanced",
    "scaleTargetRef",
];

struct Kind {
    schema: Json,
    /// As it is, and without the pod.
    whole: Validator,
    patch: Validator,
}

static SCHEMAS: LazyLock<BTreeMap<&'static str, Kind>> =
    LazyLock::new(|| KINDS.into_iter().filter_map(|(kind, text)| Some((kind, compile(text)?))).collect());

/// Whether documents of this kind are checked.
pub fn knows(kind: &str) -> bool {
    KINDS.iter().any(|(known, _)| *known == kind)
}

fn compile(text: &str) -> Option<Kind> {
    let definition = parse(text).ok()?.into_iter().next()?.json();
    let mut schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema")?.clone();
    tidy(&mut schema);
    let mut patch = schema.clone();
    if let Some(required) = patch.pointer_mut("/properties/spec/required").and_then(Json::as_array_mut) {
        required.retain(|name| name != "jobTargetRef");
    }
    if let Some(properties) = patch.pointer_mut("/properties/spec/properties").and_then(Json::as_object_mut) {
        properties.remove("jobTargetRef");
    }
    Some(Kind {
        whole: jsonschema::validator_for(&schema).ok()?,
        patch: jsonschema::validator_for(&patch).ok()?,
        schema,
    })
}

/// OpenAPI's dialect as JSON Schema: texts for people go, and `int32` becomes the bounds that the API server holds to.
fn tidy(schema: &mut Json) {
    match schema {
        Json::Object(map) => {
            map.retain(|key, value| !(key.starts_with("x-kubernetes-validations") || key == "description" && value.is_string()));
            if map.get("format") == Some(&json!("int32")) && map.get("type") == Some(&json!("integer")) {
                map.entry("maximum").or_insert(json!(i32::MAX));
                map.entry("minimum").or_insert(json!(i32::MIN));
            }
            map.values_mut().for_each(tidy);
        }
        Json::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Holds a document of a known kind against its definition.
pub fn check(file: &Path, kind: &str, root: &Node, findings: &mut Vec<Finding>) {
    let Some(known) = SCHEMAS.get(kind) else { return };
    let whole = kind != "ScaledJob" || root.at("spec.jobTargetRef").is_some();
    let validator = if whole { &known.whole } else { &known.patch };
    if root.get("apiVersion").and_then(Node::text) != Some("keda.sh/v1alpha1") {
        let node = root.get("apiVersion").unwrap_or(root);
        findings.push(error(
            file,
            node,
            "apiVersion",
            format!("it is {}, it must be keda.sh/v1alpha1", node.what()),
        ));
    }
    let name = root.at("metadata.name");
    if name.and_then(Node::text).is_none_or(|n| !dns_name(n)) {
        let node = name.or(root.get("metadata")).unwrap_or(root);
        let what = "it must be a name of a-z, 0-9, '-' and '.'".to_owned();
        findings.push(error(file, node, "metadata.name", what));
    }
    unknown_keys(file, kind, "", root, &known.schema, findings);
    let json = root.json();
    for e in validator.iter_errors(&json) {
        let path = e.instance_path().as_str().trim_start_matches('/').replace('/', ".");
        // Trigger metadata is text; that has a rule of its own, which names the parameter.
        if path.starts_with("spec.triggers.") && path.contains(".metadata.") {
            continue;
        }
        let node = if path.is_empty() { Some(root) } else { root.at(&path) };
        findings.push(error(file, node.unwrap_or(root), &path, e.to_string()));
    }
    limits_of_objects(file, kind, root, findings);
}

/// The one rule that the definition has in a language of its own.
fn limits_of_objects(file: &Path, kind: &str, root: &Node, findings: &mut Vec<Finding>) {
    let (min, max) = (root.at("spec.minReplicaCount"), root.at("spec.maxReplicaCount"));
    if let Some(node) = min
        && kind == "ScaledObject"
        && node.int() > Some(max.and_then(Node::int).unwrap_or(100))
    {
        let what = "minReplicaCount must be less than or equal to maxReplicaCount".to_owned();
        findings.push(error(file, node, "spec.minReplicaCount", what));
    }
}

fn error(file: &Path, node: &Node, key: &str, what: String) -> Finding {
    Finding::new("S02", Level::Error, file, &node.place, key, what)
}

fn dns_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.bytes().all(inner) && edge(name.as_bytes().first()) && edge(name.as_bytes().last()) && name.len() <= 253
}

fn unknown_keys(file: &Path, kind: &str, path: &str, node: &Node, schema: &Json, findings: &mut Vec<Finding>) {
    match &node.value {
        Value::List(items) => {
            let Some(schema) = schema.get("items") else { return };
            for (n, item) in items.iter().enumerate() {
                unknown_keys(file, kind, &join(path, &n.to_string()), item, schema, findings);
            }
        }
        Value::Map(entries) => {
            let Some(known) = schema.get("properties").and_then(Json::as_object) else {
                return;
            };
            if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true)) {
                return;
            }
            for (key, value) in entries {
                let path = join(path, &key.name);
                if let Some(schema) = known.get(&key.name) {
                    unknown_keys(file, kind, &path, value, schema, findings);
                } else if kind == "ScaledJob" && path == format!("spec.{}", key.name) && OBJECT_ONLY.contains(&key.name.as_str()) {
                    let what = "a ScaledJob has no such setting".to_owned();
                    findings.push(Finding::new("L12", Level::Warning, file, &key.place, &path, what));
                } else {
                    let near = nearest(&key.name, known.keys().map(String::as_str));
                    let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                    let what = format!("there is no such key{near}");
                    findings.push(Finding::new("S03", Level::Error, file, &key.place, &path, what));
                }
            }
        }
        _ => {}
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_read() {
        for (kind, _) in KINDS {
            assert!(SCHEMAS.contains_key(kind), "{kind}");
        }
    }
}
