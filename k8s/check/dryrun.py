"""What only an API server knows: admission, defaults, who owns which field. Every environment, applied in the order of an installation."""
import copy
import os
import re
import subprocess
import tempfile
from pathlib import Path

import yaml

from promises import copy_tree, edit
from server import control_plane
from world import KUBECTL, ROOT, World, get, label, load_all, name, render

KEDA = ROOT / "scalers/tool/schema"
WAVE = "argocd.argoproj.io/sync-wave"
HOOK = "argocd.argoproj.io/hook"


def install(cluster, beside):
    """The kinds that operators bring, as they release them; KEDA alone where there is no platform."""
    folders = [os.environ["CHECK_KINDS"]] if beside else []
    files = [arg for p in [*folders, *sorted(KEDA.glob("keda.sh_*.yaml"))] for arg in ("-f", str(p))]
    code, out, complaint = cluster.kubectl("create", "--validate=false", *files)
    if code or not out:
        yield complaint[-400:]
    code, _, complaint = cluster.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
    if code:
        yield complaint[-400:]


def bare_pods(objects):
    """Every pod that the objects lead to, as its controller would make it: Pod security judges no Job and no ScaledJob, only these."""
    for pod in World("", objects).pods():
        meta = {"name": f"{pod.owner['kind'].lower()}-{name(pod.owner)}", "namespace": get(pod.owner, "metadata.namespace"), "labels": pod.labels}
        spec = copy.deepcopy(pod.spec)
        for claim in get(pod.owner, "spec.volumeClaimTemplates") or []:
            spec.setdefault("volumes", []).append({"name": name(claim), "persistentVolumeClaim": {"claimName": name(claim)}})
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def waves(objects):
    of = lambda o: int((get(o, "metadata.annotations") or {}).get(WAVE, "0"))  # noqa: E731
    for wave in sorted({of(o) for o in objects}):
        yield wave, [o for o in objects if of(o) == wave]


def first_dry(cluster, objects):
    """A dry run finds the namespaces there, and nothing else."""
    spaces = [o for o in objects if o["kind"] == "Namespace"]
    yield from cluster.apply(spaces)
    yield from cluster.apply(objects, "--dry-run=server")


def in_order(cluster, objects):
    """Wave by wave, for good; and after each wave the server takes the pods that it leads to."""
    for wave, these in waves(objects):
        yield from (f"wave {wave}: {line}" for line in cluster.apply(these))
        pods = list(bare_pods(these))
        if pods:
            _, _, complaint = cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", objects=pods)
            yield from (f"wave {wave}: {line}" for line in complaint.splitlines())


def versions(cluster, objects):
    listed = cluster.get("-f", "-", objects=objects)
    return {(o["kind"], get(o, "metadata.namespace"), name(o)): get(o, "metadata.resourceVersion") for o in listed["items"]}


def again(cluster, objects):
    """Applying again writes nothing: what we say is what the server keeps."""
    before = versions(cluster, objects)
    yield from cluster.apply(objects)
    after = versions(cluster, objects)
    yield from sorted(f"{kind}/{what}: written again" for (kind, space, what), version in after.items() if before.get((kind, space, what)) != version)


def others_write(cluster, objects):
    """What the autoscaler and KEDA write stays theirs when we apply again."""
    space = "libertum"
    for intake in (o for o in objects if label(o) == "Deployment/intake"):
        code, _, complaint = cluster.kubectl("-n", space, "scale", "deployment/intake", "--replicas=4")
        if code:
            yield complaint
        jobs = [o for o in objects if o["kind"] == "ScaledJob"]
        finalizer = '{"metadata": {"finalizers": ["finalizer.keda.sh"]}}'
        for job in jobs:
            code, _, complaint = cluster.kubectl("-n", space, "patch", "scaledjob", name(job), "--type=merge", "--field-manager=keda", "-p", finalizer)
            if code:
                yield complaint
        yield from cluster.apply([intake, *jobs])
        if get(cluster.get("-n", space, "deployment/intake"), "spec.replicas") != 4:
            yield "Deployment/intake: the autoscaler's replicas are taken back"
        for job in jobs:
            if not get(cluster.get("-n", space, f"scaledjob/{name(job)}"), "metadata.finalizers"):
                yield f"{label(job)}: KEDA's finalizer is taken away"
    if not any(label(o) == "Deployment/intake" for o in objects):
        yield "there is no Deployment/intake"


def a_release(cluster, objects):
    """New images go in as an update; hooks, whose Jobs cannot change, are made anew by Argo CD."""
    text = yaml.safe_dump_all([o for o in objects if HOOK not in (get(o, "metadata.annotations") or {})])
    other = re.sub(r"(image: \S+?):[0-9a-f]{40}\b", rf"\1:{'c' * 40}", text)
    if other == text:
        yield "no image to change"
    yield from cluster.apply(list(yaml.safe_load_all(other)), "--dry-run=server")


def count_quota(cluster, space, used=None):
    """Writes what the controller of quotas would: admission goes by a quota's status, and counts on from there."""
    for quota in cluster.get("-n", space, "resourcequota")["items"]:
        hard = get(quota, "spec.hard")
        status = yaml.safe_dump({"status": {"hard": hard, "used": used or dict.fromkeys(hard, "0")}})
        code, _, complaint = cluster.kubectl("-n", space, "patch", "resourcequota", name(quota), "--subresource=status", "--type=merge", "-p", status)
        if code:
            raise SystemExit(f"dry-run: {complaint}")


def at_most(objects):
    """The pods of the busiest moment: every worker at its most, the door scaled out and one more while it is rolled, a backup asked for."""
    most = {f"Deployment/{get(h, 'spec.scaleTargetRef.name')}": get(h, "spec.maxReplicas") + 1 for h in objects if h["kind"] == "HorizontalPodAutoscaler"}
    for pod in World("", objects).pods():
        count = most.get(pod.where) or get(pod.owner, "spec.maxReplicaCount") or get(pod.owner, "spec.replicas") or 1
        one = next(bare_pods([pod.owner]))
        for number in range(count):
            yield {**one, "metadata": {**one["metadata"], "name": f"{one['metadata']['name']}-{number}"}}


def busiest(cluster, objects):
    """The quota holds at the busiest moment, and a full one takes no more."""
    count_quota(cluster, "libertum")
    pods = list(at_most(objects))
    code, out, complaint = cluster.kubectl("create", "-f", "-", objects=pods)
    if code:
        yield f"{len(out.splitlines())} of {len(pods)} pods: {complaint.splitlines()[0][:300]}"
        return
    (quota,) = cluster.get("-n", "libertum", "resourcequota")["items"]
    hard, used = get(quota, "spec.hard"), quota["status"]["used"]
    print(f"    {len(pods)} pods at most: " + ", ".join(f"{used[k]} of {hard[k]} {k}" for k in ("requests.cpu", "requests.memory", "limits.memory")))
    count_quota(cluster, "libertum", {**used, "pods": hard["pods"]})
    _, _, complaint = cluster.kubectl("create", "--dry-run=server", "-f", "-", objects=[{**pods[0], "metadata": {**pods[0]["metadata"], "name": "one-more"}}])
    if "exceeded quota" not in complaint:
        yield f"a full quota takes one more: {complaint[-200:]}"


def refusals(objects):
    """Changes of production that this server must refuse, each with a word of its reason."""
    world = World("production", objects)
    intake = next(p for p in bare_pods(objects) if name(p) == "deployment-intake")
    job = world.find("ScaledJob", "ingestion")

    def changed(thing, path, value):
        other = copy.deepcopy(thing)
        at = other
        *steps, last = path.split("/")
        for step in steps:
            at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})
        at[last] = value
        return other

    yield "a pod that runs as root", changed(intake, "spec/securityContext/runAsUser", 0), "violates PodSecurity"
    yield "a pod on the node's network", changed(intake, "spec/hostNetwork", True), "violates PodSecurity"
    yield "a pod of an account that is not there", changed(intake, "spec/serviceAccountName", "nobody"), "serviceaccount \"nobody\" not found"
    yield "a pod of a priority that is not there", changed(intake, "spec/priorityClassName", "urgent"), "no PriorityClass"
    yield "a container larger than a node", changed(intake, "spec/containers/0/resources/limits/memory", "6Gi"), "maximum memory usage"
    yield "a misspelt field of a ScaledJob", changed(job, "spec/jobTargetRef/backofLimit", 1), "backofLimit"
    yield "a number where KEDA wants text", changed(job, "spec/triggers/0/metadata/lagThreshold", 5), "lagThreshold"
    yield "a CronJob in a time zone that is nowhere", changed(world.find("CronJob", "backup-request"), "spec/timeZone", "Europe/Atlantis"), "unknown time zone"
    yield "a network that is no network", changed(world.find("NetworkPolicy", "kafka"), "spec/egress/0/to/0/ipBlock/cidr", "10.0.0.300/32"), "must be a valid CIDR"
    yield "a selector that changes", changed(world.find("Deployment", "intake"), "spec/selector/matchLabels/app", "door"), "field is immutable"


def bites(cluster, objects):
    for what, thing, reason in refusals(objects):
        code, _, complaint = cluster.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-", objects=[thing])
        found = code and reason in complaint
        yield f"teeth: the server refuses {what}", [] if found else [f"no {reason!r} in: {complaint[-300:] or 'nothing said'}"]


def of_kind():
    """What scripts/kind would apply: the overlay local, with what is made for a cluster of one's own."""
    with tempfile.TemporaryDirectory() as folder:
        around = {**os.environ, "STACK_DIR": folder, "DOCKER": "no-such-engine", "PATH": f"{Path(KUBECTL).parent}:{os.environ['PATH']}"}
        done = subprocess.run([ROOT / "scripts/kind", "--dry-run"], env=around, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise SystemExit(f"dry-run: scripts/kind --dry-run: {done.stderr.strip()[-400:]}")
        return load_all((Path(folder) / "kind/all.yaml").read_text())


def environments():
    """What is applied in each: the pool alone on one's own machine, with the platform and what Argo CD is told elsewhere."""
    yield "local", of_kind(), []
    for environment in ("staging", "production"):
        pool = render(ROOT / "k8s/overlays" / environment)
        beside = render(ROOT / "k8s/platform/namespaces") + render(ROOT / "k8s/platform" / environment) + render(ROOT / "k8s/argocd" / environment)
        yield environment, pool, beside


def with_gateway():
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(Path(folder))
        edit(tree / "k8s/overlays/production/kustomization.yaml", "  - ../../components/azure\n", "  - ../../components/gateway\n  - ../../components/azure\n")
        return render(tree / "k8s/overlays/production")


def every():
    with control_plane() as plane:
        for environment, pool, beside in environments():
            with plane.cluster(environment) as cluster:
                yield f"{environment}: the server takes the kinds that others bring", install(cluster, beside)
                if beside:
                    yield f"{environment}: dry run of the platform's {len(beside)} objects", first_dry(cluster, beside)
                    yield f"{environment}: the platform goes in, wave by wave", in_order(cluster, beside)
                yield f"{environment}: dry run of the pool's {len(pool)} objects", first_dry(cluster, pool)
                yield f"{environment}: the pool goes in, wave by wave, and its pods are admitted", in_order(cluster, pool)
                yield f"{environment}: applied again nothing is written", again(cluster, pool + beside)
                yield f"{environment}: what others write stays theirs", others_write(cluster, pool)
                if environment != "local":
                    yield f"{environment}: a release is an update", a_release(cluster, pool)
                if environment == "production":
                    yield "production: the gateway in the Ingress' place is taken", cluster.apply(with_gateway(), "--dry-run=server")
                    yield from bites(cluster, pool)
                yield f"{environment}: the quota holds the busiest moment", busiest(cluster, pool)
