"""What the platform and two intake pods ask for, against three nodes of 2 cores and 8 GB."""
from pathlib import Path

import yaml

from world import ROOT, World, cpu, get, memory, name

HERE = Path(__file__).parent
NODES = 3
# a node's allocatable, with max_pods 50: 100m and 1,050 MB + 100 MiB are the kubelet's
NODE = (1900, 6800)


def asked(world: World):
    """Rows of (what, pods, millicores and MiB a pod)."""
    doors = 2
    for pod in world.pods("Deployment"):
        pods = doors if name(pod.owner) == "intake" else get(pod.owner, "spec.replicas", 1)
        mine = [c.get("resources", {}).get("requests", {}) for c in pod.spec["containers"]]
        yield f"libertum/{name(pod.owner)}", pods, sum(cpu(m["cpu"]) for m in mine), sum(memory(m["memory"]) for m in mine)
    for row in yaml.safe_load((HERE / "platform-requests.yaml").read_text()):
        pods = NODES if row["pods"] == "each node" else row["pods"]
        if "values" in row:
            values = yaml.safe_load((ROOT / "k8s" / row["values"]).read_text())
            row = {**row, **get(values, row["at"] + ".requests")}
        yield row["name"], pods, cpu(row["cpu"]), memory(row["memory"])


def sums(world):
    rows = list(asked(world))
    return rows, sum(p * c for _, p, c, _ in rows), sum(p * m for _, p, _, m in rows)


def table(world):
    rows, total, held = sums(world)
    print(f"{'what':<42}{'pods':>5}{'cpu':>9}{'MiB':>8}")
    for what, pods, c, m in rows:
        print(f"{what:<42}{pods:>5}{pods * c:>8.0f}m{pods * m:>8.0f}")
    print(f"{'sum':<42}{'':>5}{total:>8.0f}m{held:>8.0f}")
    print(f"{'three nodes give':<42}{'':>5}{NODES * NODE[0]:>8}m{NODES * NODE[1]:>8}")


def problems(world):
    _, total, held = sums(world)
    print(f"    platform and two intake pods: {total:.0f}m of {NODES * NODE[0]}m, {held:.0f} MiB of {NODES * NODE[1]} MiB")
    if total > NODES * NODE[0]:
        yield f"{total:.0f}m of cpu"
    if held > NODES * NODE[1]:
        yield f"{held:.0f} MiB"
