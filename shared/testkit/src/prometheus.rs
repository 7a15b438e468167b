//! A Prometheus of a test's own.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::OwnStack;

const CALL: Duration = Duration::from_secs(10);

/// What tells a series from another, its name under `__name__`.
pub type Labels = BTreeMap<String, String>;

/// The real Prometheus as `scripts/stack` starts it, alone, on a free port, with a configuration of the test's; ends with the value.
pub struct Prometheus {
    stack: OwnStack,
    http: Client,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// When it does not take the configuration.
    #[allow(clippy::expect_used)]
    pub async fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("the test's folder takes a file");
        Self {
            stack: OwnStack::of_prometheus(&file).await,
            http: Client::builder().no_proxy().timeout(CALL).build().expect("a plain client"),
            _folder: folder,
        }
    }

    /// The series that a selector has found so far.
    ///
    /// # Panics
    /// When the selector is none.
    pub async fn series(&self, selector: &str) -> Vec<Labels> {
        let data = self.ask("series", &[("match[]", selector)]).await;
        data.as_array().into_iter().flatten().map(labels).collect()
    }

    /// The labels of what a query gives now.
    ///
    /// # Panics
    /// When it is no query, or cannot be answered.
    pub async fn query(&self, query: &str) -> Vec<Labels> {
        let data = self.ask("query", &[("query", query)]).await;
        let results = data["result"].as_array();
        results.into_iter().flatten().map(|r| labels(&r["metric"])).collect()
    }

    /// Every rule as it stands, as Prometheus' API tells it.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn rules(&self) -> Vec<Value> {
        let data = self.ask("rules", &[]).await;
        let groups = data["groups"].as_array().cloned().unwrap_or_default();
        let rules = groups.into_iter().flat_map(|g| g["rules"].as_array().cloned().unwrap_or_default());
        rules.collect()
    }

    #[allow(clippy::expect_used)]
    async fn ask(&self, what: &str, parameters: &[(&str, &str)]) -> Value {
        let url = format!("{}/api/v1/{what}", self.stack.var("PROMETHEUS_URL"));
        let answer = self.http.get(url).query(parameters).send().await.expect("prometheus answers");
        let mut answer: Value = answer.json().await.expect("prometheus answers with JSON");
        assert_eq!(answer["status"], "success", "{what} {parameters:?}: {answer}");
        answer["data"].take()
    }
}

fn labels(set: &Value) -> Labels {
    let pairs = set.as_object().into_iter().flatten();
    pairs
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}
