//! Connections: how many, how patient we are with them, and how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long the head of a request may take; also how long an idle connection is kept.
const HEAD: Duration = Duration::from_secs(10);
/// Bytes of a head; more is answered with 431.
const HEAD_BYTES: usize = 32 * 1024;
/// Connections at one time; more wait in the system's queue.
const CONNECTIONS: usize = 4096;
/// How long to wait when no connection can be accepted, e.g. because there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// How a server ends.
pub struct Ending {
    /// Take no more connections, and no more requests on those there are.
    pub stop: CancellationToken,
    /// Read no more of the bodies that are still coming.
    pub cut: CancellationToken,
    /// From `stop` to `cut`.
    pub before_cut: Duration,
    /// From `cut` to the end.
    pub after_cut: Duration,
}

/// Serves until told to stop; then waits for the requests in flight. Whether all of them were answered.
pub async fn serve(listener: TcpListener, app: Router, ending: Ending) -> bool {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let permit = tokio::select! {
            () = ending.stop.cancelled() => break,
            permit = connections.clone().acquire_owned() => permit,
        };
        let accepted = tokio::select! {
            () = ending.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match (permit, accepted) {
            (Ok(permit), Ok((stream, _))) => {
                let connection = connection(stream, app.clone());
                let watched = graceful.watch(connection);
                tokio::spawn(async move {
                    if let Err(e) = watched.await {
                        debug!(error = %e, "a connection broke");
                    }
                    drop(permit);
                });
            }
            (_, Err(e)) => {
                warn!(error = %e, "no connection can be accepted");
                tokio::time::sleep(PAUSE).await;
            }
            // The semaphore is never closed.
            (Err(_), Ok(_)) => break,
        }
    }
    drop(listener);
    info!(connections = graceful.count(), "taking no more requests");
    let mut all_done = std::pin::pin!(graceful.shutdown());
    if tokio::time::timeout(ending.before_cut, all_done.as_mut()).await.is_ok() {
        return true;
    }
    ending.cut.cancel();
    tokio::time::timeout(ending.after_cut, all_done).await.is_ok()
}

fn connection(
    stream: TcpStream,
    app: Router,
) -> http1::Connection<TokioIo<TcpStream>, TowerToHyperService<axum::routing::RouterIntoService<hyper::body::Incoming>>> {
    if let Err(e) = stream.set_nodelay(true) {
        debug!(error = %e, "a connection keeps Nagle's delay");
    }
    let service = TowerToHyperService::new(app.into_service());
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_header_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
}
