// Minting: once per key, one item's trouble is its own, and a shortage of gas is nobody's failure.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { decodeErrorResult, encodeAbiParameters, keccak256, toBytes } from "viem";
import {
  Deployment,
  Outcome,
  ZERO32,
  ZERO_ADDRESS,
  digestOf,
  eventsOf,
  itemFor,
  keyOf,
  named,
  receiver,
  role,
  startNode,
  token,
} from "./harness.mjs";

let node;
let t;
before(async () => {
  node = await startNode();
});
after(() => node.stop());
beforeEach(async () => {
  t = await Deployment.create(node);
});

function reasonOf(skip, abi = token.abi) {
  return decodeErrorResult({ abi, data: skip.reason });
}

describe("a key is minted once", () => {
  test("a new key mints, stores its digest and says so", async () => {
    const item = itemFor(t.alice);
    const { outcomes, events } = await t.mint([item]);
    assert.deepEqual(outcomes, [Outcome.Minted]);
    assert.equal(await t.balance(t.alice, item.key), item.amount);
    assert.equal(await t.read("mintDigest", [item.key]), digestOf(item));
    assert.deepEqual(named(events, "AssetMinted"), [item]);
    assert.deepEqual(named(events, "MintSkipped"), []);
    const [transfer] = named(events, "TransferSingle");
    assert.equal(transfer.id, BigInt(item.key));
    assert.equal(transfer.from, ZERO_ADDRESS);
  });

  test("the key and the digest are the documented hashes of the documented words", () => {
    const word = (n) => n.toString(16).padStart(64, "0");
    const text = (s) => word(s.length) + Buffer.from(s).toString("hex").padEnd(64, "0");
    // Three offsets, then length and bytes of each string.
    const encoded =
      word(0x60) + word(0xa0) + word(0xe0) + text("libertum.mint.v1") + text("acme") + text("madrid-1");
    assert.equal(keyOf("acme", "madrid-1"), keccak256(toBytes(`0x${encoded}`)));
    const to = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
    const item = { key: keyOf("acme", "madrid-1"), to, amount: 7n, evidence: `0x${"ab".repeat(32)}` };
    const words = item.key.slice(2) + to.slice(2).padStart(64, "0") + word(7) + "ab".repeat(32);
    assert.equal(digestOf(item), keccak256(toBytes(`0x${words.toLowerCase()}`)));
    // The README's figures, by which other programs check theirs.
    assert.equal(item.key, "0xe5e7a7e7741e0dcf80020808ce7fd7830db5d9eb4fc1ad2418da37e0a6ff6588");
    assert.equal(digestOf(item), "0x6760071110c20df2055fe03d6d6a215c556d784c522e6097e2664fe955159b5e");
  });

  test("the same item again is a no-op that reports AlreadyMinted", async () => {
    const item = itemFor(t.alice);
    await t.mint([item]);
    const { outcomes, events } = await t.mint([item]);
    assert.deepEqual(outcomes, [Outcome.AlreadyMinted]);
    assert.equal(await t.balance(t.alice, item.key), item.amount);
    assert.deepEqual(events.map((e) => e.eventName), ["MintSkipped"]);
    assert.deepEqual(events[0].args, { key: item.key, outcome: Outcome.AlreadyMinted, reason: "0x" });
  });

  test("the same item twice in one batch mints once", async () => {
    const item = itemFor(t.alice);
    const { outcomes } = await t.mint([item, item]);
    assert.deepEqual(outcomes, [Outcome.Minted, Outcome.AlreadyMinted]);
    assert.equal(await t.balance(t.alice, item.key), item.amount);
  });

  for (const [field, change] of [
    ["amount", () => ({ amount: 1001n })],
    ["recipient", () => ({ to: t.bob })],
    ["evidence", () => ({ evidence: `0x${"11".repeat(32)}` })],
  ]) {
    test(`a used key with another ${field} is a KeyConflict and changes nothing`, async () => {
      const item = itemFor(t.alice);
      await t.mint([item]);
      const { outcomes, events } = await t.mint([{ ...item, ...change() }]);
      assert.deepEqual(outcomes, [Outcome.KeyConflict]);
      assert.deepEqual(named(events, "MintSkipped"), [
        { key: item.key, outcome: Outcome.KeyConflict, reason: "0x" },
      ]);
      assert.equal(await t.read("mintDigest", [item.key]), digestOf(item));
      assert.equal(await t.balance(t.alice, item.key), item.amount);
      assert.equal(await t.balance(t.bob, item.key), 0n);
    });
  }

  test("two minters that send the same item at once mint it once", async () => {
    await t.send(t.admin, "grantRole", [role("MINTER_ROLE"), t.bob]);
    const item = itemFor(t.alice);
    const receipts = await Promise.all([
      t.send(t.minter, "mintBatch", [[item]]),
      t.send(t.bob, "mintBatch", [[item]]),
    ]);
    const events = receipts.flatMap((r) => eventsOf(r, t.address));
    assert.equal(named(events, "AssetMinted").length, 1);
    assert.equal(named(events, "MintSkipped")[0].outcome, Outcome.AlreadyMinted);
    assert.equal(await t.balance(t.alice, item.key), item.amount);
  });

  test("an empty batch passes and does nothing", async () => {
    const { outcomes, receipt } = await t.mint([]);
    assert.deepEqual(outcomes, []);
    assert.equal(receipt.logs.length, 0);
  });
});

describe("an item's trouble is its own", () => {
  for (const [what, change, error] of [
    ["a zero key", { key: ZERO32 }, "ZeroKey"],
    ["a zero recipient", { to: ZERO_ADDRESS }, "ZeroRecipient"],
    ["a zero amount", { amount: 0n }, "ZeroAmount"],
    ["a zero evidence", { evidence: ZERO32 }, "ZeroEvidence"],
  ]) {
    test(`${what} fails with ${error}, its neighbours mint`, async () => {
      const [first, last] = [itemFor(t.alice), itemFor(t.bob)];
      const bad = itemFor(t.alice, change);
      const { outcomes, events } = await t.mint([first, bad, last]);
      assert.deepEqual(outcomes, [Outcome.Minted, Outcome.Failed, Outcome.Minted]);
      const [skip] = named(events, "MintSkipped");
      assert.equal(skip.key, bad.key);
      assert.equal(reasonOf(skip).errorName, error);
      assert.equal(await t.read("mintDigest", [bad.key]), ZERO32);
    });
  }

  test("a denied recipient fails, and mints once allowed again", async () => {
    await t.send(t.compliance, "setDenied", [t.bob, true]);
    const item = itemFor(t.bob);
    const denied = await t.mint([item]);
    assert.deepEqual(denied.outcomes, [Outcome.Failed]);
    const reason = reasonOf(named(denied.events, "MintSkipped")[0]);
    assert.deepEqual([reason.errorName, reason.args], ["ERC7943CannotReceive", [t.bob]]);
    await t.send(t.compliance, "setDenied", [t.bob, false]);
    assert.deepEqual((await t.mint([item])).outcomes, [Outcome.Minted]);
  });

  test("a receiver that reverts fails alone, with its own reason, and its key stays free", async () => {
    const artefact = receiver("RevertingReceiver");
    const bad = itemFor(await t.deploy(artefact));
    const good = itemFor(t.alice);
    const { outcomes, events } = await t.mint([bad, good]);
    assert.deepEqual(outcomes, [Outcome.Failed, Outcome.Minted]);
    const reason = reasonOf(named(events, "MintSkipped")[0], artefact.abi);
    assert.deepEqual([reason.errorName, reason.args], ["NotToday", [BigInt(bad.key)]]);
    assert.equal(await t.read("mintDigest", [bad.key]), ZERO32);
    assert.deepEqual((await t.mint([{ ...bad, to: t.bob }])).outcomes, [Outcome.Minted]);
  });

  test("a contract that is no receiver fails with the base standard's error", async () => {
    const { outcomes, events } = await t.mint([itemFor(t.address)]);
    assert.deepEqual(outcomes, [Outcome.Failed]);
    assert.equal(reasonOf(named(events, "MintSkipped")[0]).errorName, "ERC1155InvalidReceiver");
  });

  test("a receiver that burns all its gas costs its share and no more", async () => {
    const burner = await t.deploy(receiver("GasBurningReceiver"));
    const items = [itemFor(t.alice), itemFor(burner), itemFor(burner), itemFor(t.bob)];
    const { outcomes, receipt } = await t.mint(items);
    assert.deepEqual(outcomes, [Outcome.Minted, Outcome.Failed, Outcome.Failed, Outcome.Minted]);
    assert.ok(receipt.gasUsed > 800_000n && receipt.gasUsed < 1_050_000n, `gas ${receipt.gasUsed}`);
  });

  test("a receiver that returns 64 KiB of reason gets 256 bytes of it kept", async () => {
    const bomb = await t.deploy(receiver("ReturnBombReceiver"));
    const { outcomes, events, receipt } = await t.mint([itemFor(bomb), itemFor(bomb), itemFor(t.alice)]);
    assert.deepEqual(outcomes, [Outcome.Failed, Outcome.Failed, Outcome.Minted]);
    for (const skip of named(events, "MintSkipped")) assert.equal((skip.reason.length - 2) / 2, 256);
    assert.ok(receipt.gasUsed < 1_000_000n, `gas ${receipt.gasUsed}`);
  });
});

describe("a receiver that calls back", () => {
  async function armed() {
    const artefact = receiver("ReentrantReceiver");
    const address = await t.deploy(artefact);
    const read = (functionName) => node.client.readContract({ address, abi: artefact.abi, functionName });
    const item = itemFor(address);
    const arm = async (again) => {
      const call = { address, abi: artefact.abi, functionName: "arm", args: [again], account: t.admin };
      await node.client.waitForTransactionReceipt({ hash: await node.wallet.writeContract(call) });
    };
    return { address, read, item, arm };
  }

  test("sees its digest already written and cannot mint", async () => {
    const { read, item, arm } = await armed();
    await arm(item);
    assert.deepEqual((await t.mint([item])).outcomes, [Outcome.Minted]);
    assert.equal(await read("digestSeen"), digestOf(item));
    const batch = decodeErrorResult({ abi: token.abi, data: await read("batchResult") });
    assert.equal(batch.errorName, "AccessControlUnauthorizedAccount");
    const one = decodeErrorResult({ abi: token.abi, data: await read("oneResult") });
    assert.equal(one.errorName, "OnlySelf");
    assert.equal(await t.balance(item.to, item.key), item.amount);
  });

  test("even as a minter gets AlreadyMinted for its key", async () => {
    const { address, read, item, arm } = await armed();
    await t.send(t.admin, "grantRole", [role("MINTER_ROLE"), address]);
    await arm(item);
    const { outcomes, receipt } = await t.mint([item]);
    assert.deepEqual(outcomes, [Outcome.Minted]);
    assert.equal(await read("batchSucceeded"), true);
    const expected = encodeAbiParameters([{ type: "uint8[]" }], [[Outcome.AlreadyMinted]]);
    assert.equal(await read("batchResult"), expected);
    assert.equal(named(eventsOf(receipt, t.address), "AssetMinted").length, 1);
    assert.equal(await t.balance(address, item.key), item.amount);
  });

  test("even as a minter cannot start another mint within its share of gas", async () => {
    const { address, read, item, arm } = await armed();
    await t.send(t.admin, "grantRole", [role("MINTER_ROLE"), address]);
    const other = itemFor(address);
    await arm(other);
    assert.deepEqual((await t.mint([item])).outcomes, [Outcome.Minted]);
    assert.equal(await read("batchSucceeded"), false);
    const batch = decodeErrorResult({ abi: token.abi, data: await read("batchResult") });
    assert.equal(batch.errorName, "InsufficientGas");
    assert.equal(await t.read("mintDigest", [other.key]), ZERO32);
  });
});

describe("a shortage of gas", () => {
  test("reverts the whole batch and is never reported as an item's failure", async () => {
    const hungry = await t.deploy(receiver("HungryReceiver"));
    const items = [itemFor(t.alice), itemFor(hungry), itemFor(hungry), itemFor(t.bob)];
    const call = { address: t.address, abi: token.abi, functionName: "mintBatch", args: [items], account: t.minter };
    const seen = { refused: 0, minted: 0 };
    for (let gas = 100_000n; gas <= 1_500_000n; gas += 20_000n) {
      const error = await t.errorOf(t.minter, "mintBatch", [items], gas);
      if (error) {
        // Too little even to reach the check ends without data.
        assert.ok(["InsufficientGas", "none"].includes(error.errorName), `${gas}: ${error.errorName}`);
        seen.refused += 1;
        continue;
      }
      const { result } = await node.client.simulateContract({ ...call, gas });
      assert.deepEqual(result, [1, 1, 1, 1], `with ${gas} gas`);
      seen.minted += 1;
    }
    assert.ok(seen.refused > 10 && seen.minted > 10, JSON.stringify(seen));
  });

  test("leaves nothing behind when mined, and the estimate of the node suffices", async () => {
    const items = [itemFor(t.alice), itemFor(t.bob)];
    const short = await t.mine(t.minter, "mintBatch", [items], 420_000n);
    assert.equal(short.status, "reverted");
    assert.equal(await t.read("mintDigest", [items[0].key]), ZERO32);
    const call = { address: t.address, abi: token.abi, functionName: "mintBatch", args: [items], account: t.minter };
    const estimate = await node.client.estimateContractGas(call);
    const receipt = await t.mine(t.minter, "mintBatch", [items], estimate);
    assert.equal(receipt.status, "success");
    assert.equal(named(eventsOf(receipt, t.address), "AssetMinted").length, 2);
  });
});
