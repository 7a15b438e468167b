"""libertum-configure against a metadata service and a vault on loopback: configure_test.py

Both are stand-ins that speak the two requests that it makes; what they must refuse, they refuse: a request without the
Metadata header, a wrong token, a secret that is not there.
"""
import http.server
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
FILES = os.path.join(os.path.dirname(HERE), "modules/vm/files")
PROGRAM = os.path.join(FILES, "bin/libertum-configure")
TOKEN = "a-token-of-the-machine"


class Azure(http.server.BaseHTTPRequestHandler):
    secrets, refuse = {}, 0

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        query = urllib.parse.parse_qs(url.query)
        if Azure.refuse > 0:
            Azure.refuse -= 1
            return self.answer(503, {})
        if url.path == "/token":
            fits = self.headers["Metadata"] == "true" and query.get("resource") == ["https://vault.azure.net"] and query.get("client_id") == ["me"]
            return self.answer(200 if fits else 400, {"access_token": TOKEN})
        if self.headers["Authorization"] != f"Bearer {TOKEN}" or "api-version" not in query:
            return self.answer(401, {})
        name = url.path.removeprefix("/secrets/")
        return self.answer(200, {"value": Azure.secrets[name]}) if name in Azure.secrets else self.answer(404, {})

    def answer(self, code, body):
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def run(folder, *arguments):
    command = [sys.executable, PROGRAM, *arguments, "--templates", FILES, "--settings", f"{folder}/settings.json",
               "--secrets", f"{folder}/secrets", "--output", f"{folder}/etc"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def check(folder, port):
    settings = {"vault": f"http://127.0.0.1:{port}/", "identity": "me", "identity_endpoint": f"http://127.0.0.1:{port}/token", "fetch_seconds": 3,
                "host": "h", "listen": "0.0.0.0", "redis_listen": "0.0.0.0", "var": "/v", "kafka_port": 1, "controller_port": 2,
                "mongodb_port": 3, "redis_port": 4, "pool_cidrs": "10.0.0.0/8"}
    with open(f"{folder}/settings.json", "w") as file:
        json.dump(settings, file)
    names = run(folder, "names").stdout.split()
    assert "keda-kafka-password" in names and "data-vm" in names, names
    leaf = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"
    Azure.secrets = {name: "0123456789abcdef" * 2 for name in names} | {"data-vm": leaf, "data-ca": leaf.split("KEY-----\n", 2)[-1]}

    Azure.refuse = 1
    done = run(folder, "fetch")
    assert done.returncode == 0, f"a vault that is away for a moment: {done.stderr}"
    modes = {stat.S_IMODE(os.stat(f"{folder}/secrets/{n}").st_mode) for n in names}
    assert modes == {0o400} and stat.S_IMODE(os.stat(f"{folder}/secrets").st_mode) == 0o700, f"secrets others can read: {modes}"
    first = run(folder, "render")
    assert first.returncode == 0 and "libertum-kafka" in first.stdout, first.stderr
    assert run(folder, "render").stdout.strip() == "", "a second render restarts servers"

    Azure.secrets["exporter-redis-password"] = "fedcba9876543210" * 2
    run(folder, "fetch")
    changed = run(folder, "render").stdout.split()
    assert changed == ["libertum-redis", "prometheus-redis-exporter"], f"a rotated password of Redis restarts {changed}"

    gone = Azure.secrets.pop("minting-mongodb-password")
    done = run(folder, "fetch")
    assert done.returncode != 0 and "minting-mongodb-password" in done.stderr, "a missing secret is not named"
    done = run(folder, "fetch", "--or-keep")
    assert done.returncode == 0 and "last time" in done.stderr, "a restart depends on Key Vault"
    os.remove(f"{folder}/secrets/minting-mongodb-password")
    assert run(folder, "fetch", "--or-keep").returncode != 0, "goes on without a secret that it never had"
    Azure.secrets["minting-mongodb-password"] = gone

    for name, value, word in (("pool-redis-password", 'short', "would break"), ("pool-redis-password", 'a" b' * 8, "would break"), ("data-vm", "nothing", "not a PEM"), ("data-ca", leaf, "not a PEM")):
        kept = Azure.secrets[name]
        Azure.secrets[name] = value
        run(folder, "fetch")
        done = run(folder, "render")
        assert done.returncode != 0 and word in done.stderr, f"{name} = {value!r} is rendered"
        Azure.secrets[name] = kept


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Azure)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        check(folder, server.server_address[1])
    server.shutdown()
    print("infra: libertum-configure fetches, keeps, renders and refuses as it should", file=sys.stderr)


if __name__ == "__main__":
    main()
