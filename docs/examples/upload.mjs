// Sends files of an asset, closes the dossier with the last one, waits, and prints what became of the asset.
//
//   INTAKE_URL=http://127.0.0.1:8080 INTAKE_TOKEN=… node upload.mjs ASSET FILE…
//
// Node 20 or later, no packages. A file is streamed: its size does not matter to this process. Run again after a
// failure it does nothing twice, as long as the files are the same: the keys follow from asset, name and content.
import { createHash } from "node:crypto";
import { createReadStream, openAsBlob } from "node:fs";
import { basename } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";

const [asset, ...files] = process.argv.slice(2);
const { INTAKE_URL: base, INTAKE_TOKEN: token, WAIT_SECONDS = "300" } = process.env;
if (!asset || files.length === 0 || !base || !token) {
  console.error("usage: INTAKE_URL=… INTAKE_TOKEN=… node upload.mjs ASSET FILE…");
  process.exit(2);
}
// What an asset is in while somebody works on it; every other state is an answer.
const UNDER_WAY = ["open", "closed", "valued", "minting"];
const deadline = Date.now() + Number(WAIT_SECONDS) * 1000;

async function call(path, options = () => ({})) {
  for (;;) {
    const request = await options();
    let answer, body;
    try {
      answer = await fetch(new URL(path, base), {
        ...request,
        headers: { ...request.headers, authorization: `Bearer ${token}` },
        signal: AbortSignal.timeout(Math.max(1, deadline - Date.now())),
      });
      body = await answer.json();
    } catch (error) {
      if (Date.now() + 1000 > deadline) throw error;
      await sleep(1000);
      continue;
    }
    if (answer.ok) return body;
    // Errors are problem documents (RFC 9457); `retryable` says whether to come again.
    if (!body.retryable || Date.now() + 1000 > deadline) throw new Error(`${answer.status} ${body.type}: ${body.detail}`);
    await sleep(1000 * Number(answer.headers.get("retry-after") ?? 1));
  }
}

async function upload(file, close) {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  const sha256 = hash.digest("hex");
  const key = createHash("sha256").update([asset, basename(file), sha256, close].join("\n")).digest("hex");
  const accepted = await call(`/v1/assets/${encodeURIComponent(asset)}/documents`, async () => {
    const form = new FormData();
    // The metadata comes first, then one file.
    form.append("metadata", JSON.stringify({ sha256, close }));
    form.append("file", await openAsBlob(file), basename(file));
    return { method: "POST", body: form, headers: { "idempotency-key": key } };
  });
  console.error(`accepted ${file} as ${accepted.document_id}`);
}

for (const [n, file] of files.entries()) await upload(file, n === files.length - 1);
for (;;) {
  const found = await call(`/v1/assets/${encodeURIComponent(asset)}`);
  if (!UNDER_WAY.includes(found.state)) {
    console.log(JSON.stringify(found));
    break;
  }
  if (Date.now() > deadline) throw new Error(`the asset is still ${found.state} after ${WAIT_SECONDS} s`);
  await sleep(1000);
}
