//! `/healthz/live`, `/healthz/ready` and `/metrics` on `METRICS_ADDR`, away from the public listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::telemetry::Metrics;

/// What the process says of itself. It starts alive and not ready.
#[derive(Clone, Default)]
pub struct Health(Arc<Flags>);

#[derive(Default)]
struct Flags {
    ready: AtomicBool,
    stuck: AtomicBool,
}

impl Health {
    /// Whether new work may be sent here.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Relaxed);
    }

    /// Says that the process makes no progress and should be restarted.
    pub fn set_stuck(&self, stuck: bool) {
        self.0.stuck.store(stuck, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }

    fn is_alive(&self) -> bool {
        !self.0.stuck.load(Ordering::Relaxed)
    }
}

/// Listens on `addr` until the process ends.
///
/// # Errors
/// When the address cannot be had.
pub async fn serve(addr: SocketAddr, health: Health, metrics: Metrics) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(addr)
        .await
        .with_context(|| format!("METRICS_ADDR {addr} cannot be had"))?;
    let flag = |up: bool| if up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let app = Router::new()
        .route(
            "/healthz/live",
            get(move |State((health, _)): State<(Health, Metrics)>| async move { flag(health.is_alive()) }),
        )
        .route(
            "/healthz/ready",
            get(move |State((health, _)): State<(Health, Metrics)>| async move { flag(health.is_ready()) }),
        )
        .route(
            "/metrics",
            get(|State((_, metrics)): State<(Health, Metrics)>| async move {
                metrics.render().map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
            }),
        )
        .with_state((health, metrics));
    axum::serve(listener, app).await.context("the metrics listener failed")
}
