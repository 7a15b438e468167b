//! One backup at a time: a lease on the lock blob, renewed for as long as the work lasts.

use std::future::Future;
use std::time::{Duration, Instant};

use messages::ClusterName;
use stores::{Blobs, Lease, StoreError};
use tracing::warn;

use crate::Error;
use crate::manifest::{CONTROL, lock_name};

/// Does the work while holding the cluster's lock. When the lease cannot be renewed in time the work is dropped
/// (its tool dies with it), well before the service would let somebody else in.
///
/// # Errors
/// [`Error::Held`] when somebody else has it, [`Error::LeaseLost`] when it was lost, and the work's own.
pub async fn locked<T>(
    blobs: &Blobs,
    cluster: &ClusterName,
    seconds: u8,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let begun = Instant::now();
    let lease = match blobs.blob(CONTROL, &lock_name(cluster)).lease(seconds).await {
        Ok(lease) => lease,
        Err(StoreError::Conflict(_)) => return Err(Error::Held(cluster.to_string())),
        Err(e) => return Err(e.into()),
    };
    let result = tokio::select! {
        result = work => result,
        () = keep(&lease, begun, Duration::from_secs(seconds.into())) => Err(Error::LeaseLost),
    };
    if let Err(e) = lease.release().await {
        warn!(error = %e, "the lease could not be released, it lapses by itself");
    }
    result
}

/// Renews the lease four times in its time; returns when it may lapse: when no renewal that was *begun* within the
/// last three quarters of its time has succeeded. By our own clock only, which no server can set.
async fn keep(lease: &Lease, begun: Instant, time: Duration) {
    let mut held_since = begun;
    let mut tick = tokio::time::interval(time / 4);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tick.tick().await;
        let asked = Instant::now();
        let left = (held_since + time * 3 / 4).saturating_duration_since(asked);
        if left.is_zero() {
            return;
        }
        match tokio::time::timeout(left, lease.renew()).await {
            Ok(Ok(())) => held_since = asked,
            Ok(Err(StoreError::Conflict(_) | StoreError::NotFound(_))) => return,
            Ok(Err(e)) => warn!(error = %e, "the lease could not be renewed, trying again"),
            Err(_) => return,
        }
    }
}
