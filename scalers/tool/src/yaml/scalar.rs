//! What an unquoted scalar is to Kubernetes, whose reader goes by YAML 1.1.

use saphyr_parser::ScalarStyle;

use super::Value;

pub(super) fn resolve(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Value::Bool(false),
        _ => number(text).unwrap_or_else(|| Value::Text(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let plain = digits.replace('_', "");
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter();
    let prefixed = radix
        .filter_map(|(prefix, radix)| i64::from_str_radix(plain.strip_prefix(prefix)?, radix).ok())
        .next();
    let octal = || {
        (plain.len() > 1 && plain.starts_with('0'))
            .then(|| i64::from_str_radix(&plain, 8).ok())
            .flatten()
    };
    let whole = prefixed.or_else(octal).or_else(|| plain.parse::<i64>().ok());
    if let Some(whole) = whole {
        return Some(Value::Int(sign * whole));
    }
    let float = plain
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'));
    let value = plain.parse::<f64>().ok().filter(|_| float)?;
    Some(Value::Float(f64::from(sign as i32) * value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unquoted_words_are_what_kubernetes_takes_them_for() {
        let plain = |text| resolve(text, ScalarStyle::Plain);
        for (text, value) in [
            ("20", Value::Int(20)),
            ("-3", Value::Int(-3)),
            ("010", Value::Int(8)),
            ("0x10", Value::Int(16)),
            ("1e3", Value::Float(1000.0)),
            ("0.5", Value::Float(0.5)),
            ("yes", Value::Bool(true)),
            ("off", Value::Bool(false)),
            ("~", Value::Null),
            ("2.8.0", Value::Text("2.8.0".to_owned())),
            ("scram_sha512", Value::Text("scram_sha512".to_owned())),
            ("1-4,8", Value::Text("1-4,8".to_owned())),
        ] {
            assert_eq!(plain(text), value, "{text}");
        }
        assert_eq!(resolve("20", ScalarStyle::DoubleQuoted), Value::Text("20".to_owned()));
    }
}
