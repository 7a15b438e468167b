// Who may do what, and what stands in the way of a transfer.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { encodeDeployData, toFunctionSelector } from "viem";
import {
  Deployment,
  Outcome,
  ZERO_ADDRESS,
  eventsOf,
  itemFor,
  named,
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

/** Mints 1000 units to alice and gives the token id. */
async function held() {
  const item = itemFor(t.alice);
  await t.mint([item]);
  return BigInt(item.key);
}

function transfer(id, amount, to = t.bob) {
  return [t.alice, to, id, amount, "0x"];
}

describe("roles", () => {
  const DEFAULT_ADMIN = `0x${"00".repeat(32)}`;
  const guarded = () => [
    ["mintBatch", [[]], role("MINTER_ROLE"), t.minter],
    ["pause", [], role("PAUSER_ROLE"), t.pauser],
    ["unpause", [], role("PAUSER_ROLE"), t.pauser],
    ["setFrozenTokens", [t.alice, 1n, 5n], role("ENFORCER_ROLE"), t.enforcer],
    ["forcedTransfer", [t.alice, t.bob, 1n, 0n], role("ENFORCER_ROLE"), t.enforcer],
    ["setDenied", [t.bob, true], role("COMPLIANCE_ROLE"), t.compliance],
    ["setUriTemplate", ["x"], DEFAULT_ADMIN, t.admin],
    ["grantRole", [role("MINTER_ROLE"), t.bob], DEFAULT_ADMIN, t.admin],
  ];

  test("each restricted function takes its own role and no other", async () => {
    const people = [t.admin, t.minter, t.pauser, t.enforcer, t.compliance, t.alice];
    for (const [name, args, needed, holder] of guarded()) {
      for (const caller of people.filter((p) => p !== holder)) {
        const error = await t.errorOf(caller, name, args);
        assert.equal(error?.errorName, "AccessControlUnauthorizedAccount", `${name} by ${caller}`);
        assert.deepEqual(error.args, [caller, needed]);
      }
      if (name !== "unpause") assert.equal(await t.errorOf(holder, name, args), null, name);
    }
  });

  test("mintOne answers nobody but the token itself", async () => {
    const args = [itemFor(t.alice), `0x${"01".repeat(32)}`];
    for (const caller of [t.admin, t.minter]) {
      assert.equal((await t.errorOf(caller, "mintOne", args))?.errorName, "OnlySelf");
    }
  });

  test("a revoked minter mints no more", async () => {
    await t.send(t.admin, "revokeRole", [role("MINTER_ROLE"), t.minter]);
    const receipt = await t.mine(t.minter, "mintBatch", [[itemFor(t.alice)]]);
    assert.equal(receipt.status, "reverted");
  });

  test("a token without an admin cannot be deployed", async () => {
    const data = encodeDeployData({ abi: token.abi, bytecode: token.bytecode, args: [ZERO_ADDRESS, [], ""] });
    assert.equal((await t.errorOfCall({ account: t.admin, data }))?.errorName, "ZeroAdmin");
  });
});

describe("interfaces and metadata", () => {
  test("the functions of ERC-7943 in the artefact give the id that the standard states", () => {
    const own = ["canSend", "canReceive", "canTransfer", "getFrozenTokens", "setFrozenTokens", "forcedTransfer"];
    const selectors = token.abi.filter((f) => f.type === "function" && own.includes(f.name));
    assert.equal(selectors.length, own.length);
    const id = selectors.reduce((x, f) => x ^ Number(toFunctionSelector(f)), 0) >>> 0;
    assert.equal(id, 0x41c4fbad);
  });

  for (const [name, id, expected] of [
    ["ERC-165", "0x01ffc9a7", true],
    ["ERC-1155", "0xd9b67a26", true],
    ["ERC-1155 metadata", "0x0e89341c", true],
    ["ERC-7943 multi token", "0x41c4fbad", true],
    ["AccessControl", "0x7965db0b", true],
    ["ERC-7943 fungible", "0x3edbb4c4", false],
    ["ERC-721", "0x80ac58cd", false],
    ["the invalid id", "0xffffffff", false],
  ]) {
    test(`supportsInterface says ${expected} to ${name}`, async () => {
      assert.equal(await t.read("supportsInterface", [id]), expected);
    });
  }

  test("the admin moves the metadata", async () => {
    assert.equal(await t.read("uri", [1n]), "https://assets.example/{id}.json");
    const receipt = await t.send(t.admin, "setUriTemplate", ["https://elsewhere.example/{id}"]);
    assert.equal(await t.read("uri", [1n]), "https://elsewhere.example/{id}");
    const [event] = named(eventsOf(receipt, t.address), "UriTemplateSet");
    assert.equal(event.template, "https://elsewhere.example/{id}");
  });
});

describe("pause", () => {
  test("stops minting and transfers, not enforcement, and ends", async () => {
    const id = await held();
    await t.send(t.pauser, "pause", []);
    const item = itemFor(t.alice);
    assert.equal((await t.errorOf(t.minter, "mintBatch", [[item]]))?.errorName, "EnforcedPause");
    assert.equal((await t.errorOf(t.alice, "safeTransferFrom", transfer(id, 1n)))?.errorName, "EnforcedPause");
    const batch = [t.alice, t.bob, [id], [1n], "0x"];
    assert.equal((await t.errorOf(t.alice, "safeBatchTransferFrom", batch))?.errorName, "EnforcedPause");
    assert.equal(await t.read("canTransfer", [t.alice, t.bob, id, 1n]), false);
    await t.send(t.enforcer, "forcedTransfer", [t.alice, t.bob, id, 1n]);
    assert.equal(await t.read("balanceOf", [t.bob, id]), 1n);
    await t.send(t.pauser, "unpause", []);
    assert.deepEqual((await t.mint([item])).outcomes, [Outcome.Minted]);
    await t.send(t.alice, "safeTransferFrom", transfer(id, 1n));
    assert.equal(await t.read("balanceOf", [t.bob, id]), 2n);
  });
});

describe("denied accounts", () => {
  test("everybody may hold until denied; then neither sends nor receives", async () => {
    const id = await held();
    assert.equal(await t.read("canTransfer", [t.alice, t.bob, id, 1n]), true);
    await t.send(t.alice, "safeTransferFrom", transfer(id, 100n));
    const receipt = await t.send(t.compliance, "setDenied", [t.bob, true]);
    assert.deepEqual(named(eventsOf(receipt, t.address), "AccountDenied"), [{ account: t.bob, denied: true }]);
    assert.equal(await t.read("canSend", [t.bob]), false);
    assert.equal(await t.read("canReceive", [t.bob]), false);
    assert.equal(await t.read("canTransfer", [t.alice, t.bob, id, 1n]), false);
    assert.equal(await t.read("canTransfer", [t.bob, t.alice, id, 1n]), false);
    const into = await t.errorOf(t.alice, "safeTransferFrom", transfer(id, 1n));
    assert.deepEqual([into?.errorName, into?.args], ["ERC7943CannotReceive", [t.bob]]);
    const out = await t.errorOf(t.bob, "safeTransferFrom", [t.bob, t.alice, id, 1n, "0x"]);
    assert.deepEqual([out?.errorName, out?.args], ["ERC7943CannotSend", [t.bob]]);
    const many = await t.errorOf(t.bob, "safeBatchTransferFrom", [t.bob, t.alice, [id], [1n], "0x"]);
    assert.equal(many?.errorName, "ERC7943CannotSend");
  });
});

describe("frozen amounts", () => {
  test("the unfrozen part moves, the frozen does not, and canTransfer says the same", async () => {
    const id = await held();
    const receipt = await t.send(t.enforcer, "setFrozenTokens", [t.alice, id, 700n]);
    assert.deepEqual(named(eventsOf(receipt, t.address), "Frozen"), [
      { account: t.alice, tokenId: id, amount: 700n },
    ]);
    assert.equal(await t.read("getFrozenTokens", [t.alice, id]), 700n);
    for (const [amount, allowed] of [
      [0n, true],
      [300n, true],
      [301n, false],
      [1000n, false],
    ]) {
      assert.equal(await t.read("canTransfer", [t.alice, t.bob, id, amount]), allowed, `${amount}`);
      const error = await t.errorOf(t.alice, "safeTransferFrom", transfer(id, amount));
      assert.equal(error?.errorName ?? null, allowed ? null : "ERC7943InsufficientUnfrozenBalance", `${amount}`);
      if (error) assert.deepEqual(error.args, [t.alice, id, amount, 300n]);
    }
    const beyond = await t.errorOf(t.alice, "safeTransferFrom", transfer(id, 1001n));
    assert.equal(beyond?.errorName, "ERC1155InsufficientBalance");
    await t.send(t.alice, "safeTransferFrom", transfer(id, 300n));
    assert.equal(await t.read("canTransfer", [t.alice, t.bob, id, 1n]), false);
  });

  test("an id listed twice in a batch counts by its sum", async () => {
    const id = await held();
    await t.send(t.enforcer, "setFrozenTokens", [t.alice, id, 500n]);
    const call = (...values) => [t.alice, t.bob, values.map(() => id), values, "0x"];
    const error = await t.errorOf(t.alice, "safeBatchTransferFrom", call(300n, 300n));
    assert.deepEqual([error?.errorName, error?.args], [
      "ERC7943InsufficientUnfrozenBalance",
      [t.alice, id, 600n, 500n],
    ]);
    assert.equal(await t.errorOf(t.alice, "safeBatchTransferFrom", call(300n, 200n)), null);
    const uneven = [t.alice, t.bob, [id, id], [1n], "0x"];
    assert.equal((await t.errorOf(t.alice, "safeBatchTransferFrom", uneven))?.errorName, "ERC1155InvalidArrayLength");
  });

  test("a transfer to oneself does not slip past a freeze", async () => {
    const id = await held();
    await t.send(t.enforcer, "setFrozenTokens", [t.alice, id, 999n]);
    const error = await t.errorOf(t.alice, "safeTransferFrom", transfer(id, 2n, t.alice));
    assert.equal(error?.errorName, "ERC7943InsufficientUnfrozenBalance");
  });

  test("a freeze is of one account and one id, and may wait for what comes", async () => {
    const [id, other] = [await held(), await held()];
    await t.send(t.enforcer, "setFrozenTokens", [t.bob, id, 50n]);
    await t.send(t.alice, "safeTransferFrom", transfer(id, 60n));
    assert.equal(await t.read("canTransfer", [t.bob, t.alice, id, 10n]), true);
    assert.equal(await t.read("canTransfer", [t.bob, t.alice, id, 11n]), false);
    assert.equal(await t.read("canTransfer", [t.alice, t.bob, id, 940n]), true);
    assert.equal(await t.read("canTransfer", [t.bob, t.alice, other, 11n]), true);
  });

  test("an approved operator is bound by the freeze, a stranger is none", async () => {
    const id = await held();
    await t.send(t.alice, "setApprovalForAll", [t.bob, true]);
    await t.send(t.enforcer, "setFrozenTokens", [t.alice, id, 999n]);
    const operator = await t.errorOf(t.bob, "safeTransferFrom", transfer(id, 2n));
    assert.equal(operator?.errorName, "ERC7943InsufficientUnfrozenBalance");
    assert.equal(await t.errorOf(t.bob, "safeTransferFrom", transfer(id, 1n)), null);
    const stranger = await t.errorOf(t.minter, "safeTransferFrom", transfer(id, 1n));
    assert.equal(stranger?.errorName, "ERC1155MissingApprovalForAll");
  });
});

describe("forced transfer", () => {
  test("takes the free part first, then unfreezes exactly what it takes, before it moves", async () => {
    const id = await held();
    await t.send(t.enforcer, "setFrozenTokens", [t.alice, id, 600n]);
    const free = await t.send(t.enforcer, "forcedTransfer", [t.alice, t.bob, id, 400n]);
    assert.deepEqual(named(eventsOf(free, t.address), "Frozen"), []);
    assert.equal(await t.read("getFrozenTokens", [t.alice, id]), 600n);
    const frozen = await t.send(t.enforcer, "forcedTransfer", [t.alice, t.bob, id, 250n]);
    const events = eventsOf(frozen, t.address);
    assert.deepEqual(events.map((e) => e.eventName), ["Frozen", "ForcedTransfer", "TransferSingle"]);
    assert.equal(events[0].args.amount, 350n);
    assert.deepEqual(events[1].args, { from: t.alice, to: t.bob, tokenId: id, amount: 250n });
    assert.equal(await t.read("balanceOf", [t.alice, id]), 350n);
    assert.equal(await t.read("balanceOf", [t.bob, id]), 650n);
  });

  test("leaves the part of a freeze that waits for what may come", async () => {
    const id = await held();
    await t.send(t.enforcer, "setFrozenTokens", [t.alice, id, 5000n]);
    await t.send(t.enforcer, "forcedTransfer", [t.alice, t.bob, id, 1000n]);
    assert.equal(await t.read("getFrozenTokens", [t.alice, id]), 4000n);
  });

  test("passes a denied sender, not a denied recipient, and takes no more than there is", async () => {
    const id = await held();
    await t.send(t.compliance, "setDenied", [t.alice, true]);
    await t.send(t.enforcer, "forcedTransfer", [t.alice, t.bob, id, 1n]);
    const into = await t.errorOf(t.enforcer, "forcedTransfer", [t.bob, t.alice, id, 1n]);
    assert.deepEqual([into?.errorName, into?.args], ["ERC7943CannotReceive", [t.alice]]);
    const beyond = await t.errorOf(t.enforcer, "forcedTransfer", [t.alice, t.bob, id, 1000n]);
    assert.deepEqual([beyond?.errorName, beyond?.args], ["ERC1155InsufficientBalance", [t.alice, 999n, 1000n, id]]);
    const nowhere = await t.errorOf(t.enforcer, "forcedTransfer", [t.alice, ZERO_ADDRESS, id, 1n]);
    assert.equal(nowhere?.errorName, "ERC1155InvalidReceiver");
  });
});
