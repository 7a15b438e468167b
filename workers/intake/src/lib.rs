//! The door: takes documents and commands over HTTP, stores the bytes, queues the work, and answers what became of it.

mod app;
mod auth;
mod body;
mod config;
mod door;
mod error;
mod form;
mod gate;
mod headers;
mod limits;
mod metrics;
mod prepare;
mod read_model;
mod routes;
mod server;
mod upload;
mod views;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bus::Producer;
use runtime::{Exit, Process, Service};
use stores::{Blobs, Cache, Mongo};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use config::{Config, JwksUrl, Limits, OidcConfig};
pub use prepare::prepare;

pub const SERVICE: Service = Service {
    name: "intake",
    version: env!("CARGO_PKG_VERSION"),
};

/// The CloudEvents source of the door's events.
const SOURCE: &str = "/libertum/intake";
/// What the end of the grace period is kept for: the last answers, and the producer's queue.
const LAST: Duration = Duration::from_secs(5);
/// How long the producer's queue may take to empty; the requests that filled it have been answered by then.
const FLUSH: Duration = Duration::from_secs(2);

/// Serves on the listener until the process is told to stop.
///
/// # Errors
/// When a client for one of the servers cannot be built from the configuration.
pub async fn serve(process: &Process, config: &Config, listener: TcpListener) -> anyhow::Result<Exit> {
    let meter = process.metrics.meter();
    let cache = Cache::new(&config.cache)?;
    let blobs = Blobs::new(&config.blob)?;
    let producer = Producer::new(&config.kafka, SERVICE.name).context("the Kafka producer")?;
    let producer = producer.traced(process.traces.clone());
    let gate = Arc::new(gate::Gate::new(config, &cache)?);
    let cut = CancellationToken::new();
    let door = door::Door::new(config, gate.clone(), blobs.clone(), cache.clone(), producer.clone(), cut.clone());
    let reads = routes::reads::Reads {
        gate,
        model: read_model::ReadModel::new(cache, &meter),
        mongo: Mongo::new(&config.mongo).await?,
        blobs,
    };
    let metrics = metrics::DoorMetrics::new(&meter);
    let app = app::router(
        Arc::new(door),
        Arc::new(reads),
        metrics,
        process.traces.clone(),
        config.limits.max_requests,
    );
    info!(addr = %listener.local_addr()?, "taking requests");
    process.health.set_ready(true);
    let unready = tokio::spawn({
        let process = process.clone();
        async move {
            process.stop.cancelled().await;
            process.health.set_ready(false);
        }
    });
    let ending = server::Ending {
        stop: process.stop.clone(),
        cut,
        before_cut: process.grace.saturating_sub(LAST),
        after_cut: LAST.saturating_sub(FLUSH),
    };
    let all_answered = server::serve(listener, app, ending).await;
    unready.abort();
    let flushed = tokio::task::spawn_blocking(move || producer.flush(FLUSH)).await.context("flush")?;
    if let Err(e) = flushed {
        // Nobody was told that these events are safe: their requests were not answered with 202.
        warn!(error = %e, "the producer's queue is not empty");
    }
    Ok(if all_answered { Exit::Drained } else { Exit::GraceExpired })
}
