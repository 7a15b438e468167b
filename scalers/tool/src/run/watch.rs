//! Looks at what workers' triggers count, each worker at its own pace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bus::KafkaConfig;
use mongodb::bson::Document;
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection};
use runtime::Env;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::kafka::Group;
use crate::simulate::Seen;
use crate::spec::{DocumentsOf, Scaler, Trigger};

/// How long a count may take.
const COUNT: Duration = Duration::from_secs(5);

/// What a look at a worker's triggers gave, in their order.
pub struct Looked {
    pub worker: usize,
    pub triggers: Vec<anyhow::Result<Seen>>,
}

/// Something to look at. It never joins a group, and writes nothing.
pub enum Eye {
    Kafka(Arc<Group>),
    Mongodb {
        collection: Collection<Document>,
        filter: Document,
    },
}

/// An eye for each trigger of a worker. Nothing is connected yet.
///
/// # Errors
/// When a variable that a trigger names is not set, or what it holds is not understood.
pub async fn eyes(kafka: &KafkaConfig, scaler: &Scaler, env: &Env) -> anyhow::Result<Vec<Eye>> {
    let mut eyes = Vec::with_capacity(scaler.triggers.len());
    for trigger in &scaler.triggers {
        eyes.push(match trigger {
            Trigger::Kafka {
                topic,
                group,
                brokers_from,
                ..
            } => {
                let brokers = match brokers_from.as_deref().filter(|name| *name != "KAFKA_BROKERS") {
                    Some(name) => variable(env, name, &scaler.worker)?,
                    None => kafka.brokers.clone(),
                };
                let kafka = KafkaConfig { brokers, ..kafka.clone() };
                Eye::Kafka(Arc::new(Group::new(&kafka, topic, group)?))
            }
            Trigger::Mongodb { documents, .. } => of_documents(documents, env, &scaler.worker).await?,
        });
    }
    Ok(eyes)
}

async fn of_documents(of: &DocumentsOf, env: &Env, worker: &str) -> anyhow::Result<Eye> {
    let name = of.uri_from.as_deref().unwrap_or("MONGODB_URI");
    ensure!(
        !of.database.is_empty() && !of.collection.is_empty(),
        "{worker}.yaml: a mongodb trigger needs dbName and collection"
    );
    let uri = variable(env, name, worker)?;
    // Its own error would quote the password.
    let mut options = ClientOptions::parse(&uri)
        .await
        .map_err(|_| anyhow::anyhow!("{name} is not a MongoDB connection string"))?;
    options.app_name = Some("scalers".to_owned());
    options.connect_timeout = Some(COUNT);
    options.server_selection_timeout = Some(COUNT);
    options.max_pool_size = Some(2);
    runtime::tls_provider();
    let client = Client::with_options(options).with_context(|| format!("{name} cannot be used"))?;
    let filter = serde_json::from_str(&of.query).with_context(|| format!("{worker}.yaml: query is no JSON document"))?;
    Ok(Eye::Mongodb {
        collection: client.database(&of.database).collection(&of.collection),
        filter,
    })
}

/// A variable that a file names.
fn variable(env: &Env, name: &str, worker: &str) -> anyhow::Result<String> {
    let set: BTreeMap<String, String> = env.raw();
    let lower = name.to_ascii_lowercase();
    let found = set.into_iter().find(|(key, _)| key.to_ascii_lowercase() == lower);
    let (_, value) = found.with_context(|| format!("{name} is not set, and {worker}.yaml asks for it"))?;
    Ok(value)
}

impl Eye {
    async fn look(&self) -> anyhow::Result<Seen> {
        match self {
            Self::Kafka(group) => {
                let group = Arc::clone(group);
                let partitions = tokio::task::spawn_blocking(move || group.partitions()).await??;
                Ok(Seen::Partitions(partitions))
            }
            Self::Mongodb { collection, filter } => {
                let counting = collection.count_documents(filter.clone()).max_time(COUNT);
                let counted = tokio::time::timeout(COUNT, counting).await;
                let count = counted
                    .context("MongoDB does not answer")?
                    .context("the documents cannot be counted")?;
                Ok(Seen::Documents(i64::try_from(count).unwrap_or(i64::MAX)))
            }
        }
    }
}

/// Looks at a worker's triggers again and again; a look that takes longer than the interval delays the next one. Another
/// interval begins at once, as KEDA's loop does after an edit.
pub async fn watch(worker: usize, eyes: Vec<Eye>, mut every: watch::Receiver<Duration>, tell: Sender<Looked>, stop: CancellationToken) {
    let ticking = |every: Duration| {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let mut ticks = ticking(*every.borrow_and_update());
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(()) = every.changed() => {
                ticks = ticking(*every.borrow_and_update());
                continue;
            }
            () = stop.cancelled() => return,
        }
        let mut triggers = Vec::with_capacity(eyes.len());
        for eye in &eyes {
            triggers.push(eye.look().await);
        }
        if tell.send(Looked { worker, triggers }).await.is_err() {
            return;
        }
    }
}
