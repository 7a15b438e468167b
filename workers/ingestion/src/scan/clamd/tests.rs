#![allow(clippy::unwrap_used)]

use tokio::net::TcpListener;

use super::*;

const SHORT: Patience = Patience {
    step: Duration::from_millis(300),
    verdict: Duration::from_millis(300),
};

/// What a server does with one connection once it has read up to this many bytes.
struct Manners {
    reads: usize,
    says: &'static [u8],
    hangs_up: bool,
}

/// Has a stream of this size scanned by a server that is no clamd.
async fn ask(manners: Manners, size: usize) -> Result<Answer, Silence> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (done, ended) = tokio::sync::oneshot::channel();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 64 * 1024];
        let mut seen = 0;
        while seen < manners.reads {
            match stream.read(&mut bytes).await {
                Ok(read @ 1..) => seen += read,
                Ok(0) | Err(_) => break,
            }
        }
        stream.write_all(manners.says).await.unwrap();
        if manners.hangs_up {
            drop(stream);
        } else {
            // Until the client has had enough.
            ended.await.unwrap();
        }
    };
    let clamd = Clamd { address, patience: SHORT };
    let pieces = vec![Ok::<_, std::convert::Infallible>(Bytes::from(vec![7u8; 1024 * 1024])); size / (1024 * 1024)];
    let client = async {
        let answer = clamd.instream(futures::stream::iter(pieces)).await;
        done.send(()).ok();
        answer
    };
    let (answer, ()) = tokio::join!(client, server);
    answer.map_err(|broken| match broken {
        Broken::Clamd(silence) => silence,
        Broken::Source(never) => match never {},
    })
}

const MIB: usize = 1024 * 1024;
/// The command, a MiB in sixteen pieces, and the end.
const WHOLE: usize = 10 + MIB + 16 * 4 + 4;

fn away(answer: Result<Answer, Silence>) -> String {
    match answer {
        Err(Silence::Away(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_is_not_clamds_is_never_clean() {
    let after = |says| Manners {
        reads: WHOLE,
        says,
        hangs_up: false,
    };
    assert_eq!(ask(after(b"stream: OK\0"), MIB).await, Ok(Answer::Clean));
    for says in [
        b"stream: OK and FOUND nothing\0".as_slice(),
        b"OK\0",
        b"stream: ok\0",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\xff\xfe\0",
        b"UNKNOWN COMMAND\0",
    ] {
        let why = away(ask(after(says), MIB).await);
        assert!(why.starts_with("it answered"), "{why}");
    }
    let why = away(ask(after(&[b'A'; 2 * MAX_ANSWER as usize]), MIB).await);
    assert!(why.len() < 2 * MAX_SHOWN, "{} characters are repeated", why.len());
    // A verdict about bytes that it has not had.
    let early = Manners {
        reads: 1000,
        says: b"stream: OK\0",
        hangs_up: false,
    };
    assert!(away(ask(early, 64 * MIB).await).starts_with("it answered"));
}

#[tokio::test]
async fn silence_ends_and_tells_a_lost_document_from_a_server_that_is_away() {
    let silent = |reads, hangs_up| Manners {
        reads,
        says: b"",
        hangs_up,
    };
    assert!(away(ask(silent(WHOLE, false), MIB).await).contains("no verdict"));
    assert_eq!(ask(silent(WHOLE, true), MIB).await, Err(Silence::Lost));
    // It stops reading, or goes, in the middle: it has not seen the document, which cannot be to blame.
    assert!(away(ask(silent(1000, false), 64 * MIB).await).contains("to take bytes"));
    away(ask(silent(1000, true), 64 * MIB).await);
    let nobody = Clamd {
        address: "127.0.0.1:1".to_owned(),
        patience: SHORT,
    };
    assert!(matches!(nobody.version().await, Err(Silence::Away(_))));
}

#[tokio::test]
async fn what_clamd_says_before_it_hangs_up_is_heard() {
    let manners = Manners {
        reads: 3 * MIB,
        says: b"INSTREAM size limit exceeded. ERROR\0",
        hangs_up: true,
    };
    assert_eq!(ask(manners, 64 * MIB).await, Ok(Answer::TooLong));
    let timed_out = Manners {
        reads: MIB,
        says: b"COMMAND READ TIMED OUT\n",
        hangs_up: true,
    };
    assert!(away(ask(timed_out, 64 * MIB).await).contains("COMMAND READ TIMED OUT"));
}

#[test]
fn the_age_of_signatures_is_read_where_there_is_one() {
    let made = |text| signatures(text).map(|t| t.to_string());
    assert_eq!(
        made("ClamAV 1.4.3/27780/Mon Sep 29 08:27:12 2025").as_deref(),
        Some("2025-09-29T08:27:12Z")
    );
    assert_eq!(
        made("ClamAV 1.4.3/27780/Wed Sep  3 08:27:12 2025").as_deref(),
        Some("2025-09-03T08:27:12Z")
    );
    for text in ["ClamAV 1.4.6", "ClamAV 1.4.6/", "ClamAV 1.4.6/1/", "ClamAV 1.4.6/1/yesterday"] {
        assert_eq!(made(text), None, "{text}");
    }
}
