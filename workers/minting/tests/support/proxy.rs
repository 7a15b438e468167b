//! A way to the chain that loses answers: the node has heard, and we do not know it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What happens to the n-th call of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The node gets the call, and its answer is lost.
    LoseAnswer,
    /// The node never gets the call.
    LoseCall,
}

pub type Plan = Arc<dyn Fn(&str, usize) -> Fault + Send + Sync>;

/// Listens, and returns its address.
pub async fn start(upstream: &str, plan: Plan) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let upstream = upstream.trim_start_matches("http://").to_owned();
    let counts = Arc::new(Mutex::new(HashMap::new()));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, upstream.clone(), plan.clone(), counts.clone()));
        }
    });
    url
}

/// Carries calls until either side goes, or a fault cuts the connection.
async fn serve(mut client: TcpStream, upstream: String, plan: Plan, counts: Arc<Mutex<HashMap<String, usize>>>) -> Option<()> {
    let mut node = TcpStream::connect(upstream).await.ok()?;
    loop {
        let call = message(&mut client).await?;
        let method = method_of(&call);
        let count = {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(method.clone()).or_insert(0);
            *count += 1;
            *count - 1
        };
        let fault = plan(&method, count);
        if fault == Fault::LoseCall {
            return None;
        }
        node.write_all(&call).await.ok()?;
        let answer = message(&mut node).await?;
        if fault == Fault::LoseAnswer {
            return None;
        }
        client.write_all(&answer).await.ok()?;
    }
}

/// One HTTP message with a `content-length`.
async fn message(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let read = from.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(buffer.get(..read)?);
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(bytes.get(..end)?).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|l| l.trim().parse().ok()).unwrap_or(0);
        if bytes.len() >= end + 4 + length {
            return Some(bytes);
        }
    }
}

fn method_of(call: &[u8]) -> String {
    let text = String::from_utf8_lossy(call);
    let after = text.split("\"method\":\"").nth(1).unwrap_or("");
    after.split('"').next().unwrap_or("").to_owned()
}
