//! Settings come from the environment, and every mistake in them is reported in one run.
//!
//! `envy` reads the variables of one concern into a struct of `Option<String>` fields, which cannot fail and so
//! cannot quote a secret in an error; the typed conversion, which can fail, happens in [`Reader`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::Secret;

/// The environment as a value, so that a test can have one of its own.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// The variables of this process. A variable that is not UTF-8 is treated as absent.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    /// Reads the variables of one concern into a struct of `Option<String>` fields named after them in lower case.
    /// Variables that are set to nothing count as unset.
    #[allow(clippy::expect_used)]
    pub fn raw<T: DeserializeOwned>(&self) -> T {
        let set = self
            .0
            .iter()
            .filter(|(_, v)| !v.trim().is_empty())
            .map(|(k, v)| (k.clone(), v.clone()));
        envy::from_iter(set).expect("a struct of Option<String> fields can always be read")
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(vars: I) -> Self {
        Self(vars.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is wrong: {}", self.problems.join("; "))
    }
}

impl std::error::Error for ConfigError {}

/// Converts raw settings, collects what is wrong, and remembers what is in force (secrets masked).
#[derive(Default)]
pub struct Reader {
    problems: Vec<String>,
    effective: BTreeMap<&'static str, String>,
}

impl Reader {
    /// A setting that must be there. `None` when it is missing or malformed, which [`Reader::finish`] will report.
    pub fn required<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str, raw: Option<String>) -> Option<T> {
        match raw {
            None => self.missing(name),
            Some(text) => self.convert(name, text.clone(), text),
        }
    }

    /// A setting with a default, which is given as it would be written.
    pub fn with_default<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str, raw: Option<String>, default: &str) -> Option<T> {
        let (text, shown) = match raw {
            Some(text) => (text.clone(), text),
            None => (default.to_owned(), format!("{default} (default)")),
        };
        self.convert(name, text, shown)
    }

    /// A setting that may be absent.
    pub fn optional<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str, raw: Option<String>) -> Option<Option<T>> {
        match raw {
            Some(text) => self.convert(name, text.clone(), text).map(Some),
            None => {
                self.effective.insert(name, "(not set)".to_owned());
                Some(None)
            }
        }
    }

    /// A secret that must be there.
    pub fn required_secret(&mut self, name: &'static str, raw: Option<String>) -> Option<Secret> {
        match raw {
            None => self.missing(name),
            Some(text) => self.secret(name, text),
        }
    }

    /// A secret that may be absent.
    pub fn optional_secret(&mut self, name: &'static str, raw: Option<String>) -> Option<Secret> {
        match raw {
            Some(text) => self.secret(name, text),
            None => {
                self.effective.insert(name, "(not set)".to_owned());
                None
            }
        }
    }

    /// Reports a mistake that is not one variable's form. It must say which variable to change, and must not quote secrets.
    pub fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// The settings in force, masked, by name.
    pub fn effective(&self) -> &BTreeMap<&'static str, String> {
        &self.effective
    }

    /// The configuration, when `complete` has all its parts and nothing was wrong; else everything that was.
    pub fn finish<T>(&self, complete: Option<T>) -> Result<T, ConfigError> {
        match complete {
            Some(config) if self.problems.is_empty() => Ok(config),
            _ => Err(ConfigError {
                problems: self.problems.clone(),
            }),
        }
    }

    fn missing<T>(&mut self, name: &'static str) -> Option<T> {
        self.effective.insert(name, "(missing)".to_owned());
        self.problems.push(format!("{name} is not set"));
        None
    }

    fn secret(&mut self, name: &'static str, text: String) -> Option<Secret> {
        self.effective.insert(name, "***".to_owned());
        Some(Secret::new(text))
    }

    fn convert<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str, text: String, shown: String) -> Option<T> {
        self.effective.insert(name, shown);
        match text.trim().parse() {
            Ok(value) => Some(value),
            Err(e) => {
                self.problems.push(format!("{name}={text:?} is malformed: {e}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Raw {
        port: Option<String>,
        size: Option<String>,
        key: Option<String>,
        name: Option<String>,
    }

    fn read(vars: &[(&str, &str)]) -> (Result<(u16, u32, Secret), ConfigError>, String) {
        let raw: Raw = vars.iter().copied().collect::<Env>().raw();
        let mut r = Reader::default();
        let port = r.required("PORT", raw.port);
        let size = r.with_default("SIZE", raw.size, "7");
        let key = r.required_secret("KEY", raw.key);
        let _: Option<Option<String>> = r.optional("NAME", raw.name);
        let complete = port.zip(size).zip(key).map(|((port, size), key)| (port, size, key));
        (r.finish(complete), format!("{:?}", r.effective()))
    }

    #[test]
    fn every_mistake_is_reported_at_once_and_no_secret_is_shown() {
        let (result, _) = read(&[("SIZE", "big"), ("KEY", "")]);
        let text = result.unwrap_err().to_string();
        for part in ["PORT is not set", "SIZE=\"big\" is malformed", "KEY is not set"] {
            assert!(text.contains(part), "{text}");
        }
        let (result, effective) = read(&[("PORT", "80"), ("KEY", "hunter2")]);
        assert_eq!(result.unwrap().1, 7);
        assert!(!effective.contains("hunter2") && effective.contains("7 (default)"), "{effective}");
    }
}
