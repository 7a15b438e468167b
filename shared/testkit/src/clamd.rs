//! A scanner of a test's own.

use crate::OwnStack;

/// The real clamd as `scripts/stack` sets it up, alone, on a free port; ends with the value.
pub struct Clamd(OwnStack);

impl Clamd {
    /// Starts it, about half a second, and waits until it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Self {
        Self(OwnStack::of("clamd").await)
    }

    /// Its `CLAMD_ADDR`, also while it is stopped.
    pub fn address(&self) -> &str {
        self.0.var("CLAMD_ADDR")
    }

    /// An innocent line that counts as malware here, wherever it stands in a file.
    pub fn marker(&self) -> &str {
        self.0.var("STACK_CLAMD_MARKER")
    }

    /// Stops it in order.
    ///
    /// # Panics
    /// When it cannot be stopped.
    pub async fn stop(&self) {
        self.0.stop("clamd").await;
    }

    /// Starts it again, where it was.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn begin(&self) {
        self.0.begin("clamd").await;
    }
}
