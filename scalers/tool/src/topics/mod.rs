//! Brings the topics and the groups' offsets to what `topics.yaml` says, or says what differs.

mod spec;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use bus::KafkaConfig;
use messages::topics;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

pub use spec::{Disk, Promise, TopicSpec, TopicsFile, Wrong, parse, parse_file, read};

use crate::kafka::{Group, Seeded, until};

/// How long one question to the brokers may take.
const CALL: Duration = Duration::from_secs(10);
/// How long everything may take: a broker that was just started makes its internal topics first.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a topic is, beside what it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Partitions; 0 when the topic does not exist.
    pub partitions: usize,
    /// Partitions that have a leader.
    pub led: usize,
    /// What was set for this topic alone, by Kafka's names.
    pub set: BTreeMap<String, String>,
}

/// Something that is not as the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    Missing,
    /// It has fewer partitions.
    Fewer {
        partitions: usize,
    },
    /// It has more partitions, which cannot be undone.
    More {
        partitions: usize,
    },
    /// A setting: its name, what it is, what it should be.
    Setting {
        name: &'static str,
        found: Option<String>,
        wanted: String,
    },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist"),
            Self::Fewer { partitions } => write!(f, "has {partitions} partitions, too few"),
            Self::More { partitions } => write!(
                f,
                "has {partitions} partitions, more than the file says; partitions cannot be taken away"
            ),
            Self::Setting { name, found, wanted } => {
                let found = found.as_deref().unwrap_or("not set");
                write!(f, "{name} is {found}, it should be {wanted}")
            }
        }
    }
}

/// What differs between a topic and its line in the file.
pub fn differences(wanted: &TopicSpec, found: &Found) -> Vec<Difference> {
    let partitions = found.partitions;
    let mut differences = match partitions.cmp(&usize::from(wanted.partitions)) {
        _ if partitions == 0 => return vec![Difference::Missing],
        std::cmp::Ordering::Less => vec![Difference::Fewer { partitions }],
        std::cmp::Ordering::Greater => vec![Difference::More { partitions }],
        std::cmp::Ordering::Equal => Vec::new(),
    };
    for (name, wanted) in wanted.config() {
        let found = found.set.get(name);
        if found != Some(&wanted) {
            let found = found.cloned();
            differences.push(Difference::Setting { name, found, wanted });
        }
    }
    differences
}

/// The cluster, for whoever administers it.
pub struct Cluster {
    kafka: KafkaConfig,
    admin: Arc<AdminClient<DefaultClientContext>>,
}

impl Cluster {
    /// Makes a client; connections are made when they are needed.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(kafka: &KafkaConfig) -> anyhow::Result<Self> {
        let admin = kafka.client("scalers").create().context("the Kafka settings are refused")?;
        Ok(Self {
            kafka: kafka.clone(),
            admin: Arc::new(admin),
        })
    }

    /// Brings everything to what the file says, and says what was done. A second time nothing is.
    ///
    /// # Errors
    /// When a topic has more partitions than the file says, or the brokers refuse or do not answer. What was done
    /// before stays done; it can simply be called again.
    pub async fn apply(&self, wanted: &[TopicSpec], mut say: impl FnMut(String)) -> anyhow::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        let found = self.found(wanted, deadline).await?;
        for (topic, found) in wanted.iter().zip(&found) {
            let more = differences(topic, found).into_iter().find(|d| matches!(d, Difference::More { .. }));
            if let Some(more) = more {
                bail!(
                    "topic {} {more}: raise partitions to {} in the file, or drain and delete the topic",
                    self.kafka.name(&topic.name),
                    found.partitions
                );
            }
        }
        self.create(wanted, &found, &mut say).await?;
        self.grow(wanted, &found, &mut say).await?;
        self.led(wanted, deadline).await?;
        self.configure(wanted, deadline, &mut say).await?;
        self.seed(wanted, deadline, &mut say).await
    }

    /// What differs from the file, line by line; empty when nothing does.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub async fn check(&self, wanted: &[TopicSpec]) -> anyhow::Result<Vec<String>> {
        let deadline = Instant::now() + CALL;
        let mut lines = Vec::new();
        for (topic, found) in wanted.iter().zip(self.found(wanted, deadline).await?) {
            let name = self.kafka.name(&topic.name);
            lines.extend(differences(topic, &found).iter().map(|d| format!("topic {name} {d}")));
            if found.led < found.partitions {
                lines.push(format!("topic {name}: {} partitions have no leader", found.partitions - found.led));
            }
            if found.partitions > 0 && topics::WORK.contains(&topic.name.as_str()) {
                let group = Arc::new(Group::new(&self.kafka, &topic.name, &topic.name)?);
                let unseeded = until(deadline, move || group.unseeded()).await?;
                if unseeded > 0 {
                    lines.push(format!("group {name}: {unseeded} partitions have no committed offset"));
                }
            }
        }
        Ok(lines)
    }

    async fn found(&self, wanted: &[TopicSpec], deadline: Instant) -> anyhow::Result<Vec<Found>> {
        let names: Vec<String> = wanted.iter().map(|t| self.kafka.name(&t.name)).collect();
        let admin = Arc::clone(&self.admin);
        let asked = names.clone();
        let mut found = until(deadline, move || partitions(&admin, &asked)).await?;
        let existing: Vec<&String> = names.iter().zip(&found).filter(|(_, f)| f.partitions > 0).map(|(n, _)| n).collect();
        let mut set = self.settings(&existing).await?;
        for (name, found) in names.iter().zip(&mut found) {
            found.set = set.remove(name).unwrap_or_default();
        }
        Ok(found)
    }

    /// What was set for each topic alone.
    async fn settings(&self, names: &[&String]) -> anyhow::Result<BTreeMap<String, BTreeMap<String, String>>> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let resources: Vec<_> = names.iter().map(|n| ResourceSpecifier::Topic(n)).collect();
        let described = self
            .admin
            .describe_configs(&resources, &options())
            .await
            .context("topics cannot be described")?;
        let mut settings = BTreeMap::new();
        for (name, topic) in names.iter().zip(described) {
            let topic = topic.map_err(|code| anyhow!("topic {name} cannot be described: {code}"))?;
            let set = topic.entries.into_iter().filter(|e| e.source == ConfigSource::DynamicTopic);
            let set = set.filter_map(|e| e.value.map(|value| (e.name, value))).collect();
            settings.insert((*name).clone(), set);
        }
        Ok(settings)
    }

    async fn create(&self, wanted: &[TopicSpec], found: &[Found], say: &mut impl FnMut(String)) -> anyhow::Result<()> {
        let missing: Vec<_> = wanted
            .iter()
            .zip(found)
            .filter(|(_, f)| f.partitions == 0)
            .map(|(w, _)| w)
            .collect();
        let texts: Vec<_> = missing
            .iter()
            .map(|t| (self.kafka.name(&t.name), i32::from(t.partitions), t.config()))
            .collect();
        let new: Vec<_> = texts
            .iter()
            .map(|(name, partitions, config)| {
                // -1: as many replicas as the cluster's own default says.
                let topic = NewTopic::new(name, *partitions, TopicReplication::Fixed(-1));
                config.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
            })
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        for result in self
            .admin
            .create_topics(&new, &options())
            .await
            .context("topics cannot be created")?
        {
            match result {
                Ok(name) => say(format!("topic {name}: created")),
                // Somebody else is applying the same file.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => bail!("topic {name} cannot be created: {code}"),
            }
        }
        Ok(())
    }

    async fn grow(&self, wanted: &[TopicSpec], found: &[Found], say: &mut impl FnMut(String)) -> anyhow::Result<()> {
        let few = wanted
            .iter()
            .zip(found)
            .filter(|(w, f)| f.partitions > 0 && f.partitions < usize::from(w.partitions));
        let few: Vec<_> = few
            .map(|(w, f)| (self.kafka.name(&w.name), usize::from(w.partitions), f.partitions))
            .collect();
        let new: Vec<_> = few
            .iter()
            .map(|(name, partitions, _)| NewPartitions::new(name, *partitions))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let results = self
            .admin
            .create_partitions(&new, &options())
            .await
            .context("partitions cannot be added")?;
        for (result, (name, to, from)) in results.into_iter().zip(&few) {
            result.map_err(|(name, code)| anyhow!("topic {name} cannot have {to} partitions: {code}"))?;
            say(format!("topic {name}: grown from {from} to {to} partitions"));
        }
        Ok(())
    }

    /// Waits until the cluster shows every partition with a leader.
    async fn led(&self, wanted: &[TopicSpec], deadline: Instant) -> anyhow::Result<()> {
        let names: Vec<String> = wanted.iter().map(|t| self.kafka.name(&t.name)).collect();
        let counts: Vec<usize> = wanted.iter().map(|t| usize::from(t.partitions)).collect();
        let admin = Arc::clone(&self.admin);
        until(deadline, move || {
            for ((name, count), found) in names.iter().zip(&counts).zip(partitions(&admin, &names)?) {
                ensure!(
                    found.led >= *count,
                    "topic {name}: {} of {count} partitions have a leader",
                    found.led
                );
            }
            Ok(())
        })
        .await
    }

    async fn configure(&self, wanted: &[TopicSpec], deadline: Instant, say: &mut impl FnMut(String)) -> anyhow::Result<()> {
        for (topic, found) in wanted.iter().zip(self.found(wanted, deadline).await?) {
            let name = self.kafka.name(&topic.name);
            let differing = differences(topic, &found);
            if differing.is_empty() {
                continue;
            }
            // The call replaces everything that is set for the topic, so what somebody else has set goes along.
            let mut all = found.set;
            all.extend(topic.config().map(|(key, value)| (key.to_owned(), value)));
            let change = AlterConfig::new(ResourceSpecifier::Topic(&name));
            let change = all.iter().fold(change, |change, (key, value)| change.set(key, value));
            for result in self
                .admin
                .alter_configs([&change], &options())
                .await
                .context("settings cannot be changed")?
            {
                result.map_err(|(_, code)| anyhow!("the settings of topic {name} cannot be changed: {code}"))?;
            }
            for difference in differing {
                say(format!("topic {name}: {difference}: set"));
            }
        }
        Ok(())
    }

    /// Gives every worker's group a committed offset for every partition: KEDA counts a partition without one as lag.
    async fn seed(&self, wanted: &[TopicSpec], deadline: Instant, say: &mut impl FnMut(String)) -> anyhow::Result<()> {
        for topic in wanted.iter().filter(|t| topics::WORK.contains(&t.name.as_str())) {
            let group = Arc::new(Group::new(&self.kafka, &topic.name, &topic.name)?);
            let name = self.kafka.name(&topic.name);
            match until(deadline, move || group.seed()).await? {
                Seeded::Nothing => {}
                Seeded::Partitions(count) => say(format!("group {name}: {count} partitions start at their first message")),
                Seeded::LeftToMembers(count) => say(format!(
                    "group {name}: {count} partitions have no offset yet, its running jobs will commit them"
                )),
            }
        }
        Ok(())
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CALL)).operation_timeout(Some(CALL))
}

/// The partitions of topics, in the topics' order. One question for all: a broker is asked for everything it knows.
fn partitions(admin: &AdminClient<DefaultClientContext>, names: &[String]) -> anyhow::Result<Vec<Found>> {
    let metadata = admin.inner().fetch_metadata(None, CALL).context(crate::kafka::NO_ANSWER)?;
    let found = names.iter().map(|name| {
        let topic = metadata.topics().iter().find(|t| t.name() == name);
        let partitions = topic.map(|t| t.partitions()).unwrap_or_default();
        Found {
            partitions: partitions.len(),
            led: partitions.iter().filter(|p| p.leader() >= 0 && p.error().is_none()).count(),
            set: BTreeMap::new(),
        }
    });
    Ok(found.collect())
}
