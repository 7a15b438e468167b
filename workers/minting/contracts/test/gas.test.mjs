// What minting costs. The bounds leave a tenth over what was measured when they were set.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Deployment, Outcome, itemFor, startNode, token } from "./harness.mjs";

let node;
let t;
before(async () => {
  node = await startNode();
  t = await Deployment.create(node);
});
after(() => node.stop());

describe("gas per item", () => {
  for (const [n, bound] of [
    [1, 97_000n],
    [10, 69_000n],
    [100, 66_000n],
  ]) {
    test(`a batch of ${n} new items, then of ${n} duplicates`, async (ctx) => {
      const items = Array.from({ length: n }, () => itemFor(node.accounts[7]));
      const call = { address: t.address, abi: token.abi, functionName: "mintBatch", args: [items], account: t.minter };
      const estimate = await node.client.estimateContractGas(call);
      const fresh = await t.mint(items);
      assert.deepEqual(new Set(fresh.outcomes), new Set([Outcome.Minted]));
      const again = await t.mint(items);
      assert.deepEqual(new Set(again.outcomes), new Set([Outcome.AlreadyMinted]));
      const each = fresh.receipt.gasUsed / BigInt(n);
      const eachAgain = again.receipt.gasUsed / BigInt(n);
      ctx.diagnostic(
        `n=${n}: minted ${fresh.receipt.gasUsed} gas, ${each} an item, limit needed ${estimate}; ` +
          `duplicates ${again.receipt.gasUsed}, ${eachAgain} an item`,
      );
      assert.ok(each <= bound, `${each} gas an item, bound ${bound}`);
      assert.ok(eachAgain <= (n === 1 ? 40_000n : 11_000n), `${eachAgain} gas a duplicate`);
      assert.ok(estimate <= 16_777_216n, "one transaction must stay under the cap of EIP-7825");
    });
  }

  test("deployment", async (ctx) => {
    const hash = await node.wallet.deployContract({
      abi: token.abi,
      bytecode: token.bytecode,
      args: [t.admin, node.accounts.slice(0, 8), "https://assets.example/{id}.json"],
      account: t.admin,
    });
    const receipt = await node.client.waitForTransactionReceipt({ hash });
    ctx.diagnostic(`deployment with eight minters: ${receipt.gasUsed} gas`);
    assert.equal(receipt.status, "success");
    assert.equal(await node.client.getCode({ address: receipt.contractAddress }), token.deployedBytecode);
  });
});
