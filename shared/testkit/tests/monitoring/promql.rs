//! As much of PromQL as tells which series a query reads, and by which labels it puts them together.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

/// What a query asks of one metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    /// As it stands in the query, without a range.
    pub text: String,
    /// The labels that its series must have.
    pub labels: BTreeSet<String>,
}

impl Selector {
    /// The metric without what a histogram adds to its name.
    pub fn base(&self) -> &str {
        let suffix = ["_bucket", "_sum", "_count"].into_iter().find_map(|s| self.metric.strip_suffix(s));
        suffix.unwrap_or(&self.metric)
    }
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Number,
    Text(String),
    /// Matchers with their braces.
    Matchers(String),
    Open,
    Close,
    Other,
}

/// Every selector of a query that puts its `by (…)` before what it puts together.
///
/// # Panics
/// When the query is not written in that way.
pub fn selectors(query: &str) -> Vec<Selector> {
    let tokens = tokens(query);
    let renamed = renamed(&tokens);
    let (mut found, mut frames, mut pending) = (Vec::new(), Vec::<Vec<String>>::new(), None);
    let mut rest = tokens.iter().peekable();
    while let Some(token) = rest.next() {
        match token {
            Token::Open => frames.push(pending.take().unwrap_or_default()),
            Token::Close => drop(frames.pop().expect("a bracket that was opened")),
            Token::Word(word) => match word.as_str() {
                "by" | "without" | "on" | "ignoring" | "group_left" | "group_right" => {
                    if rest.next_if_eq(&&Token::Open).is_some() {
                        let inside = rest.by_ref().take_while(|t| **t != Token::Close);
                        let labels: Vec<_> = inside
                            .filter_map(|t| if let Token::Word(w) = t { Some(w.clone()) } else { None })
                            .collect();
                        if word == "by" {
                            assert_eq!(rest.peek(), Some(&&Token::Open), "by (…) stands behind in {query}");
                            pending = Some(labels);
                        }
                    }
                }
                "and" | "or" | "unless" | "offset" | "bool" | "Inf" | "NaN" => {}
                _ => {
                    let next = rest.peek();
                    let aggregates = matches!(next, Some(Token::Word(w)) if w == "by" || w == "without");
                    if aggregates || next == Some(&&Token::Open) {
                        continue;
                    }
                    let matchers = match next {
                        Some(Token::Matchers(text)) => text.as_str(),
                        _ => "",
                    };
                    let origin = |label: &String| renamed.iter().find(|(to, _)| to == label).map_or(label, |(_, from)| from).clone();
                    found.push(Selector {
                        metric: word.clone(),
                        text: format!("{word}{matchers}"),
                        labels: frames.iter().flatten().map(origin).collect(),
                    });
                }
            },
            Token::Number | Token::Text(_) | Token::Matchers(_) | Token::Other => {}
        }
    }
    found
}

/// The labels that `label_replace` makes, each with the one that it is made of: four texts in a row, to, how, from, of what form.
fn renamed(tokens: &[Token]) -> Vec<(String, String)> {
    let texts: Vec<_> = tokens
        .iter()
        .filter_map(|t| if let Token::Text(text) = t { Some(text) } else { None })
        .collect();
    texts.chunks_exact(4).map(|four| (four[0].clone(), four[2].clone())).collect()
}

fn tokens(query: &str) -> Vec<Token> {
    let mut chars = query.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            c if c.is_whitespace() => continue,
            '"' => Token::Text(text(&mut chars)),
            '{' => Token::Matchers(enclosed('{', '}', &mut chars)),
            '[' => {
                enclosed('[', ']', &mut chars);
                continue;
            }
            '(' => Token::Open,
            ')' => Token::Close,
            c if c.is_ascii_digit() => {
                word(c, &mut chars);
                Token::Number
            }
            c if c.is_ascii_alphabetic() || c == '_' => Token::Word(word(c, &mut chars)),
            _ => Token::Other,
        });
    }
    tokens
}

fn word(first: char, chars: &mut Peekable<Chars>) -> String {
    let mut word = first.to_string();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.')) {
        word.push(c);
    }
    word
}

/// A text behind its first quotation mark, as it is written.
fn text(chars: &mut Peekable<Chars>) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => return text,
            '\\' => text.extend([Some('\\'), chars.next()].into_iter().flatten()),
            c => text.push(c),
        }
    }
    panic!("a text without its end: {text}")
}

fn enclosed(open: char, close: char, chars: &mut Peekable<Chars>) -> String {
    let mut inside = open.to_string();
    while let Some(c) = chars.next() {
        match c {
            '"' => inside.push_str(&format!("\"{}\"", text(chars))),
            c => inside.push(c),
        }
        if c == close {
            return inside;
        }
    }
    panic!("brackets without their end: {inside}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Vec<(String, Vec<String>)> {
        let selectors = selectors(query).into_iter();
        selectors.map(|s| (s.text, s.labels.into_iter().collect())).collect()
    }

    fn wants(text: &str, labels: &[&str]) -> (String, Vec<String>) {
        (text.to_owned(), labels.iter().map(|l| (*l).to_owned()).collect())
    }

    #[test]
    fn a_query_tells_its_series_and_the_labels_that_they_must_have() {
        assert_eq!(
            read(r#"1 - (sum(rate(a_total{code=~"5..", route!~".*\"}(x"}[5m])) or vector(0)) / sum by (x, y) (b offset 1d) > 0.5e3"#),
            [wants(r#"a_total{code=~"5..", route!~".*\"}(x"}"#, &[]), wants("b", &["x", "y"])]
        );
        assert_eq!(
            read(r#"max by (worker) (label_replace(c, "worker", "$1", "dest", "(.+)")) == 1 and on (ns) d:e:f"#),
            [wants("c", &["dest"]), wants("d:e:f", &[])]
        );
        assert_eq!(
            read("histogram_quantile(0.9, sum by (le) (rate(took_seconds_bucket[1h])))"),
            [wants("took_seconds_bucket", &["le"])]
        );
    }
}
