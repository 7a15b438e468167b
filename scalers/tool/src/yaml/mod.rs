//! YAML with the place of every key and value, so that a message can point at it and an edit can leave the rest alone.
//!
//! Scalars are understood as Kubernetes' own reader understands them, `yes` and `010` included. Anchors, aliases and tags
//! are refused: a scaler file needs none, and an alias can make a small file enormous.

mod edit;
mod scalar;

use std::ops::Range;

use saphyr_parser::{Event, Parser, Span};

pub use edit::Edit;

/// A mapping or list may be nested this deep.
const DEEPEST: usize = 64;

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
    /// In the file's text.
    pub bytes: Range<usize>,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub value: Value,
    pub place: Place,
}

/// A key and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// Why a text could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct Unreadable {
    pub line: usize,
    pub column: usize,
    pub what: String,
}

impl Node {
    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, node)| node)
    }

    /// The key with its value.
    pub fn entry(&self, key: &str) -> Option<(&Key, &Node)> {
        self.map().iter().find(|(k, _)| k.name == key).map(|(k, n)| (k, n))
    }

    /// The value at a path of keys and positions, such as `spec.triggers.0.metadata`.
    pub fn at(&self, path: &str) -> Option<&Node> {
        path.split('.').try_fold(self, |node, step| match &node.value {
            Value::List(items) => items.get(step.parse::<usize>().ok()?),
            _ => node.get(step),
        })
    }

    /// The entries of a mapping; of anything else, none.
    pub fn map(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; of anything else, none.
    pub fn list(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn int(&self) -> Option<i64> {
        match self.value {
            Value::Int(n) => Some(n),
            _ => None,
        }
    }

    /// The same as JSON, for a schema.
    pub fn json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(n) => Json::from(*n),
            Value::Float(n) => Json::from(*n),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Node::json).collect()),
            Value::Map(entries) => Json::Object(entries.iter().map(|(k, n)| (k.name.clone(), n.json())).collect()),
        }
    }

    /// What it is, for a message.
    pub fn what(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(b) => format!("the boolean {b}"),
            Value::Int(n) => format!("the number {n}"),
            Value::Float(n) => format!("the number {n}"),
            Value::Text(text) => format!("{text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Reads the documents of a text. A text without any has none.
///
/// # Errors
/// When it is no YAML, uses anchors or tags, is too deep, or a key stands twice in one mapping.
pub fn parse(text: &str) -> Result<Vec<Node>, Unreadable> {
    let mut loader = Loader {
        text,
        offsets: Offsets::of(text),
        documents: Vec::new(),
        open: Vec::new(),
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| Unreadable {
            line: e.marker().line(),
            column: e.marker().col() + 1,
            what: e.info().to_owned(),
        })?;
        loader.on(event, span)?;
    }
    Ok(loader.documents)
}

/// The byte at which each character begins; the parser counts characters.
enum Offsets {
    Ascii,
    Table(Vec<usize>),
}

impl Offsets {
    fn of(text: &str) -> Self {
        if text.is_ascii() {
            return Self::Ascii;
        }
        Self::Table(text.char_indices().map(|(at, _)| at).chain([text.len()]).collect())
    }

    fn byte(&self, index: usize) -> usize {
        match self {
            Self::Ascii => index,
            Self::Table(table) => table.get(index).or(table.last()).copied().unwrap_or(0),
        }
    }
}

/// A list or mapping that has not ended.
struct Open {
    value: Value,
    start: Span,
    /// A key that waits for its value.
    key: Option<Key>,
}

struct Loader<'t> {
    text: &'t str,
    offsets: Offsets,
    documents: Vec<Node>,
    open: Vec<Open>,
}

impl Loader<'_> {
    fn on(&mut self, event: Event<'_>, span: Span) -> Result<(), Unreadable> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.plain(anchor, tag.is_some(), span)?;
                let value = scalar::resolve(&text, style);
                self.put(
                    Node {
                        value,
                        place: self.place(span),
                    },
                    Some(text.into_owned()),
                )
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain(anchor, tag.is_some(), span)?;
                self.begin(Value::List(Vec::new()), span)
            }
            Event::MappingStart(anchor, tag) => {
                self.plain(anchor, tag.is_some(), span)?;
                self.begin(Value::Map(Vec::new()), span)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let mut place = self.place(open.start);
                place.bytes.end = self.offsets.byte(span.end.index()).max(place.bytes.start);
                self.put(Node { value: open.value, place }, None)
            }
            Event::Alias(_) => Err(self.refuse(span, "aliases are not understood here; write it out".to_owned())),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, value: Value, start: Span) -> Result<(), Unreadable> {
        if self.open.len() >= DEEPEST {
            return Err(self.refuse(start, format!("nested deeper than {DEEPEST}")));
        }
        self.open.push(Open { value, start, key: None });
        Ok(())
    }

    fn plain(&self, anchor: usize, tagged: bool, span: Span) -> Result<(), Unreadable> {
        if anchor > 0 || tagged {
            return Err(self.refuse(span, "anchors and tags are not understood here; write it out".to_owned()));
        }
        Ok(())
    }

    fn put(&mut self, node: Node, scalar: Option<String>) -> Result<(), Unreadable> {
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match &mut open.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let Some(name) = scalar else {
                        return Err(at(&node.place, "a key must be text".to_owned()));
                    };
                    if let Some((first, _)) = entries.iter().find(|(k, _)| k.name == name) {
                        return Err(at(
                            &node.place,
                            format!("the key {name} is there twice, first in line {}", first.place.line),
                        ));
                    }
                    open.key = Some(Key { name, place: node.place });
                }
            },
            _ => {}
        }
        Ok(())
    }

    fn place(&self, span: Span) -> Place {
        let bytes = self.offsets.byte(span.start.index())..self.offsets.byte(span.end.index());
        let end = self.quoted_end(bytes.start).unwrap_or(bytes.end);
        Place {
            line: span.start.line(),
            column: span.start.col() + 1,
            bytes: bytes.start..end.min(self.text.len()),
        }
    }

    /// Behind the closing quote of a quoted scalar: the parser's own span goes on to the next token.
    fn quoted_end(&self, start: usize) -> Option<usize> {
        let rest = self.text.get(start..)?;
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let mut chars = rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            let doubled = c == '\'' && chars.peek().is_some_and(|(_, next)| *next == '\'');
            if (quote == '"' && c == '\\') || (quote == c && doubled) {
                chars.next();
            } else if c == quote {
                return Some(start + at + 1);
            }
        }
        None
    }

    fn refuse(&self, span: Span, what: String) -> Unreadable {
        at(&self.place(span), what)
    }
}

fn at(place: &Place, what: String) -> Unreadable {
    Unreadable {
        line: place.line,
        column: place.column,
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_place() {
        let text = "# ü: a comment\nspec:\n  min: 0 # why\n  triggers:\n    - metadata: { lag: \"20\" }\n";
        let root = &parse(text).unwrap()[0];
        let lag = root.at("spec.triggers.0.metadata.lag").unwrap();
        assert_eq!(
            (lag.text(), lag.place.line, text.get(lag.place.bytes.clone()).unwrap()),
            (Some("20"), 5, "\"20\"")
        );
        let min = root.at("spec.min").unwrap();
        assert_eq!(
            (
                min.int(),
                min.place.line,
                min.place.column,
                text.get(min.place.bytes.clone()).unwrap()
            ),
            (Some(0), 3, 8, "0")
        );
    }

    #[test]
    fn a_quoted_value_ends_with_its_quote() {
        let text = "a: \"x \\\" # y\"   # why\nb: 'it''s'  \nc: [ 'd' , \"é\" ]\n";
        let root = &parse(text).unwrap()[0];
        let at = |path: &str| text.get(root.at(path).unwrap().place.bytes.clone()).unwrap();
        assert_eq!(["a", "b", "c.0", "c.1"].map(at), ["\"x \\\" # y\"", "'it''s'", "'d'", "\"é\""]);
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for (text, line, part) in [
            ("a: 1\na: 2\n", 2, "twice, first in line 1"),
            ("a: &x 1\nb: *x\n", 1, "anchors"),
            ("a: !!str 1\n", 1, "tags"),
            ("a: [1\nb: 2\n", 2, ""),
            ("? [a]\n: 1\n", 1, "a key must be text"),
        ] {
            let e = parse(text).unwrap_err();
            assert!(e.line == line && e.what.contains(part), "{text:?}: {e}");
        }
        let deep = format!("{}{}", "[".repeat(70), "]".repeat(70));
        assert!(parse(&deep).unwrap_err().what.contains("deeper"));
        assert_eq!(parse("# nothing\n").unwrap().len(), 0);
    }
}
