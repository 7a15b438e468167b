//! `ingestion redrive` as a program: killed with -9 while it puts letters back, and with very many letters.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bus::{KafkaConfig, Producer, dead, redrive::header};
use messages::topics;
use rand::RngExt as _;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use testkit::{Corner, until};

const KILLS: usize = 5;
const LETTERS: i64 = 150;
/// After this a claim that was not called done is a crash's.
const CLAIM_ENDS: Duration = Duration::from_secs(41);

fn redrive(corner: &Corner, args: &[&str], out: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ingestion"))
        .arg("redrive")
        .args(args)
        .env_clear()
        .envs(corner.vars().iter().cloned())
        .stdin(Stdio::null())
        .stdout(File::create(out).unwrap())
        .stderr(File::create(out.with_extension("err")).unwrap())
        .spawn()
        .unwrap()
}

async fn ended(child: &mut Child, out: &Path) -> String {
    until("the program ends by itself", Duration::from_secs(120), async || {
        child.try_wait().unwrap().is_some()
    })
    .await;
    let said = std::fs::read_to_string(out.with_extension("err")).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    said
}

async fn write_letters(corner: &Corner, count: i64, size: usize) {
    let kafka = corner.read(KafkaConfig::read);
    let producer = Producer::new(&kafka, "test").unwrap();
    let (dead_topic, topic) = (kafka.name(&topics::dead(topics::INGESTION)), kafka.name(topics::INGESTION));
    let value = format!("\"{}\"", "v".repeat(size));
    for chunk in (0..count).collect::<Vec<_>>().chunks(2000) {
        let sent = chunk.iter().map(|n| {
            let story = [
                (dead::header::TOPIC, topic.clone()),
                (dead::header::PARTITION, (n % 3).to_string()),
                (dead::header::OFFSET, n.to_string()),
                (dead::header::CLASS, "handle".to_owned()),
            ];
            let headers = story.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
                all.insert(Header {
                    key,
                    value: Some(value.as_str()),
                })
            });
            let key = format!("demo/a{n}");
            let (producer, dead_topic, value) = (&producer, &dead_topic, &value);
            async move {
                let record = FutureRecord::to(dead_topic)
                    .key(key.as_bytes())
                    .payload(value.as_bytes())
                    .headers(headers);
                producer.send_record(record).await.unwrap();
            }
        });
        futures::future::join_all(sent).await;
    }
}

async fn put_back(corner: &Corner) -> BTreeMap<i64, usize> {
    let mut times = BTreeMap::new();
    for seen in corner.events(topics::INGESTION).await {
        let (_, letter) = seen.header(header::LETTER).unwrap().rsplit_once('/').unwrap();
        *times.entry(letter.parse().unwrap()).or_default() += 1;
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_it_puts_every_letter_back_once() {
    let corner = Corner::new();
    corner.create_topics().await;
    write_letters(&corner, LETTERS, 2).await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let args = ["--put-back", "--by", "ana", "--rate", "15"];
    let mut killed = 0;
    for _ in 0..KILLS {
        let before = put_back(&corner).await.len();
        let mut child = redrive(&corner, &args, &out);
        until("it has begun to send", Duration::from_secs(30), async || {
            put_back(&corner).await.len() > before || child.try_wait().unwrap().is_some()
        })
        .await;
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..2000))).await;
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let some = put_back(&corner).await.len();
    println!("{killed} kills, {some} of {LETTERS} letters back");
    assert!(killed > 1 && some < LETTERS as usize, "{killed} kills, {some} letters back");
    // Letters of the last claim are left alone for as long as its maker may still be sending them.
    let said = ended(&mut redrive(&corner, &args, &out), &out).await;
    let open = said.contains("by somebody else at this moment");
    tokio::time::sleep(CLAIM_ENDS).await;
    let said = ended(&mut redrive(&corner, &args, &out), &out).await;
    assert!(!said.contains("at this moment"), "{said}");
    println!("a claim was open: {open}; {}", said.trim());
    assert_eq!(put_back(&corner).await, (0..LETTERS).map(|n| (n, 1)).collect());
    let said = ended(&mut redrive(&corner, &args, &out), &out).await;
    assert!(
        said.contains("0 are put back") && said.contains("150 were put back before"),
        "{said}"
    );
}

/// Runs the list, and returns what it said and its peak in memory, in KiB.
async fn peak_of(corner: &Corner, args: &[&str], out: &Path) -> (String, u64) {
    let mut child = redrive(corner, args, out);
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    until("the list is whole", Duration::from_secs(120), async || {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmHWM"));
        peak = peak.max(line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0));
        child.try_wait().unwrap().is_some()
    })
    .await;
    (ended(&mut child, out).await, peak)
}

/// Memory does not grow with the letters: 100 MB of them take what a few fetches take.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_letters_are_listed_in_little_memory() {
    let corner = Corner::new();
    corner.create_topics().await;
    write_letters(&corner, 100_000, 900).await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (_, few) = peak_of(&corner, &["--json", "--offset", "..99"], &out).await;
    let (said, all) = peak_of(&corner, &["--json"], &out).await;
    assert!(said.contains("100000 letters of ingestion.dead match"), "{said}");
    println!("a hundred letters {} MiB, a hundred thousand {} MiB", few / 1024, all / 1024);
    assert!(few > 0 && all < few + 32 * 1024, "{few} and {all} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_is_the_program_and_the_breaker_is_reset_by_it() {
    let corner = Corner::new();
    corner.create_topics().await;
    write_letters(&corner, 3, 2).await;
    let script = |args: &[&str]| {
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/redrive"))
            .args(args)
            .envs(corner.vars().iter().cloned())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = script(&["ingestion", "--offset", "1.."]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("demo/a2") && !out.contains("demo/a0"), "{out}");
    assert!(err.contains("2 would be put back"), "{err}");
    let (code, _, err) = script(&["ingestion", "--reset"]);
    assert!(code == Some(0) && err.contains("no version of ingestion was stopped"), "{err}");
    let (code, _, err) = script(&["elsewhere"]);
    assert!(code == Some(1) && err.contains("does not know the topic elsewhere"), "{err}");
    // Somebody has a look at the first of very many.
    let head = format!("{} redrive --json | head -n 1", env!("CARGO_BIN_EXE_ingestion"));
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", &head])
        .env_clear()
        .envs(corner.vars().iter().cloned())
        .output();
    let output = output.unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"{\"letter\":0"), "{output:?}");
}
