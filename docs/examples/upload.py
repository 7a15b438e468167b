"""Sends files of an asset, closes the dossier with the last one, waits, and prints what became of the asset.

    INTAKE_URL=http://127.0.0.1:8080 INTAKE_TOKEN=… python3 upload.py ASSET FILE…

Python 3.9 or later, the standard library only. A file is streamed as the body of its request. Run again after a failure
it does nothing twice, as long as the files are the same: the keys follow from asset, name and content.
"""

import base64
import hashlib
import http.client
import json
import os
import sys
import time
import urllib.parse

# What an asset is in while somebody works on it; every other state is an answer.
UNDER_WAY = {"open", "closed", "valued", "minting"}
WAIT_SECONDS = float(os.environ.get("WAIT_SECONDS", "300"))


def ask(path, headers, file):
    """Sends one request; gives the status, the headers and the JSON of its answer."""
    url = urllib.parse.urlsplit(os.environ["INTAKE_URL"])
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.netloc, timeout=60)
    headers = {**headers, "Authorization": "Bearer " + os.environ["INTAKE_TOKEN"]}
    body = open(file, "rb") if file else None
    try:
        if body:
            headers["Content-Length"] = str(os.path.getsize(file))
        try:
            connection.request("POST" if body else "GET", path, body=body, headers=headers)
        except (BrokenPipeError, ConnectionResetError):
            # What is refused, or known already, is answered before its body is read: the answer is there.
            pass
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())
    finally:
        connection.close()
        if body:
            body.close()


def call(deadline, path, headers=None, file=None):
    """Sends a request until it is answered well, or is refused for good."""
    while True:
        pause = 1.0
        try:
            status, answered, said = ask(path, headers or {}, file)
            if status < 300:
                return said
            # Errors are problem documents (RFC 9457); `retryable` says whether to come again.
            error = f"{status} {said.get('type')}: {said.get('detail')}"
            if not said.get("retryable"):
                sys.exit(error)
            pause = float(answered.get("Retry-After") or 1)
        except (OSError, http.client.HTTPException) as broken:
            error = f"the intake cannot be reached: {broken}"
        if time.monotonic() > deadline:
            sys.exit(error)
        time.sleep(pause)


def upload(deadline, asset, file, close):
    digest = hashlib.sha256()
    with open(file, "rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    name = os.path.basename(file)
    key = hashlib.sha256("\n".join([asset, name, digest.hexdigest(), str(close)]).encode()).hexdigest()
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": "attachment; filename*=UTF-8''" + urllib.parse.quote(name, safe=""),
        "Idempotency-Key": key,
        "Repr-Digest": "sha-256=:" + base64.b64encode(digest.digest()).decode() + ":",
    }
    route = "/v1/assets/" + urllib.parse.quote(asset, safe="") + "/documents" + ("?close=true" if close else "")
    accepted = call(deadline, route, headers, file)
    print(f"accepted {file} as {accepted['document_id']}", file=sys.stderr)


def main():
    if len(sys.argv) < 3 or not os.environ.get("INTAKE_URL") or not os.environ.get("INTAKE_TOKEN"):
        print("usage: INTAKE_URL=… INTAKE_TOKEN=… python3 upload.py ASSET FILE…", file=sys.stderr)
        return 2
    asset, files = sys.argv[1], sys.argv[2:]
    deadline = time.monotonic() + WAIT_SECONDS
    for file in files:
        upload(deadline, asset, file, close=file is files[-1])
    while True:
        found = call(deadline, "/v1/assets/" + urllib.parse.quote(asset, safe=""))
        if found["state"] not in UNDER_WAY:
            print(json.dumps(found, ensure_ascii=False))
            return 0
        if time.monotonic() > deadline:
            sys.exit(f"the asset is still {found['state']} after {WAIT_SECONDS:.0f} s")
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
