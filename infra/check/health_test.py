"""libertum-health on a machine that is made up: health_test.py

What systemd, the kernel and the servers would say stands in files and values here; what it makes of them is looked at.
"""
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from collections import namedtuple

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "modules/vm/files/bin/libertum-health")
MIB = 1 << 20
Usage = namedtuple("Usage", "total used free")


def load():
    loader = importlib.machinery.SourceFileLoader("libertum_health", PROGRAM)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("libertum_health", loader))
    loader.exec_module(module)
    return module


def machine(folder, anon, running=("kafka", "mongodb", "redis"), days=300):
    """A machine whose servers hold so many MiB of their own, and whose files fill the caps to the last byte."""
    health = load()
    health.GROUPS = folder
    units = {f"libertum-{name}.service": name for name in health.SERVERS}
    for name in running:
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        with open(os.path.join(folder, name, "memory.stat"), "w") as file:
            file.write(f"anon {anon[name] * MIB}\nfile {(1000 - anon[name]) * MIB}\n")
    said = {"MemoryMax": str(1000 * MIB), "MemoryCurrent": str(1000 * MIB), "NRestarts": "2"}
    health.unit = lambda service, what: said.get(what) or (f"/{units[service]}" if units[service] in running else "")
    health.handshake = lambda host, port: days if [n for n, p in health.SERVERS.items() if p == f"{port}_port"][0] in running else None
    health.shutil.disk_usage = lambda path: Usage(100, 50, 50)
    return health, health.report({"host": "data", "kafka_port": "kafka", "mongodb_port": "mongodb", "redis_port": "redis"})


def main():
    fine = {"kafka": 700, "mongodb": 600, "redis": 300}
    wrong = []

    def expect(what, held):
        if not held:
            wrong.append(what)

    with tempfile.TemporaryDirectory() as folder:
        health, found = machine(folder, fine)
        expect("a machine full of cached files is well", found["ok"])
        lines = health.metrics(found).splitlines()
        expect("its metrics say so", "data_machine_healthy 1" in lines)
        expect("memory is the server's own", f'data_machine_server_memory_bytes{{server="kafka"}} {700 * MIB}' in lines)
        expect("restarts are told", 'data_machine_server_restarts_total{server="redis"} 2' in lines)
        _, found = machine(folder, {**fine, "mongodb": 917})
        expect("a server near its cap is not", found["problems"] == ["mongodb holds 91 % of its memory: runbook grow-the-vm"])
        _, found = machine(folder, fine, days=3)
        expect("nor is a certificate that ends", len(found["problems"]) == 3 and "rotate-a-secret" in found["problems"][0])
        health, found = machine(folder, fine, running=("kafka", "mongodb"))
        expect("nor is a server that does not run", found["problems"] == ["redis does not answer over TLS: journalctl -u libertum-redis.service"])
        expect("whose memory nobody makes up", 'data_machine_server_memory_bytes{server="redis"}' not in health.metrics(found))
    for what in wrong:
        print(f"libertum-health: not so: {what}", file=sys.stderr)
    print("infra: libertum-health tells what is well from what is not", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
