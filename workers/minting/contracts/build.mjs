#!/usr/bin/env node
// Compiles the contracts with the pinned compiler and writes their artefacts; see --help.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HELP = `usage: node build.mjs [--check]

Compiles src/ and test/Receivers.sol by solc's standard-JSON interface and writes
  artifacts/AssetToken.json      the token
  test/artifacts/<Name>.json     the receivers that the tests need
The same sources and the same lock give the same bytes on every machine.

  --check   write nothing; exit 1 if any artefact differs from what the sources give

Needs the packages of package-lock.json: npm ci --ignore-scripts`;

const ROOT = dirname(fileURLToPath(import.meta.url));

// Cancun is the newest set of instructions that mainnet, the large L2s and Anvil's default all run. The metadata hash is
// left out: it would change the code with every comment.
const SETTINGS = {
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: "none" },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};

const UNITS = [
  { source: "src/AssetToken.sol", contracts: ["AssetToken"], to: "artifacts" },
  {
    source: "test/Receivers.sol",
    contracts: [
      "GasBurningReceiver",
      "HungryReceiver",
      "ReentrantReceiver",
      "ReturnBombReceiver",
      "RevertingReceiver",
    ],
    to: "test/artifacts",
  },
];

function fail(message) {
  console.error(`build: ${message}`);
  process.exit(1);
}

function loadCompiler() {
  const require = createRequire(import.meta.url);
  const listed = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).devDependencies;
  for (const name of ["solc", "@openzeppelin/contracts"]) {
    let found;
    try {
      found = JSON.parse(readFileSync(join(ROOT, "node_modules", name, "package.json"), "utf8")).version;
    } catch {
      fail(`${name} is not installed; run: npm ci --ignore-scripts`);
    }
    if (found !== listed[name]) fail(`${name} is ${found}, wanted ${listed[name]}; run: npm ci --ignore-scripts`);
  }
  return require("solc");
}

/** Source name as the compiler sees it -> file. Packages keep their own name, so no path of this machine enters. */
function fileOf(name) {
  return name.startsWith("@") ? join(ROOT, "node_modules", name) : join(ROOT, name);
}

/** Compiles one unit. Returns file name -> artefact text. */
function compile(solc, unit) {
  const sources = { [unit.source]: { content: readFileSync(fileOf(unit.source), "utf8") } };
  const input = { language: "Solidity", sources, settings: SETTINGS };
  const imports = {};
  const onImport = (name) => {
    try {
      imports[name] = { content: readFileSync(fileOf(name), "utf8") };
      return { contents: imports[name].content };
    } catch (error) {
      return { error: error.message };
    }
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: onImport }));
  // A warning is an error here: nobody reads a build that passes.
  if (output.errors?.length) fail(output.errors.map((e) => e.formattedMessage).join("\n"));

  const names = [unit.source, ...Object.keys(imports)].sort();
  const whole = { ...input, sources: Object.fromEntries(names.map((n) => [n, imports[n] ?? sources[n]])) };
  const inputSha256 = createHash("sha256").update(JSON.stringify(whole)).digest("hex");
  const files = new Map();
  for (const contractName of unit.contracts) {
    const built = output.contracts[unit.source][contractName];
    const artefact = {
      contractName,
      sourceName: unit.source,
      compiler: solc.version(),
      evmVersion: SETTINGS.evmVersion,
      optimizerRuns: SETTINGS.optimizer.runs,
      inputSha256,
      abi: built.abi,
      bytecode: `0x${built.evm.bytecode.object}`,
      deployedBytecode: `0x${built.evm.deployedBytecode.object}`,
    };
    files.set(join(unit.to, `${contractName}.json`), `${JSON.stringify(artefact, null, 2)}\n`);
  }
  return files;
}

function stored(path) {
  try {
    return readFileSync(join(ROOT, path), "utf8");
  } catch (error) {
    if (error.code === "ENOENT") return null;
    throw error;
  }
}

const args = process.argv.slice(2);
if (args.includes("--help")) {
  console.log(HELP);
  process.exit(0);
}
const unknown = args.find((a) => a !== "--check");
if (unknown) fail(`unknown argument ${unknown}; see --help`);

const solc = loadCompiler();
const stale = [];
for (const unit of UNITS) {
  for (const [path, text] of compile(solc, unit)) {
    const same = stored(path) === text;
    if (!same && args.includes("--check")) stale.push(path);
    if (!same && !args.includes("--check")) {
      mkdirSync(dirname(join(ROOT, path)), { recursive: true });
      writeFileSync(join(ROOT, path), text);
    }
    console.log(`${same ? "unchanged" : args.includes("--check") ? "DIFFERS  " : "written  "} ${path}`);
  }
}
if (stale.length) fail(`${stale.length} artefact(s) differ from their sources; run: npm run build, and commit them`);
