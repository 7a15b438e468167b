//! The worker on a real chain and a real database: what it does, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use bus::{Failure, Worker as _};
use minting::commands::deploy;
use minting::config::DeployConfig;
use minting::records::{AttemptState, ItemState};
use minting::{Config, Handler};
use runtime::Exit;
use serde_json::json;
use stores::records::MintState;
use support::{Bench, distinct, minted, minted_one, recipient, rejection, within};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_assets_are_minted_in_one_transaction_and_a_redelivery_finds_them() {
    let bench = Bench::new().await;
    let events = bench.requests("a", 20);
    let first = minted(within("twenty mints", bench.handler().await.handle_batch(&events, &bench.ctx())).await);
    bench.assert_minted_once(&events).await;
    assert_eq!(distinct(first.iter().map(|(_, m)| m.tx.clone())), 1);
    assert_eq!(bench.nonce().await, 1);
    for (event, (out, minted)) in events.iter().zip(&first) {
        assert_eq!(minted.token_id, bench.key(event).to_string());
        assert_eq!(out.envelope.partition_key, event.envelope.partition_key);
        let section = bench.mint_section(event).await;
        assert_eq!((section.state, section.tx.as_ref()), (MintState::Minted, Some(&minted.tx)));
        assert_eq!(section.block, Some(minted.block as i64));
    }
    // A process that knows nothing gets the same events, and they are the same events.
    let again = minted(within("a redelivery", bench.handler().await.handle_batch(&events, &bench.ctx())).await);
    for ((a, _), (b, _)) in first.iter().zip(&again) {
        assert_eq!(
            (a.envelope.id, &a.value, a.envelope.time),
            (b.envelope.id, &b.value, b.envelope.time)
        );
    }
    assert_eq!(bench.nonce().await, 1);
    assert_eq!(bench.attempts().await.len(), 1);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_assets_fit_one_transaction() {
    let bench = Bench::new().await;
    let events = bench.requests("a", 100);
    minted(within("a hundred mints", bench.handler().await.handle_batch(&events, &bench.ctx())).await);
    bench.assert_minted_once(&events).await;
    assert_eq!(bench.nonce().await, 1);
    let receipt = bench.attempts().await.pop().unwrap().receipt.unwrap();
    assert!(receipt.gas_used < 6_000_000, "{receipt:?}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_issuance_an_asset_and_the_same_event_for_everybody_who_asks() {
    let bench = Bench::new().await;
    let handler = bench.handler().await;
    let (first, _) = minted_one(within("a mint", handler.handle(&bench.request("a"), &bench.ctx())).await.unwrap());
    let other = bench.request_for("a", 8, recipient(), "another amount");
    assert_eq!(
        rejection(within("a conflict", handler.handle(&other, &bench.ctx())).await),
        "key-conflict"
    );
    assert_eq!(bench.mint_section(&other).await.state, MintState::Minted);
    let same = bench.request_for("a", 7, recipient(), "another request");
    let (second, _) = minted_one(within("the same again", handler.handle(&same, &bench.ctx())).await.unwrap());
    assert_eq!(first.envelope.id, second.envelope.id);
    assert_eq!(bench.nonce().await, 1);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_that_cannot_hold_tokens_is_rejected_and_its_neighbours_are_minted() {
    let bench = Bench::new().await;
    let handler = bench.handler().await;
    let refuser = deploy_receiver(&bench, "RevertingReceiver").await;
    let events = [
        bench.request("good-1"),
        // The token itself is a contract without the hook of a receiver.
        bench.request_for("contract", 7, bench.deployment.address, "contract"),
        bench.request_for("refuser", 7, refuser, "refuser"),
        bench.request_for("nothing", 0, recipient(), "nothing"),
        bench.request("good-2"),
    ];
    let mut answers = within("a mixed batch", handler.handle_batch(&events, &bench.ctx()))
        .await
        .into_iter();
    let mut next = || answers.next().unwrap();
    minted_one(next().unwrap());
    assert_eq!(rejection(next()), "recipient-cannot-hold");
    let refused = next();
    assert!(
        matches!(&refused, Err(Failure::Failed(e)) if e.to_string().contains("refused")),
        "{refused:?}"
    );
    assert_eq!(rejection(next()), "zero-units");
    minted_one(next().unwrap());
    assert_eq!(bench.nonce().await, 1);
    bench.assert_minted_once(&[events[0].clone(), events[4].clone()]).await;
    let section = bench.mint_section(&events[1]).await;
    assert_eq!(
        (section.state, section.reason.unwrap().code),
        (MintState::Failed, "recipient-cannot-hold".to_owned())
    );

    // Redelivered, a rejection is the same rejection; a failure is tried again, with another transaction.
    assert_eq!(
        rejection(within("a redelivery", handler.handle(&events[1], &bench.ctx())).await),
        "recipient-cannot-hold"
    );
    assert_eq!(bench.nonce().await, 1);
    assert!(matches!(
        within("a retry", handler.handle(&events[2], &bench.ctx())).await,
        Err(Failure::Failed(_))
    ));
    assert_eq!(bench.nonce().await, 2);
    // The key is free: a request with a recipient that can hold it is minted.
    let mended = bench.request_for("contract", 7, recipient(), "mended");
    minted_one(within("the mended request", handler.handle(&mended, &bench.ctx())).await.unwrap());
    bench.assert_minted_once(&[mended]).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buried_request_says_so_and_is_minted_when_it_comes_back() {
    let bench = Bench::new().await;
    let handler = bench.handler().await;
    let event = bench.request("a");
    let why = bus::Burial {
        class: bus::DeadClass::Handle,
        error: "odd".to_owned(),
        attempts: 3,
    };
    let emit = handler.buried(&event, &why, &bench.ctx()).await.unwrap();
    assert_eq!(emit.0[0].envelope.event_type, "com.libertum.mint.failed.v1");
    assert_eq!(bench.mint_section(&event).await.state, MintState::Failed);
    minted_one(within("a redriven request", handler.handle(&event, &bench.ctx())).await.unwrap());
    assert_eq!(bench.mint_section(&event).await.state, MintState::Minted);
    // A late burial does not unsay a mint.
    handler.buried(&event, &why, &bench.ctx()).await.unwrap();
    assert_eq!(bench.mint_section(&event).await.state, MintState::Minted);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_account_is_waited_for_and_says_what_it_needs() {
    let bench = Bench::new().await;
    let handler = bench.handler().await;
    let signer = bench.account(0).await;
    bench.anvil.call("anvil_setBalance", json!([signer, "0x1"])).await;
    let event = bench.request("a");
    let answer = within("an empty account", handler.handle(&event, &bench.ctx())).await;
    let Err(Failure::Unavailable(why)) = answer else {
        panic!("{answer:?}")
    };
    assert!(
        why.to_string().to_lowercase().contains(&signer.to_lowercase()) && why.to_string().contains("funds"),
        "{why}"
    );
    assert!(bench.attempts().await.is_empty(), "no nonce is taken that cannot be paid for");
    bench.anvil.call("anvil_setBalance", json!([signer, "0xde0b6b3a7640000"])).await;
    minted_one(within("a filled account", handler.handle(&event, &bench.ctx())).await.unwrap());
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_contract_is_waited_for_and_what_was_under_way_is_settled() {
    let bench = Bench::new().await;
    let handler = bench.handler().await;
    let admin = bench.account(15).await;
    let role = alloy::primitives::keccak256("PAUSER_ROLE");
    // grantRole(bytes32,address), pause(), unpause()
    let grant = format!("0x2f2ff15d{}{:0>64}", hex::encode(role), admin.trim_start_matches("0x"));
    admin_call(&bench, &admin, &grant).await;
    admin_call(&bench, &admin, "0x8456cb59").await;
    let event = bench.request("a");
    let answer = within("a paused contract", handler.handle(&event, &bench.ctx())).await;
    assert!(
        matches!(&answer, Err(Failure::Unavailable(e)) if e.to_string().contains("unpause")),
        "{answer:?}"
    );
    assert_eq!(bench.item(&event).await.unwrap().state, ItemState::Planned);
    admin_call(&bench, &admin, "0x3f4ba83a").await;
    minted_one(within("an unpaused contract", handler.handle(&event, &bench.ctx())).await.unwrap());
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_reverts_as_a_whole_is_planned_anew() {
    let bench = Bench::new().await;
    let handler = bench.handler().await;
    let admin = bench.account(15).await;
    let role = alloy::primitives::keccak256("PAUSER_ROLE");
    let grant = format!("0x2f2ff15d{}{:0>64}", hex::encode(role), admin.trim_start_matches("0x"));
    admin_call(&bench, &admin, &grant).await;
    bench.pause_blocks().await;
    let events = bench.requests("a", 3);
    let ctx = bench.ctx();
    let (answers, ()) = tokio::join!(within("a batch after a revert", handler.handle_batch(&events, &ctx)), async {
        bench.pending().await;
        // The pause comes first in the block: it offers more.
        let to = bench.deployment.address;
        let fees = ("0x2540be400", "0x4a817c800");
        send(
            &bench,
            json!({ "from": admin, "to": to, "data": "0x8456cb59", "maxPriorityFeePerGas": fees.0, "maxFeePerGas": fees.1 }),
        )
        .await;
        bench.mine(1).await;
        send(&bench, json!({ "from": admin, "to": to, "data": "0x3f4ba83a" })).await;
        bench.mine(1).await;
        bench.resume_blocks().await;
    });
    minted(answers);
    bench.assert_minted_once(&events).await;
    let states: Vec<_> = bench.attempts().await.iter().map(|a| a.state).collect();
    assert!(
        states.contains(&AttemptState::Reverted) && states.contains(&AttemptState::Final),
        "{states:?}"
    );
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_ends_the_start_with_what_to_do() {
    let mut bench = Bench::new().await;
    let refusal = |bench: &Bench| {
        let config = bench.corner.config::<Config>();
        async move {
            let error = Handler::connect(&config).await.err().expect("it must not start");
            (Exit::from_error(&error), format!("{error:#}"))
        }
    };
    bench.corner.set("EVM_CHAIN_ID", "1");
    let (exit, text) = refusal(&bench).await;
    assert_eq!(exit, Exit::Config);
    assert!(text.contains("EVM_CHAIN_ID is 1"), "{text}");
    bench.corner.set("EVM_CHAIN_ID", "31337");

    bench.corner.set("EVM_SIGNERS", "9");
    let (exit, text) = refusal(&bench).await;
    assert_eq!(exit, Exit::Config);
    assert!(text.contains("lacks MINTER_ROLE"), "{text}");
    bench.corner.set("EVM_SIGNERS", "8");

    bench
        .corner
        .set("ASSET_TOKEN_ADDRESS", "0x0000000000000000000000000000000000000001");
    let (exit, text) = refusal(&bench).await;
    assert_eq!(exit, Exit::Config);
    assert!(text.contains("minting deploy"), "{text}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_signer_waits_for_one() {
    let bench = Bench::new().await;
    let ctx = bus::Context::new(Handler::NAME, bus::Clock::system(), 8);
    let answer = within("partition 8", bench.handler().await.handle(&bench.request("a"), &ctx)).await;
    assert!(
        matches!(&answer, Err(Failure::Unavailable(e)) if e.to_string().contains("EVM_SIGNERS")),
        "{answer:?}"
    );
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deploying_twice_gives_one_token() {
    let mut bench = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("token.json");
    let given = deploy(&bench.corner.config::<DeployConfig>(), 15, 8, Some(&state)).await.unwrap();
    assert_eq!(given.address, bench.deployment.address, "the address in the environment is taken");
    bench.corner.set("ASSET_TOKEN_ADDRESS", "");
    let first = deploy(&bench.corner.config::<DeployConfig>(), 15, 8, Some(&state)).await.unwrap();
    assert_ne!(first.address, bench.deployment.address);
    let second = deploy(&bench.corner.config::<DeployConfig>(), 15, 8, Some(&state)).await.unwrap();
    assert_eq!(first, second);
    bench.corner.set("ASSET_TOKEN_ADDRESS", recipient().to_string());
    let wrong = deploy(&bench.corner.config::<DeployConfig>(), 15, 8, None).await.unwrap_err();
    assert_eq!(Exit::from_error(&wrong), Exit::Config);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_batch_leaves_at_once_and_is_finished_by_the_next() {
    let bench = Bench::new().await;
    bench.pause_blocks().await;
    let events = bench.requests("a", 2);
    let ctx = bench.ctx();
    let handler = bench.handler().await;
    let (answers, _) = tokio::join!(within("a cancelled batch", handler.handle_batch(&events, &ctx)), async {
        bench.pending().await;
        ctx.cancel.cancel();
    });
    assert!(answers.iter().all(|a| matches!(a, Err(Failure::Cancelled))), "{answers:?}");
    bench.resume_blocks().await;
    minted(within("the next process", bench.handler().await.handle_batch(&events, &bench.ctx())).await);
    bench.assert_minted_once(&events).await;
    assert_eq!(bench.nonce().await, 1);
    bench.end().await;
}

async fn deploy_receiver(bench: &Bench, name: &str) -> messages::Address {
    let path = format!("{}/contracts/test/artifacts/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let artifact: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let hash = send(bench, json!({ "from": bench.account(14).await, "data": artifact["bytecode"] })).await;
    receipt(bench, hash).await["contractAddress"].as_str().unwrap().parse().unwrap()
}

async fn admin_call(bench: &Bench, admin: &str, data: &str) {
    let hash = send(bench, json!({ "from": admin, "to": bench.deployment.address, "data": data })).await;
    assert_eq!(receipt(bench, hash).await["status"], "0x1");
}

async fn send(bench: &Bench, tx: serde_json::Value) -> serde_json::Value {
    bench.anvil.call("eth_sendTransaction", json!([tx])).await
}

async fn receipt(bench: &Bench, hash: serde_json::Value) -> serde_json::Value {
    support::eventually("receipt", || async {
        let receipt = bench.anvil.call("eth_getTransactionReceipt", json!([hash])).await;
        (!receipt.is_null()).then_some(receipt)
    })
    .await
}
