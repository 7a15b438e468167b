#![allow(clippy::unwrap_used)]

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A server that answers commands in turn with these words, hanging up where there are none.
async fn scripted(answers: Vec<&'static str>) -> Scanner {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !(seen.starts_with(b"zVERSION\0") || seen.ends_with(&[0; 4])) {
                assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let patience = Patience {
        step: Duration::from_secs(5),
        verdict: Duration::from_secs(5),
    };
    Scanner::new(address, patience, &opentelemetry::global::meter("test"))
}

async fn look(scanner: &Scanner, id: Uuid) -> Result<Scanned, Error> {
    let body = futures::stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from_static(b"document"))]);
    Ok(scanner.look(id, body).await?.unwrap_or_else(|never| match never {}))
}

fn away(result: Result<impl std::fmt::Debug, Error>) -> String {
    match result {
        Err(Error::Scanner(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn code(result: Result<Scanned, Error>) -> String {
    match result {
        Ok(Scanned::Quarantined(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_document_that_ends_the_scanner_is_set_aside_at_the_third_time() {
    let (bad, good) = (Uuid::now_v7(), Uuid::now_v7());
    let scanner = scripted(vec!["", "", "", "stream: OK\0", "", ""]).await;
    away(look(&scanner, bad).await);
    away(look(&scanner, bad).await);
    // Another's loss is not counted against it, nor is its own once it was scanned.
    away(look(&scanner, good).await);
    assert_eq!(look(&scanner, good).await.unwrap(), Scanned::Clean);
    assert_eq!(code(look(&scanner, bad).await), "not-scanned");
    away(look(&scanner, good).await);
}

#[tokio::test]
async fn a_scanner_that_fails_on_everything_condemns_nothing() {
    let id = Uuid::now_v7();
    let failing = "stream: Can't create temporary directory ERROR\0";
    let scanner = scripted(vec![failing, failing, failing, "stream: OK\0"]).await;
    assert!(away(look(&scanner, id).await).contains("a trial"));
    assert_eq!(code(look(&scanner, id).await), "not-scanned");
}

#[tokio::test]
async fn a_scanner_that_calls_unscanned_clean_is_not_believed() {
    let scanner = scripted(vec![
        "ClamAV 1.4.3/27780/Mon Sep 29 08:27:12 2025\0",
        "stream: OK\0",
        "ClamAV 1.4.3/27780/Mon Sep 29 08:27:12 2025\0",
        "stream: Heuristics.Limits.Exceeded.MaxRecursion FOUND\0",
    ])
    .await;
    assert!(away(scanner.introduce().await).contains("AlertExceedsMax"));
    scanner.introduce().await.unwrap();
    // It is not asked each time.
    scanner.introduce().await.unwrap();
}
