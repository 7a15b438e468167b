//! Bad days: whatever is killed, lost, dropped or set back, each asset is minted exactly once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bson::doc;
use bus::{Failure, Worker as _};
use messages::{Event, MintingPayload};
use minting::records::{AttemptState, ItemState};
use rand::RngExt as _;
use serde_json::json;
use support::proxy::Fault;
use support::{Bench, distinct, eventually, minted, within};

/// Handles a batch until every answer is there, as the loop does: again after a moment when something is away.
async fn until_minted(bench: &Bench, events: &[Event<MintingPayload>]) -> Vec<String> {
    let handler = bench.handler().await;
    eventually("mint of every asset", || async {
        let answers = handler.handle_batch(events, &bench.ctx()).await;
        let away = |a: &Result<_, Failure>| matches!(a, Err(Failure::Unavailable(_)));
        (!answers.iter().any(away)).then(|| minted(answers).into_iter().map(|(_, m)| m.tx).collect())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_at_any_moment_is_continued_by_the_next() {
    let bench = Arc::new(Bench::new().await);
    let batches: Vec<_> = (0..3).map(|n| bench.requests(&format!("b{n}"), 5)).collect();
    for round in 0..12 {
        let tasks: Vec<_> = batches
            .iter()
            .map(|events| {
                let (bench, events) = (bench.clone(), events.clone());
                tokio::spawn(async move { bench.handler().await.handle_batch(&events, &bench.ctx()).await })
            })
            .collect();
        // From the first write to the last look: most of a mint's life on this chain.
        let moment = Duration::from_millis(rand::rng().random_range(0..900));
        tokio::time::sleep(moment).await;
        for task in tasks {
            task.abort();
            // Whether it was aborted or had just ended, it is gone.
            drop(task.await);
        }
        println!("round {round}: killed after {moment:?}");
        bench.assert_never_twice(&batches.concat()).await;
    }
    for events in &batches {
        until_minted(&bench, events).await;
    }
    bench.assert_minted_once(&batches.concat()).await;
    // A process that died between settling the items and closing their attempt left it open; the next batch closes it.
    until_minted(&bench, &bench.requests("last", 1)).await;
    let attempts = bench.attempts().await;
    assert!(attempts.iter().all(|a| a.state == AttemptState::Final), "{attempts:?}");
    assert_eq!(attempts.len() as u64, bench.nonce().await, "every nonce has its attempt");
    let carried: usize = attempts.iter().map(|a| a.items.len()).sum();
    assert_eq!(carried, 16, "no item was ever carried by two transactions");
    Arc::into_inner(bench).expect("all tasks have ended").end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_partition_mint_each_asset_once() {
    let bench = Bench::new().await;
    let shared = bench.requests("shared", 10);
    let mut left = [shared.clone(), bench.requests("left", 5)].concat();
    let right = [bench.requests("right", 5), shared.clone()].concat();
    left.reverse();
    let (a, b) = (bench.handler().await, bench.handler().await);
    let (ctx_a, ctx_b) = (bench.ctx(), bench.ctx());
    let (from_a, from_b) = tokio::join!(
        within("one process", a.handle_batch(&left, &ctx_a)),
        within("the other", b.handle_batch(&right, &ctx_b))
    );
    let ids = minted(from_a).into_iter().chain(minted(from_b)).map(|(out, _)| out.envelope.id);
    assert_eq!(distinct(ids), 20, "both say the same of what they share");
    bench.assert_minted_once(&[left, right].concat()).await;
    assert_eq!(bench.attempts().await.len() as u64, bench.nonce().await);
    let carried: usize = bench.attempts().await.iter().map(|a| a.items.len()).sum();
    assert_eq!(carried, 20, "each item in one transaction, by one of the two");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_later_messages_share_the_signer() {
    let bench = Bench::new().await;
    let handler = bench.handler().await;
    let batches: Vec<_> = (0..4).map(|n| bench.requests(&format!("b{n}"), 5)).collect();
    let ctx = bench.ctx();
    let all = futures::future::join_all(batches.iter().map(|events| handler.handle_batch(events, &ctx)));
    for answers in within("four batches at once", all).await {
        minted(answers);
    }
    bench.assert_minted_once(&batches.concat()).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_pool_drops_is_sent_again() {
    let bench = Bench::new().await;
    let (handler, ctx) = (bench.handler().await, bench.ctx());
    let events = bench.requests("a", 3);
    bench.pause_blocks().await;
    let (answers, ()) = tokio::join!(within("a dropped transaction", handler.handle_batch(&events, &ctx)), async {
        let hash = bench.pending().await;
        bench.anvil.call("anvil_dropTransaction", json!([hash])).await;
        let gone = bench.anvil.call("eth_getTransactionByHash", json!([hash])).await;
        assert!(gone.is_null(), "{gone}");
        bench.mine(1).await;
        assert_eq!(bench.pending().await, hash, "the same bytes");
        bench.resume_blocks().await;
    });
    minted(answers);
    bench.assert_minted_once(&events).await;
    assert_eq!(bench.attempts().await.len(), 1);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_taken_back_before_it_is_final_is_nothing() {
    let mut bench = Bench::new().await;
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = looks.clone();
    let plan = move |method: &str, _| {
        counted.fetch_add(usize::from(method == "eth_getTransactionReceipt"), Ordering::SeqCst);
        Fault::None
    };
    bench
        .corner
        .set("EVM_RPC_URLS", support::proxy::start(&bench.anvil.url, Arc::new(plan)).await);
    let (handler, ctx) = (bench.handler().await, bench.ctx());
    let events = bench.requests("a", 3);
    bench.pause_blocks().await;
    let (answers, first_block) = tokio::join!(within("a reorganisation", handler.handle_batch(&events, &ctx)), async {
        let hash = bench.pending().await;
        bench.mine(1).await;
        let receipt = bench.anvil.call("eth_getTransactionReceipt", json!([hash])).await;
        let first = receipt["blockHash"].as_str().expect("it is mined").to_owned();
        // The worker has seen it in its block, and seen it again.
        let before = looks.load(Ordering::SeqCst);
        eventually("look at the receipt", || async {
            (looks.load(Ordering::SeqCst) >= before + 3).then_some(())
        })
        .await;
        assert_eq!(bench.item(&events[0]).await.unwrap().state, ItemState::Planned);
        bench.anvil.call("anvil_reorg", json!([1, []])).await;
        let receipt = bench.anvil.call("eth_getTransactionReceipt", json!([hash])).await;
        assert!(receipt.is_null(), "{receipt}");
        assert!(bench.mints(bench.key(&events[0])).await.is_empty());
        // Something else takes a block, so that the transaction lands in another one than before.
        bench.mine(1).await;
        bench.pending().await;
        bench.resume_blocks().await;
        first
    });
    for (_, minted) in minted(answers) {
        assert_ne!(minted.block_hash, first_block);
        let block = bench
            .anvil
            .call("eth_getBlockByNumber", json!([format!("0x{:x}", minted.block), false]))
            .await;
        assert_eq!(
            block["hash"].as_str(),
            Some(minted.block_hash.as_str()),
            "what is said is canonical"
        );
    }
    bench.assert_minted_once(&events).await;
    assert_eq!(bench.attempts().await.len(), 1);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_no_reason_for_a_second_transaction() {
    let mut bench = Bench::new().await;
    // The start asks nine calls of the contract and is let through. Then the first two sends reach the node and their
    // answers do not reach us, and two in seven calls of any kind are cut.
    let plan = |method: &str, n: usize| match method {
        "eth_sendRawTransaction" if n < 2 => Fault::LoseAnswer,
        "eth_chainId" | "eth_getCode" => Fault::None,
        "eth_call" if n < 9 => Fault::None,
        _ if n % 7 == 3 => Fault::LoseCall,
        _ if n % 7 == 5 => Fault::LoseAnswer,
        _ => Fault::None,
    };
    let url = support::proxy::start(&bench.anvil.url, Arc::new(plan)).await;
    bench.corner.set("EVM_RPC_URLS", url);
    bench.corner.set("EVM_RPC_TIMEOUT_MS", "1000");
    let events = bench.requests("a", 10);
    let txs = until_minted(&bench, &events).await;
    assert_eq!(distinct(txs), 1);
    bench.assert_minted_once(&events).await;
    assert_eq!((bench.nonce().await, bench.attempts().await.len()), (1, 1));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_away_is_waited_for_with_one_that_answers_beside_it() {
    let mut bench = Bench::new().await;
    // Two endpoints of one chain: reads go on when the first loses calls, and what is final needs both.
    let plan = |_: &str, n: usize| if n % 3 == 1 { Fault::LoseCall } else { Fault::None };
    let lossy = support::proxy::start(&bench.anvil.url, Arc::new(plan)).await;
    bench.corner.set("EVM_RPC_URLS", format!("{lossy},{}", bench.anvil.url));
    let events = bench.requests("a", 4);
    until_minted(&bench, &events).await;
    bench.assert_minted_once(&events).await;
    assert_eq!(bench.nonce().await, 1);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_final_that_one_endpoint_does_not_have() {
    let mut bench = Bench::new().await;
    let other_chain = testkit::Anvil::start();
    let only = bench.anvil.url.clone();
    bench.corner.set("EVM_RPC_URLS", format!("{only},{}", other_chain.url));
    let events = bench.requests("a", 2);
    let (handler, ctx) = (bench.handler().await, bench.ctx());
    let (answers, ()) = tokio::join!(within("endpoints that differ", handler.handle_batch(&events, &ctx)), async {
        let hash = bench.pending().await;
        // Long final at the one, and on the other's chain there are enough final blocks too.
        eventually("deep block", || async {
            let receipt = bench.anvil.call("eth_getTransactionReceipt", json!([hash])).await;
            let block = number(&receipt["blockNumber"])?;
            let finals = [&bench.anvil, &other_chain].map(|a| a.call("eth_getBlockByNumber", json!(["finalized", false])));
            let finals = futures::future::join_all(finals).await;
            finals
                .iter()
                .all(|f| number(&f["number"]).is_some_and(|n| n > block + 10))
                .then_some(())
        })
        .await;
        ctx.cancel.cancel();
    });
    assert!(answers.iter().all(|a| matches!(a, Err(Failure::Cancelled))), "{answers:?}");
    assert_eq!(bench.item(&events[0]).await.unwrap().state, ItemState::Planned);
    assert_eq!(bench.attempts().await[0].state, AttemptState::Open);
    bench.corner.set("EVM_RPC_URLS", only);
    until_minted(&bench, &events).await;
    assert_eq!(bench.nonce().await, 1);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_has_lost_what_was_final_is_not_minted_on() {
    let bench = Bench::new().await;
    let handler = bench.handler().await;
    let snapshot = bench.anvil.call("evm_snapshot", json!([])).await;
    minted(within("a mint", handler.handle_batch(&bench.requests("a", 1), &bench.ctx())).await);
    bench.anvil.call("evm_revert", json!([snapshot])).await;
    let answer = within("a chain that was set back", handler.handle(&bench.request("b"), &bench.ctx())).await;
    assert!(
        matches!(&answer, Err(Failure::Unavailable(e)) if e.to_string().contains("set back")),
        "{answer:?}"
    );
    assert_eq!(bench.attempts().await.len(), 1);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_lost_while_a_transaction_is_under_way_do_no_harm() {
    let bench = Bench::new().await;
    let (handler, ctx) = (bench.handler().await, bench.ctx());
    let events = bench.requests("a", 4);
    bench.pause_blocks().await;
    let (answers, ()) = tokio::join!(within("lost attempts", handler.handle_batch(&events, &ctx)), async {
        bench.pending().await;
        bench.ledger.attempts().delete_many(doc! {}).await.unwrap();
        bench.resume_blocks().await;
    });
    minted(answers);
    bench.assert_minted_once(&events).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_has_lost_everything_learns_from_the_chain() {
    let bench = Bench::new().await;
    let events = bench.requests("a", 4);
    let first = until_minted(&bench, &events).await;
    bench.ledger.attempts().delete_many(doc! {}).await.unwrap();
    bench.ledger.items().delete_many(doc! {}).await.unwrap();
    let again = until_minted(&bench, &events).await;
    assert_eq!(first, again, "found where it was minted");
    assert_eq!(bench.nonce().await, 1, "and no transaction was needed for that");
    bench.assert_minted_once(&events).await;
    // Another issuance of the same asset is refused, by the chain's memory.
    bench.ledger.items().delete_many(doc! {}).await.unwrap();
    let other = bench.request_for("a-0", 9, support::recipient(), "other");
    let answer = within("a conflict", bench.handler().await.handle(&other, &bench.ctx())).await;
    assert_eq!(support::rejection(answer), "key-conflict");
    assert_eq!(bench.nonce().await, 1);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_that_somebody_else_uses_sends_the_items_into_another_transaction() {
    let bench = Bench::new().await;
    let (handler, ctx) = (bench.handler().await, bench.ctx());
    let events = bench.requests("a", 3);
    bench.pause_blocks().await;
    let signer = bench.account(0).await;
    let (answers, ()) = tokio::join!(within("a foreign transaction", handler.handle_batch(&events, &ctx)), async {
        let hash = bench.pending().await;
        bench.anvil.call("anvil_dropTransaction", json!([hash])).await;
        let foreign = json!({ "from": signer, "to": signer, "nonce": "0x0", "value": "0x1" });
        bench.anvil.call("eth_sendTransaction", json!([foreign])).await;
        bench.mine(1).await;
        bench.resume_blocks().await;
    });
    minted(answers);
    bench.assert_minted_once(&events).await;
    let states: Vec<_> = bench.attempts().await.iter().map(|a| a.state).collect();
    assert_eq!(states, [AttemptState::Superseded, AttemptState::Final]);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_offers_too_little_offers_more() {
    let bench = Bench::new().await;
    let (handler, ctx) = (bench.handler().await, bench.ctx());
    let events = bench.requests("a", 3);
    bench.pause_blocks().await;
    let (answers, ()) = tokio::join!(within("a fee that rises", handler.handle_batch(&events, &ctx)), async {
        bench.pending().await;
        // 100 gwei: fifty times what was offered.
        bench.anvil.call("anvil_setNextBlockBaseFeePerGas", json!(["0x174876e800"])).await;
        eventually("higher offer", || async {
            bench.mine(1).await;
            let attempt = bench.attempts().await.pop()?;
            (attempt.raws.len() > 1).then_some(())
        })
        .await;
        bench.resume_blocks().await;
    });
    minted(answers);
    bench.assert_minted_once(&events).await;
    let attempts = bench.attempts().await;
    assert_eq!(attempts.len(), 1, "the same nonce");
    let fee = |text: &str| text.parse::<u128>().unwrap();
    for pair in attempts[0].raws.windows(2) {
        assert!(fee(&pair[1].max_fee) * 10 >= fee(&pair[0].max_fee) * 11, "{pair:?}");
        assert!(fee(&pair[1].tip) * 10 >= fee(&pair[0].tip) * 11, "{pair:?}");
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_of_nonces_is_filled() {
    let bench = Bench::new().await;
    let (handler, ctx) = (bench.handler().await, bench.ctx());
    bench.pause_blocks().await;
    let (first, second) = (bench.requests("first", 2), bench.requests("second", 2));
    // Nonce 0 is planned, dropped by the pool and lost from the database with all that it was for; nonce 1 waits.
    let lost = async {
        let cancelled = bench.ctx();
        let (_, ()) = tokio::join!(handler.handle_batch(&first, &cancelled), async {
            let hash = bench.pending().await;
            cancelled.cancel.cancel();
            bench.anvil.call("anvil_dropTransaction", json!([hash])).await;
        });
    };
    within("the lost batch", lost).await;
    let (answers, ()) = tokio::join!(within("a batch behind a gap", handler.handle_batch(&second, &ctx)), async {
        eventually("second attempt", || async { (bench.attempts().await.len() == 2).then_some(()) }).await;
        bench.ledger.attempts().delete_one(doc! { "nonce": 0 }).await.unwrap();
        bench
            .ledger
            .items()
            .delete_many(doc! { "asset_id": { "$regex": "^first" } })
            .await
            .unwrap();
        let pool = bench.anvil.call("txpool_content", json!([])).await;
        println!("pool: {}", pool["pending"].as_object().map_or(0, serde_json::Map::len));
        for hash in pool_hashes(&pool, "0") {
            bench.anvil.call("anvil_dropTransaction", json!([hash])).await;
        }
        bench.resume_blocks().await;
    });
    minted(answers);
    bench.assert_minted_once(&second).await;
    assert!(bench.attempts().await.iter().any(|a| a.nonce == 0 && a.items.is_empty()));
    // What was lost is minted when its message comes again.
    until_minted(&bench, &first).await;
    bench.assert_minted_once(&first).await;
    assert_eq!(bench.item(&first[0]).await.unwrap().state, ItemState::Minted);
    bench.end().await;
}

/// The hashes of the pool's transactions of a nonce.
fn pool_hashes(pool: &serde_json::Value, nonce: &str) -> Vec<String> {
    let by_sender = ["pending", "queued"].into_iter().filter_map(|part| pool[part].as_object());
    let senders = by_sender.flat_map(|senders| senders.values());
    senders.filter_map(|txs| txs[nonce]["hash"].as_str().map(str::to_owned)).collect()
}

fn number(value: &serde_json::Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.trim_start_matches("0x"), 16).ok()
}
