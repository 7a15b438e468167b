// A node of its own for each test file, and a fresh token for each test.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import {
  createPublicClient,
  createWalletClient,
  decodeErrorResult,
  decodeEventLog,
  defineChain,
  encodeAbiParameters,
  encodeFunctionData,
  http,
  keccak256,
  sha256,
  toHex,
} from "viem";

const START_DEADLINE_MS = 30_000;

function artifact(path) {
  return JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
}

export const token = artifact("../artifacts/AssetToken.json");
export const Outcome = { Minted: 1, AlreadyMinted: 2, KeyConflict: 3, Failed: 4 };
export const ZERO32 = `0x${"00".repeat(32)}`;
export const ZERO_ADDRESS = `0x${"00".repeat(20)}`;

export function receiver(name) {
  return artifact(`./artifacts/${name}.json`);
}

export function role(name) {
  return keccak256(toHex(name));
}

/** Key of an asset, which is also its token id. */
export function keyOf(tenant, assetId) {
  const types = [{ type: "string" }, { type: "string" }, { type: "string" }];
  return keccak256(encodeAbiParameters(types, ["libertum.mint.v1", tenant, assetId]));
}

/** What the contract stores for an item: the hash of its four words. */
export function digestOf({ key, to, amount, evidence }) {
  const types = [{ type: "bytes32" }, { type: "address" }, { type: "uint256" }, { type: "bytes32" }];
  return keccak256(encodeAbiParameters(types, [key, to, amount, evidence]));
}

let serial = 0;

/** An item that no other test uses. */
export function itemFor(to, change = {}) {
  serial += 1;
  const evidence = sha256(toHex(`report ${serial}`));
  return { key: keyOf("acme", `asset-${serial}`), to, amount: 1000n, evidence, ...change };
}

/** Starts the Anvil of the lock on a free port, with the limit of gas per transaction that mainnet has (EIP-7825). */
export async function startNode() {
  const { platform, arch } = process;
  const name = `@foundry-rs/anvil-${platform}-${arch === "x64" ? "amd64" : arch}`;
  const binary = createRequire(import.meta.url).resolve(`${name}/bin/anvil`);
  const child = spawn(binary, ["--host", "127.0.0.1", "--port", "0", "--enable-tx-gas-limit"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const port = await listeningPort(child);
  const chain = defineChain({
    id: 31337,
    name: "anvil",
    nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [`http://127.0.0.1:${port}`] } },
  });
  const transport = http(undefined, { timeout: 20_000, retryCount: 0 });
  const client = createPublicClient({ chain, transport, pollingInterval: 20, cacheTime: 0 });
  const wallet = createWalletClient({ chain, transport });
  const accounts = await wallet.getAddresses();
  const stop = async () => {
    const gone = once(child, "exit");
    child.kill("SIGTERM");
    await gone;
  };
  return { client, wallet, accounts, stop };
}

async function listeningPort(child) {
  const lines = createInterface({ input: child.stdout });
  const timer = setTimeout(() => child.kill("SIGKILL"), START_DEADLINE_MS);
  for await (const line of lines) {
    const found = line.match(/Listening on 127\.0\.0\.1:(\d+)/);
    if (!found) continue;
    clearTimeout(timer);
    child.stdout.resume();
    return Number(found[1]);
  }
  throw new Error(`anvil ended or did not listen within ${START_DEADLINE_MS} ms`);
}

/** A token on `node`, every role held by another account; its methods send a transaction and give its receipt. */
export class Deployment {
  static async create(node) {
    const [admin, minter, pauser, enforcer, compliance, alice, bob] = node.accounts;
    const self = new Deployment();
    Object.assign(self, { node, admin, minter, pauser, enforcer, compliance, alice, bob });
    self.address = await self.deploy(token, [admin, [minter], "https://assets.example/{id}.json"]);
    await self.send(admin, "grantRole", [role("PAUSER_ROLE"), pauser]);
    await self.send(admin, "grantRole", [role("ENFORCER_ROLE"), enforcer]);
    await self.send(admin, "grantRole", [role("COMPLIANCE_ROLE"), compliance]);
    return self;
  }

  async deploy({ abi, bytecode }, args = []) {
    const hash = await this.node.wallet.deployContract({ abi, bytecode, args, account: this.admin });
    const { status, contractAddress } = await this.node.client.waitForTransactionReceipt({ hash });
    if (status !== "success") throw new Error(`deployment ${hash} reverted`);
    return contractAddress;
  }

  /** Sends without asking first whether it would pass, so a revert is mined and its receipt comes back. */
  async mine(from, functionName, args, gas = 15_000_000n) {
    const data = encodeFunctionData({ abi: token.abi, functionName, args });
    const hash = await this.node.wallet.sendTransaction({ account: from, to: this.address, data, gas });
    return this.node.client.waitForTransactionReceipt({ hash });
  }

  /** As `mine`, for what must succeed. */
  async send(from, functionName, args) {
    const receipt = await this.mine(from, functionName, args);
    if (receipt.status !== "success") throw new Error(`${functionName} reverted`);
    return receipt;
  }

  read(functionName, args = []) {
    return this.node.client.readContract({ address: this.address, abi: token.abi, functionName, args });
  }

  /** Name and arguments of the error with which this call ends, null when it passes. */
  errorOf(from, functionName, args, gas) {
    const data = encodeFunctionData({ abi: token.abi, functionName, args });
    return this.errorOfCall({ account: from, to: this.address, data, gas });
  }

  async errorOfCall(call) {
    try {
      await this.node.client.call(call);
      return null;
    } catch (error) {
      const revert = error.walk((e) => typeof e.data === "string" || typeof e.data?.data === "string");
      const raw = typeof revert?.data === "string" ? revert.data : revert?.data?.data;
      if (!raw || raw === "0x") return { errorName: "none", message: error.details ?? error.message };
      return decodeErrorResult({ abi: token.abi, data: raw });
    }
  }

  /** Mints and gives, beside the receipt, the outcome of every item as a call right before says it. */
  async mint(items, from = this.minter) {
    const { client } = this.node;
    const { address } = this;
    const call = { address, abi: token.abi, functionName: "mintBatch", args: [items], account: from };
    const { result: outcomes } = await client.simulateContract({ ...call, gas: 15_000_000n });
    const receipt = await this.send(from, "mintBatch", [items]);
    return { outcomes, receipt, events: eventsOf(receipt, address) };
  }

  balance(account, key) {
    return this.read("balanceOf", [account, BigInt(key)]);
  }
}

/** Events of the token in a receipt, decoded, in order. */
export function eventsOf(receipt, address) {
  return receipt.logs
    .filter((log) => log.address.toLowerCase() === address.toLowerCase())
    .map(({ data, topics }) => decodeEventLog({ abi: token.abi, data, topics }));
}

export function named(events, name) {
  return events.filter((e) => e.eventName === name).map((e) => e.args);
}
