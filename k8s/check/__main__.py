"""Holds the rendered manifests against schemas, policies and promises. Called by scripts/lib/k8s-check.

    python k8s/check all | capacity | dry-run | local FILE
"""
import sys
import time
from pathlib import Path

import alloy
import capacity
import charts
import dryrun
import gitops
import images
import monitoring
import promises
import reach
import teeth
from policy import POLICIES
from schemas import problems
from world import ROOT, World, load_all, render

import policies_cluster  # noqa: F401
import policies_keda  # noqa: F401
import policies_pods  # noqa: F401

PASSED, FAILED = [], []


def test(what, found):
    found = list(found)
    (FAILED if found else PASSED).append(what)
    if found:
        print(f"FAILED {what}")
        for line in found[:20]:
            print(f"    {line}")


def held(world):
    """One environment against its schemas and policies."""
    environment = world.environment
    test(f"{environment}: schemas of {len(world.objects)} objects", problems(world.objects))
    exempt = teeth.exemptions() if environment == "local" else teeth.Exemptions([])
    for policy in POLICIES.values():
        test(f"{environment}: {policy.number} {policy.sentence}", exempt.without(policy.number, policy.find(world)))
    test(f"{environment}: every exemption is needed", exempt.unused())


def all_of_it():
    begin = time.monotonic()
    worlds = {e: World(e, render(ROOT / "k8s/overlays" / e)) for e in ("staging", "production", "local")}
    for world in worlds.values():
        held(world)
    for what, found in promises.every(worlds):
        test(what, found)
    for what, found in teeth.every(worlds):
        test(what, found)
    for what, found in gitops.every(worlds, promises.GATEWAY_KINDS):
        test(what, found)
    for what, found in images.every(worlds):
        test(what, found)
    for what, found in monitoring.every():
        test(what, found)
    for what, found in [*charts.every(), *alloy.every(), *reach.every(worlds)]:
        test(what, found)
    test("the platform and two intake pods fit three nodes of 2 cores and 8 GB", capacity.problems(worlds["production"]))
    print(f"{time.monotonic() - begin:.1f} s")


def on_a_server():
    begin = time.monotonic()
    for what, found in dryrun.every():
        test(what, found)
    print(f"{time.monotonic() - begin:.1f} s")


if __name__ == "__main__":
    if sys.argv[1:] == ["capacity"]:
        capacity.table(World("production", render(ROOT / "k8s/overlays/production")))
        sys.exit(0)
    if sys.argv[1:2] == ["local"]:
        held(World("local", load_all(Path(sys.argv[2]).read_text())))
    else:
        {"all": all_of_it, "dry-run": on_a_server}[sys.argv[1]]()
    print(f"{len(PASSED)} passed, {len(FAILED)} failed")
    sys.exit(1 if FAILED else 0)

