//! Changes of single values in a text; everything else, comments too, stays as it is byte for byte.

use anyhow::{Context as _, bail, ensure};

use super::{Node, Value, parse};

/// A value to set, by the path of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// For example `spec.maxReplicaCount` or `spec.triggers.0.metadata.lagThreshold`.
    pub path: String,
    /// As it is written, quotes included.
    pub value: String,
}

impl Edit {
    /// Applies edits to a text with one document. A key that is not there is added as the last of its mapping, as long as
    /// the mapping itself is there.
    ///
    /// # Errors
    /// When the text cannot be read, the place is no scalar or not there, or the outcome would not say what was asked.
    pub fn apply(edits: &[Self], text: &str) -> anyhow::Result<String> {
        let mut text = text.to_owned();
        for edit in edits {
            let changed = edit.one(&text)?;
            let (before, after) = (root(&text)?, root(&changed)?);
            let wanted = root(&format!("v: {}\n", edit.value))?;
            let wanted = wanted.get("v").map(|n| &n.value);
            ensure!(
                after.at(&edit.path).map(|n| &n.value) == wanted && others(&before, &edit.path) == others(&after, &edit.path),
                "{} cannot be changed safely; change it by hand",
                edit.path
            );
            text = changed;
        }
        Ok(text)
    }

    fn one(&self, text: &str) -> anyhow::Result<String> {
        let root = root(text)?;
        if let Some(node) = root.at(&self.path) {
            if matches!(node.value, Value::List(_) | Value::Map(_)) {
                bail!("{} is not a single value", self.path);
            }
            let mut changed = text.to_owned();
            changed.replace_range(node.place.bytes.clone(), &self.value);
            return Ok(changed);
        }
        let (parent, key) = self.path.rsplit_once('.').context("a path has a mapping and a key")?;
        let mapping = root.at(parent).with_context(|| format!("{parent} is not there"))?;
        let (last, value) = mapping.map().last().with_context(|| format!("{parent} is no mapping with keys"))?;
        let single = !matches!(value.value, Value::List(_) | Value::Map(_));
        // After the line of the first key when the last holds more than a line.
        let (anchor, after) = match mapping
            .map()
            .iter()
            .rev()
            .find(|(_, n)| !matches!(n.value, Value::List(_) | Value::Map(_)))
        {
            Some((anchor, node)) if !single => (anchor, node),
            _ if single => (last, value),
            _ => bail!("{parent} has no single value that {key} could follow"),
        };
        let end = after.place.bytes.end.max(anchor.place.bytes.end);
        let line_end = text.get(end..).and_then(|rest| rest.find('\n')).map_or(text.len(), |at| end + at);
        let indent = " ".repeat(anchor.place.column - 1);
        let mut changed = text.to_owned();
        changed.insert_str(line_end, &format!("\n{indent}{key}: {}", self.value));
        Ok(changed)
    }
}

fn root(text: &str) -> anyhow::Result<Node> {
    let mut documents = parse(text)?;
    ensure!(documents.len() == 1, "there must be one document");
    Ok(documents.remove(0))
}

/// Everything but what stands at the path, as JSON.
fn others(root: &Node, path: &str) -> serde_json::Value {
    let mut json = root.json();
    let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
    let pointer = if parent.is_empty() {
        String::new()
    } else {
        format!("/{}", parent.replace('.', "/"))
    };
    if let Some(mapping) = json.pointer_mut(&pointer).and_then(|v| v.as_object_mut()) {
        mapping.remove(key);
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# first\nspec:\n  max: 12   # as many as partitions\n  triggers:\n    - metadata:\n        lag: \"20\" # about a minute\n";

    fn edit(path: &str, value: &str) -> anyhow::Result<String> {
        Edit::apply(
            &[Edit {
                path: path.to_owned(),
                value: value.to_owned(),
            }],
            TEXT,
        )
    }

    #[test]
    fn a_value_changes_and_every_comment_stays() {
        assert_eq!(edit("spec.max", "8").unwrap(), TEXT.replace("12 ", "8 "));
        assert_eq!(
            edit("spec.triggers.0.metadata.lag", "\"5\"").unwrap(),
            TEXT.replace("\"20\"", "\"5\"")
        );
    }

    #[test]
    fn a_key_that_is_missing_is_added_beside_the_others() {
        let added = edit("spec.polling", "5").unwrap();
        assert_eq!(added, TEXT.replace("partitions\n", "partitions\n  polling: 5\n"));
        let added = edit("spec.triggers.0.metadata.even", "\"true\"").unwrap();
        assert_eq!(added, TEXT.replace("a minute\n", "a minute\n        even: \"true\"\n"));
    }

    #[test]
    fn what_cannot_be_done_safely_is_refused() {
        for (path, value) in [
            ("spec.triggers", "1"),
            ("spec.none.more", "1"),
            ("spec.max", "8\n  other: 1"),
            ("spec.max", "["),
        ] {
            assert!(edit(path, value).is_err(), "{path}: {value}");
        }
    }
}
