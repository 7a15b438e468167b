//! A corner that is not needed any more is given back: servers that live on would collect one of each test.

use std::time::Duration;

use bus::KafkaConfig;
use messages::topics;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use runtime::{Change, Env, Ledger as _, Reader};
use stores::{BlobConfig, CacheConfig, Mongo, MongoConfig, RedisLedger};

/// How long giving back may take, in all.
const DEADLINE: Duration = Duration::from_secs(10);
/// Containers that workers own.
const CONTAINERS: [&str; 4] = ["inbox", "documents", "backups", "backup-control"];

/// Books of the ledger that each group has.
const BOOKS: [&str; 2] = ["breaker", "deaths"];

/// Drops the database, the topics, the groups, the ledger's books and the containers of a corner of the shared servers. Blocks.
pub(crate) fn give_back(name: String, env: Env) {
    let cleaning = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { tokio::time::timeout(DEADLINE, clean(&env)).await? })
    });
    match cleaning.join() {
        Ok(Ok(())) => {}
        Ok(Err(e)) => eprintln!("corner {name} is not given back whole: {e:#}"),
        Err(_) => eprintln!("corner {name} is not given back"),
    }
}

async fn clean(env: &Env) -> anyhow::Result<()> {
    let mut r = Reader::default();
    let read = (
        MongoConfig::read(env, &mut r),
        KafkaConfig::read(env, &mut r),
        BlobConfig::read(env, &mut r),
        CacheConfig::read(env, &mut r),
    );
    let (Some(mongo), Some(kafka), Some(blob), Some(cache)) = read else {
        anyhow::bail!("the servers' settings are wrong");
    };
    Mongo::new(&mongo).await?.db().drop().await?;
    let admin: AdminClient<DefaultClientContext> = kafka.client("testkit").create()?;
    let mut names: Vec<String> = topics::WORK
        .into_iter()
        .flat_map(|t| [kafka.name(t), kafka.name(&topics::dead(t))])
        .collect();
    names.extend([kafka.name(topics::ASSET_EVENTS), kafka.name(topics::REDRIVES)]);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // What was never made cannot be deleted, and need not be.
    admin.delete_topics(&names, &AdminOptions::new()).await?;
    admin.delete_groups(&names, &AdminOptions::new()).await?;
    let ledger = RedisLedger::new(&cache)?;
    for book in topics::WORK
        .iter()
        .flat_map(|t| BOOKS.map(|book| format!("{}/{book}", kafka.name(t))))
    {
        ledger.change(&book, &[Change::Clear]).await?;
    }
    let http = reqwest::Client::builder().no_proxy().build()?;
    for container in CONTAINERS {
        let mut url = blob.endpoint.clone();
        url.set_path(&format!(
            "{}/{}{container}",
            blob.endpoint.path().trim_end_matches('/'),
            blob.container_prefix
        ));
        let sas = blob.sas.as_ref().map_or("", |s| s.expose());
        url.set_query(Some(&format!("restype=container&{sas}")));
        http.delete(url.to_string()).send().await?;
    }
    Ok(())
}
