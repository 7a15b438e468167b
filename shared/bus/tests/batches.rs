//! Messages that are handled together keep every promise that is made to one: the whole loop on the mock cluster.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::GroupProtocol::{Classic, Consumer};
use bus::{Burial, Context, Emit, Failure, Worker, dead};
use common::mock::{Member, Mock, PARTITIONS};
use common::{Log, incomplete, raw, until};
use messages::{AssetId, Event, IngestionPayload, topics};
use rdkafka::producer::FutureRecord;
use runtime::Exit;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What the handler does when it comes to a message.
enum Act {
    Do,
    Fail,
    Panic,
    Unavailable,
    Reject,
    /// Gives no answer for this message and those behind it.
    Forget,
    /// Tells the process to stop, and gives up this message and those behind it when it is told that they are not wanted.
    Stop(CancellationToken),
}

type Script = Arc<dyn Fn(&str, &Context) -> Act + Send + Sync>;

/// What a worker that takes batches was given.
#[derive(Default)]
struct Seen {
    largest: AtomicUsize,
    flying: Mutex<BTreeSet<String>>,
    /// Promises that were not kept.
    broken: Mutex<Vec<String>>,
}

struct Together {
    log: Log,
    seen: Arc<Seen>,
    script: Script,
}

/// Keys in a handler's hands, until it returns, panics or is dropped.
struct Flight<'s>(&'s Seen, Vec<String>);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flying = self.0.flying.lock().unwrap();
        self.1.iter().for_each(|key| {
            flying.remove(key);
        });
    }
}

impl Together {
    fn new(mock: &Mock, script: impl Fn(&str, &Context) -> Act + Send + Sync + 'static) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        let worker = Self {
            log: mock.log.clone(),
            seen: seen.clone(),
            script: Arc::new(script),
        };
        (worker, seen)
    }

    /// Looks at what was given: a key once, and only while no other batch has it.
    fn look(&self, events: &[Event<IngestionPayload>], ctx: &Context) -> Flight<'_> {
        let mut broken = self.seen.broken.lock().unwrap();
        let mut flying = self.seen.flying.lock().unwrap();
        let keys: Vec<String> = events.iter().map(|e| e.envelope.partition_key.to_string()).collect();
        for key in &keys {
            if !flying.insert(key.clone()) {
                broken.push(format!("{key} twice at a time"));
            }
        }
        if events.len() > Self::BATCH || (ctx.attempt > 0 && events.len() > 1) {
            broken.push(format!("{} together at attempt {}", events.len(), ctx.attempt));
        }
        self.seen.largest.fetch_max(events.len(), Ordering::Relaxed);
        Flight(&self.seen, keys)
    }
}

fn asset_of(event: &Event<IngestionPayload>) -> AssetId {
    event.envelope.subject.trim_start_matches("assets/").parse().unwrap()
}

impl Worker for Together {
    const NAME: &'static str = topics::INGESTION;
    const BATCH: usize = 16;
    type Payload = IngestionPayload;

    async fn handle(&self, event: &Event<IngestionPayload>, ctx: &Context) -> Result<Emit, Failure> {
        self.handle_batch(std::slice::from_ref(event), ctx).await.remove(0)
    }

    async fn handle_batch(&self, events: &[Event<IngestionPayload>], ctx: &Context) -> Vec<Result<Emit, Failure>> {
        let _flight = self.look(events, ctx);
        // While one batch is out, the next fills up.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let mut results = Vec::new();
        for event in events {
            let asset = asset_of(event);
            let emit = || Emit::from(ctx.caused(&event.envelope, format!("assets/{asset}"), &incomplete(&asset)));
            let result = match (self.script)(&asset.to_string(), ctx) {
                Act::Do => {
                    let place = (asset.to_string(), event.envelope.id, ctx.attempt);
                    self.log.lock().unwrap().push(place);
                    Ok(emit())
                }
                Act::Fail => Err(Failure::Failed(anyhow::anyhow!("it always fails"))),
                Act::Panic => panic!("a bug"),
                Act::Unavailable => Err(Failure::Unavailable(anyhow::anyhow!("down for now"))),
                Act::Reject => Err(Failure::Rejected {
                    emit: emit(),
                    reason: "not what we take".to_owned(),
                }),
                Act::Forget => break,
                Act::Stop(stop) => {
                    stop.cancel();
                    ctx.cancel.cancelled().await;
                    results.resize_with(events.len(), || Err(Failure::Cancelled));
                    break;
                }
            };
            results.push(result);
        }
        results
    }

    async fn buried(&self, event: &Event<IngestionPayload>, _: &Burial, ctx: &Context) -> Result<Emit, Failure> {
        Ok(ctx.caused(&event.envelope, "buried", &incomplete(&asset_of(event))).into())
    }
}

/// Messages of `keys` keys, in turn.
async fn write(mock: &Mock, messages: usize, keys: usize) {
    for n in 0..messages {
        mock.write(&format!("k{}", n % keys)).await;
    }
}

fn assert_kept(seen: &Seen) {
    assert_eq!(*seen.broken.lock().unwrap(), Vec::<String>::new());
    let largest = seen.largest.load(Ordering::Relaxed);
    assert!(largest > 1, "nothing was ever handled together, so nothing is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_in_a_batch_takes_no_neighbour_with_it_and_every_key_keeps_its_order() {
    for protocol in [Classic, Consumer] {
        let mock = Mock::new(protocol);
        for round in 0..4 {
            write(&mock, 60, 20).await;
            for special in ["bad", "bug", "away", "no"] {
                mock.write(&format!("{special}{}", round % 2)).await;
            }
            let unreadable = FutureRecord::to(&mock.topic).key(b"demo/k1".as_slice()).payload(b"{}".as_slice());
            mock.producer.send_record(unreadable).await.unwrap();
        }
        let (worker, seen) = Together::new(&mock, |asset, ctx| match asset.trim_end_matches(char::is_numeric) {
            "bad" => Act::Fail,
            "bug" => Act::Panic,
            "away" if ctx.attempt < 3 => Act::Unavailable,
            "no" => Act::Reject,
            _ => Act::Do,
        });
        assert_eq!(mock.run_worker(&mock.process(), &mock.config(), worker).await, Exit::Drained);
        assert_kept(&seen);
        mock.assert_order();
        mock.assert_no_lag().await;
        let (effects, sent) = (mock.effects(), mock.sent.lock().unwrap().clone());
        let good = |asset: &str| asset.starts_with('k') || asset.starts_with("away");
        for (id, asset, ..) in &sent {
            assert_eq!(effects.contains_key(id), good(asset), "{protocol:?}: {asset}");
        }
        // Each of the four panics may have undone the work of one batch, once.
        let again: u32 = effects.values().map(|n| n - 1).sum();
        assert!(again <= 4 * (Together::BATCH as u32 - 1), "{protocol:?}: {again} were done again");

        let mut classes: BTreeMap<(String, String), usize> = BTreeMap::new();
        for letter in raw::read(&mock.kafka, &mock.kafka.name(&topics::dead(topics::INGESTION)), 12).await {
            let attempts = letter[dead::header::ATTEMPTS].clone();
            *classes.entry((letter[dead::header::CLASS].clone(), attempts)).or_default() += 1;
        }
        let expected = [("decode", "1"), ("handle", "3"), ("panic", "3")];
        let expected = expected.map(|(class, attempts)| ((class.to_owned(), attempts.to_owned()), 4));
        assert_eq!(classes, BTreeMap::from(expected), "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_batch_that_is_not_done_holds_the_commit_and_not_its_neighbours() {
    let mock = Arc::new(Mock::new(Consumer));
    write(&mock, 90, 30).await;
    mock.write("held").await;
    write(&mock, 90, 30).await;
    let free = Arc::new(AtomicBool::new(false));
    let opened = free.clone();
    let (worker, seen) = Together::new(&mock, move |asset, _| match asset {
        "held" if !opened.load(Ordering::Relaxed) => Act::Unavailable,
        _ => Act::Do,
    });
    let member = Member::of(&mock, 64, worker);
    until(|| mock.effects().len() == 180).await;
    let sent = mock.sent.lock().unwrap().clone();
    let (_, _, partition, held) = *sent.iter().find(|(_, asset, ..)| asset == "held").unwrap();
    let from_it_on = sent.iter().filter(|(_, _, p, offset)| *p == partition && *offset >= held).count() as i64;
    assert!(from_it_on > 1, "nothing is behind it");
    // The other partitions commit all they have, and this one up to it.
    testkit::until("all but what waits behind it is committed", Duration::from_secs(20), async || {
        let lag = mock.lag().await;
        (lag[&partition], lag.values().sum::<i64>()) == (from_it_on, from_it_on)
    })
    .await;
    free.store(true, Ordering::Relaxed);
    mock.settled(Duration::from_secs(20)).await;
    assert_kept(&seen);
    mock.assert_order();
    assert!(mock.effects().values().all(|n| *n == 1));
    assert_eq!(member.stop().await, Exit::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_cancelled_half_way_commits_its_first_half_and_leaves_the_rest_to_the_next() {
    for protocol in [Classic, Consumer] {
        let mock = Mock::new(protocol);
        write(&mock, 120, 120).await;
        let mut process = mock.process();
        // What was done is published between the cancellation and the end, for which 0.15 of this is left.
        process.grace = Duration::from_secs(10);
        let (stop, handled) = (process.stop.clone(), AtomicUsize::new(0));
        let (worker, seen) = Together::new(&mock, move |_, _| {
            if handled.fetch_add(1, Ordering::Relaxed) % 8 < 5 {
                Act::Do
            } else {
                Act::Stop(stop.clone())
            }
        });
        assert_eq!(
            mock.run_worker(&process, &mock.config(), worker).await,
            Exit::Drained,
            "{protocol:?}"
        );
        assert_kept(&seen);
        let done: BTreeSet<Uuid> = mock.effects().into_keys().collect();
        assert!((1..120).contains(&done.len()), "{} were done", done.len());
        let sent = mock.sent.lock().unwrap().clone();
        let lag = mock.lag().await;
        for partition in 0..PARTITIONS {
            let mut here: Vec<_> = sent.iter().filter(|(_, _, p, _)| *p == partition).collect();
            here.sort_by_key(|(.., offset)| *offset);
            let first = here.iter().take_while(|(id, ..)| done.contains(id)).count();
            // Nothing is known of a group that has never committed, and KEDA counts that as one more.
            let expected = (here.len() - first + usize::from(first == 0)) as i64;
            assert_eq!(lag[&partition], expected, "{protocol:?}: partition {partition}");
        }
        let (worker, _) = Together::new(&mock, |_, _| Act::Do);
        assert_eq!(mock.run_worker(&mock.process(), &mock.config(), worker).await, Exit::Drained);
        assert!(mock.nothing_is_missing());
        mock.assert_no_lag().await;
        let again = mock.effects().values().filter(|n| **n > 1).count();
        assert!(again < done.len(), "all was done again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_forgets_some_of_its_batch_is_asked_again_for_those() {
    let mock = Mock::new(Consumer);
    write(&mock, 120, 40).await;
    let forgotten = Arc::new(AtomicUsize::new(0));
    let count = forgotten.clone();
    let (worker, seen) = Together::new(&mock, move |asset, ctx| {
        let forget = ctx.attempt == 0 && asset.ends_with('7');
        count.fetch_add(usize::from(forget), Ordering::Relaxed);
        if forget { Act::Forget } else { Act::Do }
    });
    assert_eq!(mock.run_worker(&mock.process(), &mock.config(), worker).await, Exit::Drained);
    assert!(forgotten.load(Ordering::Relaxed) > 0);
    assert_kept(&seen);
    assert!(mock.nothing_is_missing());
    assert!(mock.effects().values().all(|n| *n == 1));
    mock.assert_order();
    mock.assert_no_lag().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_in_flight_survive_members_that_come_and_go() {
    for protocol in [Classic, Consumer] {
        let mock = Arc::new(Mock::new(protocol));
        write(&mock, 300, 60).await;
        let (worker, seen) = Together::new(&mock, |_, _| Act::Do);
        let stays = Member::of(&mock, 16, worker);
        for _ in 0..3 {
            let (worker, of_guest) = Together::new(&mock, |_, _| Act::Do);
            let guest = Member::of(&mock, 4, worker);
            let more = async {
                let mut written = 0;
                while of_guest.largest.load(Ordering::Relaxed) < 2 {
                    written += 1;
                    mock.write(&format!("k{}", written % 60)).await;
                    // The pace of who writes.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let given = tokio::time::timeout(Duration::from_secs(20), more).await;
            assert!(given.is_ok(), "{protocol:?}: the guest is never given anything");
            assert!(matches!(guest.stop().await, Exit::Drained | Exit::NotAcknowledged));
            assert_kept(&of_guest);
        }
        mock.settled(Duration::from_secs(40)).await;
        assert_kept(&seen);
        mock.assert_order();
        assert_eq!(stays.stop().await, Exit::Drained);
    }
}
