//! From a request to a backup and what follows from it.

use std::time::Duration;

use bus::{Burial, Context, Emit, Failure, Worker};
use messages::{BackupFailed, BackupPayload, BackupRequested, ClusterName, Event, Outgoing, topics};

use crate::Config;
use crate::dump::Progress;
use crate::take::Taker;

/// The worker.
pub struct Backup {
    cluster: ClusterName,
    taker: Taker,
}

impl Backup {
    /// Makes the clients.
    ///
    /// # Errors
    /// When an address is malformed.
    pub async fn connect(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            cluster: config.cluster.clone(),
            taker: Taker::new(config).await?,
        })
    }
}

impl Worker for Backup {
    const NAME: &'static str = topics::BACKUP;
    /// A dump may take `BACKUP_MAX_SECONDS`, six hours unless set, and what comes behind it some time.
    const STUCK_AFTER: Duration = Duration::from_secs(8 * 3600);
    type Payload = BackupPayload;

    async fn handle(&self, event: &Event<BackupPayload>, ctx: &Context) -> Result<Emit, Failure> {
        let BackupPayload::Requested(request) = &event.payload;
        if request.cluster != self.cluster {
            let reason = format!(
                "the request is for cluster {}, this worker backs up {}",
                request.cluster, self.cluster
            );
            return Err(Failure::Rejected {
                emit: failed(event, request, "other-cluster", reason.clone(), ctx),
                reason,
            });
        }
        let manifest = self.taker.take(request, ctx, Progress::default()).await?;
        // Time from the manifest: a request that comes again is answered with the same event.
        let source = format!("/libertum/{}", Self::NAME);
        let at = manifest.finished_at;
        Ok(Outgoing::caused_by(&event.envelope, &source, request.subject(), at, &manifest.completed()).into())
    }

    async fn buried(&self, event: &Event<BackupPayload>, why: &Burial, ctx: &Context) -> Result<Emit, Failure> {
        let BackupPayload::Requested(request) = &event.payload;
        let reason = format!("the backup failed {} times: {}", why.attempts, why.error);
        Ok(failed(event, request, "internal", reason, ctx))
    }
}

fn failed(event: &Event<BackupPayload>, request: &BackupRequested, code: &str, reason: String, ctx: &Context) -> Emit {
    let message = BackupFailed {
        backup_id: request.backup_id(),
        cluster: request.cluster.clone(),
        slot: request.slot,
        code: code.to_owned(),
        reason,
    };
    ctx.caused(&event.envelope, request.subject(), &message).into()
}
