//! The loop against brokers that answer wrongly, late, or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bus::GroupProtocol::{self, Classic, Consumer};
use common::mock::{Member, Mock, PARTITIONS, Writers};
use common::{Step, until};
use messages::topics;
use runtime::Exit;
use testkit::MockError::{self, *};
use testkit::{BROKERS, MockKafka, Request};

const BOTH: [GroupProtocol; 2] = [Classic, Consumer];
/// How soon work must move again once the brokers are well.
const SOON: Duration = Duration::from_secs(20);

async fn filled(protocol: GroupProtocol, messages: usize) -> Arc<Mock> {
    let mock = Arc::new(Mock::new(protocol));
    for n in 0..messages {
        mock.write(&format!("a{}", n % 7)).await;
    }
    mock
}

fn slowly(millis: u64) -> impl Fn(&str, u32) -> Step + Send + Sync + Copy + 'static {
    move |_: &str, _| Step::DoSlowly(Duration::from_millis(millis))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_commit_is_repeated_until_it_is_taken_and_never_counted_as_done() {
    for protocol in BOTH {
        for error in [
            RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
            RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        ] {
            let mock = filled(protocol, 20).await;
            mock.cluster.spoil(Request::OffsetCommit, &[error; 3]);
            assert_eq!(mock.run(|_, _| Step::Do).await, Exit::Drained, "{protocol:?} {error:?}");
            assert!(mock.nothing_is_missing());
            mock.assert_no_lag().await;
            assert!(
                mock.effects().values().all(|n| *n == 1),
                "a refused commit is no reason to do work again"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_the_group_does_not_know_any_more_comes_back_and_finishes() {
    let cases: [(GroupProtocol, Request, MockError); 5] = [
        (Classic, Request::OffsetCommit, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION),
        (Consumer, Request::OffsetCommit, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID),
        (Consumer, Request::ConsumerGroupHeartbeat, RD_KAFKA_RESP_ERR_FENCED_MEMBER_EPOCH),
        (Consumer, Request::ConsumerGroupHeartbeat, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID),
        (
            Consumer,
            Request::ConsumerGroupHeartbeat,
            RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        ),
    ];
    for (protocol, request, error) in cases {
        let mock = filled(protocol, 20).await;
        let member = Member::start(&mock, 4, slowly(30));
        until(|| mock.effects().len() > 5).await;
        mock.cluster.spoil(request, &[error]);
        for n in 0..20 {
            mock.write(&format!("b{}", n % 3)).await;
        }
        mock.settled(SOON).await;
        mock.assert_order();
        assert_eq!(member.stop().await, Exit::Drained, "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_the_new_protocol_throws_out_comes_back_or_ends_for_another_to_follow() {
    let mock = filled(Consumer, 20).await;
    let member = Member::start(&mock, 4, slowly(30));
    until(|| mock.effects().len() > 5).await;
    mock.cluster.spoil(Request::OffsetCommit, &[RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION]);
    for n in 0..20 {
        mock.write(&format!("b{}", n % 3)).await;
    }
    let another = || Member::start(&mock, 4, slowly(30));
    let next = member.or_another(&mock, Duration::from_secs(30), another).await;
    mock.settled(SOON).await;
    assert_eq!(next.stop().await, Exit::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_to_a_fetch_and_leaders_that_move_stop_nobody() {
    for protocol in BOTH {
        let mock = filled(protocol, 60).await;
        let member = Member::start(&mock, 4, slowly(5));
        until(|| mock.effects().len() > 5).await;
        for n in 0..6 {
            mock.cluster.spoil(
                Request::Fetch,
                &[
                    RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                    RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
                    RD_KAFKA_RESP_ERR__TRANSPORT,
                ],
            );
            mock.cluster.lead(&mock.topic, n % 3, Some(BROKERS[n as usize % 3]));
            mock.write(&format!("b{n}")).await;
        }
        mock.settled(SOON).await;
        mock.assert_order();
        assert_eq!(member.stop().await, Exit::Drained);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_gone_at_the_end_delays_nobody_and_the_work_is_not_called_committed() {
    for protocol in BOTH {
        let mock = filled(protocol, 20).await;
        mock.cluster.coordinate(&mock.topic, 3);
        // It leads nothing, so that all else goes on.
        mock.cluster.lead(&mock.kafka.name(topics::ASSET_EVENTS), 0, Some(1));
        (0..PARTITIONS).for_each(|p| mock.cluster.lead(&mock.topic, p, Some(2)));
        let member = Member::start(&mock, 4, slowly(40));
        until(|| mock.effects().len() > 5).await;
        mock.cluster.down(3);
        let told = Instant::now();
        assert_eq!(member.stop().await, Exit::NotAcknowledged, "{protocol:?}");
        assert!(told.elapsed() < Duration::from_secs(8), "{protocol:?}: {:?}", told.elapsed());
        mock.cluster.up(3);
        assert!(mock.lag().await.values().sum::<i64>() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_cannot_be_reached_at_the_start_are_waited_for_in_bounded_time() {
    let mock = filled(Classic, 1).await;
    BROKERS.into_iter().for_each(|b| mock.cluster.down(b));
    let begun = Instant::now();
    assert_eq!(mock.run(|_, _| Step::Do).await, Exit::Unavailable);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_go_and_come_back_find_the_member_where_it_was() {
    for protocol in BOTH {
        let mock = filled(protocol, 60).await;
        let member = Member::start(&mock, 4, slowly(10));
        until(|| mock.effects().len() > 5).await;
        for _ in 0..3 {
            BROKERS.into_iter().for_each(|b| mock.cluster.down(b));
            tokio::time::sleep(Duration::from_millis(700)).await;
            BROKERS.into_iter().for_each(|b| mock.cluster.up(b));
            mock.write("back").await;
        }
        mock.settled(SOON).await;
        mock.assert_order();
        assert_eq!(member.stop().await, Exit::Drained);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_do_not_speak_the_new_protocol_are_said_so_and_not_asked_for_ever() {
    let cluster = Arc::new(MockKafka::start());
    cluster.forget(Request::ConsumerGroupHeartbeat);
    let mock = Mock::on(cluster, Consumer, "");
    let begun = Instant::now();
    assert_eq!(mock.run(|_, _| Step::Do).await, Exit::Protocol);
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_message_leads_to_cannot_be_written_so_it_is_not_committed_and_comes_again() {
    for error in [
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    ] {
        let mock = filled(Consumer, 3).await;
        let outcomes = mock.kafka.name(topics::ASSET_EVENTS);
        mock.cluster.spoil_topic(&outcomes, error);
        let member = Member::start(&mock, 4, |_, _| Step::Do);
        until(|| mock.log.lock().unwrap().len() > 3).await;
        let lag = mock.lag().await;
        let written = mock.sent.lock().unwrap().iter().map(|(_, _, p, _)| lag[p]).min();
        assert!(written >= Some(1), "{error:?}: committed without its events, {lag:?}");
        mock.cluster.spoil_topic(&outcomes, RD_KAFKA_RESP_ERR_NO_ERROR);
        mock.settled(SOON).await;
        assert_eq!(member.stop().await, Exit::Drained);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fetching_that_pauses_and_goes_on_ends_no_job_early() {
    for protocol in BOTH {
        let mock = filled(protocol, 600).await;
        let mut config = mock.config();
        // 64 messages are held for each in flight, so that fetching pauses and goes on all the time.
        config.max_in_flight = 1;
        let exit = mock.run_with(&mock.process(), &config, slowly(1)).await;
        assert_eq!(exit, Exit::Drained);
        assert!(mock.nothing_is_missing(), "{} of 600", mock.effects().len());
        mock.assert_no_lag().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_while_a_message_waits_for_its_next_attempt_loses_neither_it_nor_what_is_behind_it() {
    for protocol in BOTH {
        let mock = filled(protocol, 40).await;
        let script = |_: &str, attempt| {
            if attempt < 2 {
                Step::Fail
            } else {
                Step::DoSlowly(Duration::from_millis(50))
            }
        };
        let first = Member::start(&mock, 8, script);
        let second = Member::start(&mock, 8, script);
        mock.settled(SOON * 2).await;
        mock.assert_order();
        assert_eq!((first.stop().await, second.stop().await), (Exit::Drained, Exit::Drained));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_while_much_is_in_flight_do_not_stall_the_group() {
    for protocol in BOTH {
        let mock = filled(protocol, 200).await;
        let stays = Member::start(&mock, 32, slowly(300));
        for _ in 0..2 {
            let (guest, share) = Member::counted(&mock, 32, 300);
            // Something for it to do, in every partition.
            for n in 0..20 {
                mock.write(&format!("g{n}")).await;
            }
            let more = Writers::start(&mock, 1, 400);
            until(|| share.load(Ordering::Relaxed) > 0).await;
            more.stop().await;
            assert!(matches!(guest.stop().await, Exit::Drained | Exit::NotAcknowledged));
        }
        mock.settled(SOON * 2).await;
        mock.assert_order();
        assert_eq!(stays.stop().await, Exit::Drained);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_goes_while_its_commit_is_on_the_way_blocks_nobody() {
    for protocol in BOTH {
        let mock = filled(protocol, 120).await;
        mock.cluster.round_trip(Duration::from_millis(400));
        let stays = Member::start(&mock, 8, slowly(20));
        until(|| mock.effects().len() > 10).await;
        // There is always something to commit, and something for the guest once it has a share.
        let more = Writers::start(&mock, 4, 400);
        let (guest, share) = Member::counted(&mock, 8, 20);
        // In the mock cluster every rebalance of a classic group takes a second less than the session, whoever has come back,
        // and a guest's first share is the third: on a busy machine some member's session ends, and all begins anew.
        testkit::until("the guest works", SOON * 3, async || share.load(Ordering::Relaxed) > 0).await;
        more.stop().await;
        let told = Instant::now();
        assert!(matches!(guest.stop().await, Exit::Drained | Exit::NotAcknowledged));
        assert!(told.elapsed() < Duration::from_secs(8), "{:?}", told.elapsed());
        mock.cluster.round_trip(Duration::ZERO);
        mock.settled(SOON * 2).await;
        mock.assert_order();
        assert_eq!(stays.stop().await, Exit::Drained);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_block_every_thread_hold_up_neither_polling_nor_the_group() {
    let mock = filled(Consumer, 40).await;
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&begun);
    // Longer than a revocation waits for the loop, so that the thread has to go on without its answer.
    let block = move |_: &str, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_secs(4));
        Step::Do
    };
    let elsewhere = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let blocked = {
        let _inside = elsewhere.enter();
        Member::start(&mock, 2, block)
    };
    // Both of its threads.
    until(|| begun.load(Ordering::Relaxed) >= 2).await;
    let guest = Member::start(&mock, 8, |_, _| Step::Do);
    until(|| mock.effects().len() > 5).await;
    assert!(blocked.runs());
    let exits = (blocked.stop().await, guest.stop().await);
    assert!(matches!(exits.0, Exit::Drained | Exit::GraceExpired), "{exits:?}");
    let last = Member::start(&mock, 8, |_, _| Step::Do);
    mock.settled(SOON * 2).await;
    mock.assert_order();
    assert_eq!(last.stop().await, Exit::Drained);
    elsewhere.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_and_lossy_network_slows_the_work_and_repeats_little_of_it() {
    for protocol in BOTH {
        let mock = filled(protocol, 60).await;
        mock.cluster.round_trip(Duration::from_millis(100));
        let member = Member::start(&mock, 8, slowly(5));
        for request in [
            Request::Fetch,
            Request::OffsetCommit,
            Request::Produce,
            Request::Fetch,
            Request::OffsetCommit,
        ] {
            mock.cluster.spoil(request, &[RD_KAFKA_RESP_ERR__TRANSPORT]);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        mock.settled(SOON * 3).await;
        assert_eq!(member.stop().await, Exit::Drained);
        let again: u32 = mock.effects().values().map(|n| n - 1).sum();
        assert!(again <= 8, "{again} of 60 were done again, more than were in flight");
    }
}
