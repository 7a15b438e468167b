//! `/healthz/live`, `/healthz/ready` and `/metrics` on `METRICS_ADDR`, away from the public listener.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tracing::{error, info};

use crate::telemetry::Metrics;

/// What the process says of itself. It starts alive and not ready.
#[derive(Clone, Default)]
pub struct Health(Arc<Flags>);

#[derive(Default)]
struct Flags {
    ready: AtomicBool,
    stuck: AtomicBool,
    pulses: Mutex<Vec<Weak<Beats>>>,
}

/// Something that goes round and round; the process is alive only while it does.
pub struct Pulse(Arc<Beats>);

struct Beats {
    name: &'static str,
    /// No two beats are further apart than this.
    bound: Duration,
    since: Instant,
    /// Milliseconds from `since` to the last beat.
    last: AtomicU64,
    missed: AtomicBool,
}

impl Pulse {
    /// Says that it goes round still.
    pub fn beat(&self) {
        self.0.last.store(millis(self.0.since.elapsed()), Ordering::Relaxed);
    }
}

impl Beats {
    /// Whether it beats; a change is logged once.
    fn beats(&self) -> bool {
        let still = millis(self.since.elapsed()).saturating_sub(self.last.load(Ordering::Relaxed));
        let beats = still <= millis(self.bound);
        if self.missed.swap(!beats, Ordering::Relaxed) == beats {
            match beats {
                true => info!(name = self.name, "it makes progress again"),
                false => error!(
                    name = self.name,
                    still_ms = still,
                    "it makes no progress, the process should be restarted"
                ),
            }
        }
        beats
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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

    /// Something that must go round at least once in `bound`, from now until the value is dropped.
    pub fn pulse(&self, name: &'static str, bound: Duration) -> Pulse {
        let beats = Arc::new(Beats {
            name,
            bound,
            since: Instant::now(),
            last: AtomicU64::new(0),
            missed: AtomicBool::new(false),
        });
        self.0
            .pulses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&beats));
        Pulse(beats)
    }

    fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }

    /// Whether nothing is stuck and everything that must go round does.
    pub fn is_alive(&self) -> bool {
        let mut pulses = self.0.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.retain(|pulse| pulse.strong_count() > 0);
        let beating = pulses.iter().filter_map(Weak::upgrade).filter(|beats| !beats.beats()).count() == 0;
        beating && !self.0.stuck.load(Ordering::Relaxed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stands_still_is_not_alive_until_it_goes_on_or_ends() {
        let health = Health::default();
        let pulse = health.pulse("test", Duration::from_millis(20));
        assert!(health.is_alive());
        let deadline = Instant::now() + Duration::from_secs(10);
        while health.is_alive() {
            assert!(Instant::now() < deadline, "nobody noticed");
            std::thread::sleep(Duration::from_millis(5));
        }
        pulse.beat();
        assert!(health.is_alive());
        while health.is_alive() {
            assert!(Instant::now() < deadline, "nobody noticed again");
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(pulse);
        assert!(health.is_alive());
        health.set_stuck(true);
        assert!(!health.is_alive());
    }
}
