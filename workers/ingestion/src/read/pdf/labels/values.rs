//! The value behind a label, when it has the form that it must have.

use super::fold;
use super::rules::{Rule, Shape, USES};
use crate::fields::{Form, field_at};
use crate::read::dialect::{Decimals, Evidence, plain};

/// The value behind a label at the beginning of a column. `marked`: behind a colon, or in a column of its own.
pub(super) fn read(rule: &Rule, text: &str, marked: bool) -> Option<String> {
    let form = field_at(rule.path)?.form;
    match rule.shape {
        Shape::Line => {
            let text = without_stop(text.trim_end_matches([',', ';']).trim());
            // A word alone is a heading more often than a value.
            (marked && text.chars().count() >= 5 && text.chars().any(char::is_alphabetic)).then(|| text.to_owned())
        }
        Shape::Number => {
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            let rest = text.get(digits.len()..)?;
            let alone = rest.is_empty() || rest.starts_with([' ', '.', ',', ';', ')']) && !decimal_follows(rest);
            let fits = match form {
                Form::Year => digits.len() == 4,
                _ => (1..=2).contains(&digits.len()),
            };
            ((marked || rest.is_empty()) && alone && fits).then_some(digits)
        }
        Shape::Entry => {
            let text = text.trim_start_matches(':').trim_start();
            let text = ["número", "numero", "núm.", "nº", "n.º", "n°", "no."]
                .iter()
                .find_map(|mark| text.strip_prefix(mark))
                .unwrap_or(text);
            let entry: String = text
                .trim_start()
                .trim_start_matches(':')
                .trim_start()
                .chars()
                .take_while(|c| c.is_ascii_digit() || matches!(c, '.' | '/'))
                .collect();
            let entry = entry.trim_end_matches(['.', '/']);
            let sound = entry.chars().next().is_some_and(|c| c.is_ascii_digit()) && entry.len() <= 15;
            sound.then(|| entry.to_owned())
        }
        Shape::Use => {
            let word: String = text.chars().take_while(|c| c.is_alphabetic()).map(fold).collect();
            let known = USES.iter().find(|(_, names)| names.contains(&word.as_str()));
            known.filter(|_| marked).map(|(own, _)| (*own).to_owned())
        }
        Shape::Area | Shape::Cadastral => None,
    }
}

/// Text without the full stop of its sentence; that of `S.L.` stays.
fn without_stop(text: &str) -> &str {
    match text.strip_suffix('.') {
        Some(rest) if !rest.rsplit(' ').next().unwrap_or_default().contains('.') => rest,
        Some(_) | None => text,
    }
}

fn decimal_follows(rest: &str) -> bool {
    let mut chars = rest.chars();
    matches!(chars.next(), Some('.' | ',')) && chars.next().is_some_and(|c| c.is_ascii_digit())
}

/// The first number of square metres in the sentence, and where it ends. Another area, or another sentence, before it
/// makes it unclear whose it is.
pub(super) fn area(reach: &[char], english: bool) -> Option<(String, usize)> {
    let folded: String = reach.iter().map(|c| fold(*c)).collect();
    let mut at = 0;
    while at < reach.len() {
        if !reach.get(at).is_some_and(char::is_ascii_digit) {
            at += 1;
            continue;
        }
        let length = reach
            .iter()
            .skip(at)
            .take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ','))
            .count();
        let number: String = reach.get(at..at + length)?.iter().collect();
        let number = number.trim_end_matches(['.', ',']);
        let behind: String = reach.iter().skip(at + number.len()).take(20).map(|c| fold(*c)).collect();
        let behind = behind.trim_start();
        let unit = ["m²", "m2", "metros cuadrados", "sq m", "sqm", "square metres"]
            .iter()
            .find(|u| behind.starts_with(**u))?;
        let before: String = folded.chars().take(at).collect();
        let unclear = ["superficie", "util", "area", ";", "parcela", "solar", "finca"];
        if unclear.iter().any(|word| before.contains(word)) {
            return None;
        }
        let end = at + number.len() + behind_offset(reach, at + number.len()) + unit.chars().count();
        return Some((decimals(number, english)?, end.min(reach.len())));
    }
    None
}

/// Spaces from here on.
fn behind_offset(reach: &[char], from: usize) -> usize {
    reach.iter().skip(from).take_while(|c| c.is_whitespace()).count()
}

/// A number as plain text; thousands and decimals as its own form shows, else as the label's language writes them.
fn decimals(number: &str, english: bool) -> Option<String> {
    let mut evidence = Evidence::default();
    evidence.see(number);
    let usual = if english { Decimals::Point } else { Decimals::Comma };
    let decimals = if number.contains(['.', ',']) {
        evidence.decide(Evidence::default()).unwrap_or(usual)
    } else {
        Decimals::Point
    };
    plain(number, decimals).ok()
}

/// A cadastral reference right behind its label, and where it ends: 20 letters and digits of which the reference's own
/// form wants digits at the places 15 to 18 (Spain's Dirección General del Catastro).
pub(super) fn cadastral(reach: &[char]) -> Option<(String, usize)> {
    let mut code = String::new();
    let mut end = 0;
    for (at, c) in reach.iter().enumerate().take(60) {
        match c {
            'A'..='Z' | '0'..='9' => code.push(*c),
            ' ' | ':' | '.' | 'º' | 'n' if code.is_empty() => continue,
            ' ' => continue,
            _ => break,
        }
        if code.len() == 20 {
            end = at + 1;
            break;
        }
    }
    let alone = reach.get(end).is_none_or(|c| !c.is_alphanumeric());
    let number = code.get(14..18).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    (code.len() == 20 && alone && number).then_some((code, end))
}
