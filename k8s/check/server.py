"""A control plane of one's own: etcd and kube-apiserver on loopback, without controllers and nodes, for as long as a `with` lasts."""
import json
import os
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from world import KUBECTL

# who hangs is ended, whatever becomes of us
LIFETIME = "900"
START_WITHIN = 90


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30)


def certificates(folder):
    """One authority, a certificate of both servers, the administrator's, and the key that signs accounts' tokens."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    openssl(folder, "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=dry-run")
    for name, subject, extensions in (
        ("server", "/CN=server", "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth"),
        ("admin", "/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth"),
    ):
        (folder / f"{name}.ext").write_text(extensions)
        openssl(folder, "req", "-new", *curve[:-2], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "1", "-extfile", f"{name}.ext", "-out", f"{name}.crt")
    openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "accounts.key")
    openssl(folder, "ec", "-in", "accounts.key", "-pubout", "-out", "accounts.pub")


@contextmanager
def running(command, log):
    with open(log, "wb") as out:
        process = subprocess.Popen(["timeout", LIFETIME, *command], stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)


@dataclass
class Cluster:
    folder: Path
    port: int

    def kubectl(self, *arguments, objects=None):
        """What kubectl says: its exit code, output and complaints."""
        given = None if objects is None else json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}, default=str)
        command = [KUBECTL, f"--kubeconfig={self.folder / f'admin-{self.port}'}", f"--cache-dir={self.folder / 'cache'}", "--request-timeout=60s", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=180, check=False)
        return done.returncode, done.stdout, done.stderr.strip()

    def get(self, *arguments, objects=None):
        code, out, complaint = self.kubectl("get", "-o", "json", *arguments, objects=objects)
        if code:
            raise SystemExit(f"dry-run: kubectl get {' '.join(arguments)}: {complaint[-400:]}")
        return json.loads(out)

    def apply(self, objects, *more, manager="argocd-controller"):
        """Applies as Argo CD does (server side, under its name); tells what the server refuses and warns of."""
        _, _, complaint = self.kubectl("apply", "--server-side", f"--field-manager={manager}", "--validate=strict", *more, "-f", "-", objects=objects)
        return complaint.splitlines()

    def kubeconfig(self):
        """In the file that kubectl is pointed to."""
        path = lambda name: str(self.folder / name)  # noqa: E731
        server = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": path("ca.crt")}
        user = {"client-certificate": path("admin.crt"), "client-key": path("admin.key")}
        held = {
            "apiVersion": "v1", "kind": "Config", "current-context": "own",
            "clusters": [{"name": "own", "cluster": server}], "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": "own", "context": {"cluster": "own", "user": "admin"}}],
        }
        (self.folder / f"admin-{self.port}").write_text(yaml.safe_dump(held))


class ControlPlane:
    """One etcd; a cluster is an API server with a part of it for itself."""

    def __init__(self, folder, etcd_port):
        self.folder, self.etcd_port = folder, etcd_port

    @contextmanager
    def cluster(self, name):
        held = Cluster(self.folder, free_port())
        held.kubeconfig()
        path = lambda of: str(self.folder / of)  # noqa: E731
        command = [
            f"{os.environ['CHECK_SERVERS']}/kube-apiserver", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={held.port}",
            f"--etcd-servers=https://127.0.0.1:{self.etcd_port}", f"--etcd-prefix=/{name}", f"--etcd-cafile={path('ca.crt')}",
            f"--etcd-certfile={path('server.crt')}", f"--etcd-keyfile={path('server.key')}", f"--client-ca-file={path('ca.crt')}",
            f"--tls-cert-file={path('server.crt')}", f"--tls-private-key-file={path('server.key')}", "--authorization-mode=Node,RBAC",
            "--service-cluster-ip-range=10.0.0.0/24", "--service-account-issuer=https://kubernetes.default.svc", "--endpoint-reconciler-type=none",
            f"--service-account-key-file={path('accounts.pub')}", f"--service-account-signing-key-file={path('accounts.key')}",
        ]
        log = self.folder / f"{name}.log"
        with running(command, log) as process:
            begin = time.monotonic()
            while held.kubectl("get", "--raw=/readyz")[0]:
                if process.poll() is not None or time.monotonic() - begin > START_WITHIN:
                    raise SystemExit(f"dry-run: kube-apiserver did not start:\n{log.read_text()[-1500:]}")
                time.sleep(0.2)
            yield held


@contextmanager
def control_plane():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificates(folder)
        client, peer = free_port(), free_port()
        url = f"https://127.0.0.1:{client}"
        own = f"http://127.0.0.1:{peer}"
        command = [
            f"{os.environ['CHECK_SERVERS']}/etcd", f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
            f"--listen-peer-urls={own}", f"--initial-advertise-peer-urls={own}", f"--initial-cluster=default={own}", "--unsafe-no-fsync", "--log-level=error",
            "--client-cert-auth", f"--trusted-ca-file={folder / 'ca.crt'}", f"--cert-file={folder / 'server.crt'}", f"--key-file={folder / 'server.key'}",
        ]
        with running(command, folder / "etcd.log"):
            yield ControlPlane(folder, client)
