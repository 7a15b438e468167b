//! A scanner of a test's own.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

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

    /// The address of a door in front of it that answers for it when it is asked how old its signatures are: ours have no date.
    ///
    /// # Panics
    /// When there is no free port.
    #[allow(clippy::expect_used)]
    pub async fn dated(&self, made: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let door = listener.local_addr().expect("a bound listener has an address");
        let (real, version) = (self.address().to_owned(), format!("ClamAV 1.4.3/27780/{made}\0"));
        tokio::spawn(async move {
            while let Ok((asker, _)) = listener.accept().await {
                let (real, version) = (real.clone(), version.clone());
                tokio::spawn(async move {
                    // Either side may hang up first.
                    if let Err(e) = answer(asker, &real, &version).await {
                        eprintln!("behind the door: {e}");
                    }
                });
            }
        });
        door.to_string()
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

async fn answer(mut asker: TcpStream, real: &str, version: &str) -> std::io::Result<()> {
    let mut command = [0; 9];
    asker.read_exact(&mut command).await?;
    if &command == b"zVERSION\0" {
        return asker.write_all(version.as_bytes()).await;
    }
    let mut real = TcpStream::connect(real).await?;
    real.write_all(&command).await?;
    copy_bidirectional(&mut asker, &mut real).await.map(drop)
}
