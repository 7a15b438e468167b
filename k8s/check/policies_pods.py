"""1 to 10: pods."""
import re

from policy import policy
from world import LONG_RUNNING, cpu, get, memory, name

# what a node of 2 cores and 8 GB leaves for us, with max_pods 50
NODE_CPU, NODE_MEMORY = 1300, 5.8 * 1024


def containers(world):
    for pod in world.pods():
        for container in pod.containers:
            yield pod, container, f"{pod.where}/{container.get('name')}"


@policy(1, "every container runs as somebody who is not root")
def not_root(world):
    for pod, container, where in containers(world):
        if pod.security(container, "runAsNonRoot") is not True:
            yield f"{where}: runAsNonRoot is not true"
        if not (pod.security(container, "runAsUser") or 0) > 0:
            yield f"{where}: runAsUser is root or left to the image"


@policy(2, "the root file system is read-only, and what is written has a bound")
def read_only(world):
    for pod, container, where in containers(world):
        if pod.security(container, "readOnlyRootFilesystem") is not True:
            yield f"{where}: readOnlyRootFilesystem is not true"
    for pod in world.pods():
        for volume in pod.spec.get("volumes") or []:
            if "emptyDir" in volume and not (volume["emptyDir"] or {}).get("sizeLimit"):
                yield f"{pod.where}: the emptyDir {volume['name']} has no sizeLimit"


@policy(3, "no capability, no escalation")
def no_capabilities(world):
    for pod, container, where in containers(world):
        if pod.security(container, "allowPrivilegeEscalation") is not False:
            yield f"{where}: allowPrivilegeEscalation is not false"
        held = pod.security(container, "capabilities") or {}
        if held.get("drop") != ["ALL"] or held.get("add"):
            yield f"{where}: capabilities are not exactly drop: [ALL]"
        if pod.security(container, "privileged"):
            yield f"{where}: privileged"


@policy(4, "the runtime's seccomp profile is on")
def seccomp(world):
    for pod, container, where in containers(world):
        if get(pod.security(container, "seccompProfile") or {}, "type") != "RuntimeDefault":
            yield f"{where}: seccompProfile is not RuntimeDefault"


@policy(5, "requests and a memory limit are set, and a pod fits a node of 2 cores and 8 GB")
def resources(world):
    for _, container, where in containers(world):
        asked, limits = get(container, "resources.requests", {}), get(container, "resources.limits", {})
        if "cpu" not in asked or "memory" not in asked or "memory" not in limits:
            yield f"{where}: cpu and memory requests and a memory limit must be set"
            continue
        if memory(asked["memory"]) > memory(limits["memory"]) or cpu(asked["cpu"]) > cpu(limits.get("cpu", "9999")):
            yield f"{where}: asks for more than its limit"
    for pod in world.pods():
        main = pod.spec.get("containers") or []
        wanted = sum(cpu(get(c, "resources.requests.cpu", 0)) for c in main)
        held = sum(memory(get(c, "resources.requests.memory", 0)) for c in main)
        if wanted > NODE_CPU or held > NODE_MEMORY:
            yield f"{pod.where}: asks for {wanted:.0f}m and {held:.0f} MiB; a node has {NODE_CPU}m and {NODE_MEMORY:.0f} MiB"


@policy(6, "no pod shares the node's network, processes or disk, but in the namespace of the agents")
def no_host(world):
    for pod in world.pods():
        if get(pod.owner, "metadata.namespace") == "logging":
            continue
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(key):
                yield f"{pod.where}: {key}"
        for volume in pod.spec.get("volumes") or []:
            if "hostPath" in volume:
                yield f"{pod.where}: hostPath {volume['name']}"


@policy(7, "images come from our registry, pinned to a full commit hash or a digest")
def images(world):
    for _, container, where in containers(world):
        image = container.get("image", "")
        pinned = re.search(r":[0-9a-f]{40}$|@sha256:[0-9a-f]{64}$", image)
        if not (pinned and re.match(r"[a-z0-9]{5,50}\.azurecr\.io/", image)):
            yield f"{where}: image {image or 'missing'}"


@policy(8, "every pod has its own account and no token it does not use")
def accounts(world):
    for pod in world.pods():
        account = pod.spec.get("serviceAccountName")
        if account in (None, "default"):
            yield f"{pod.where}: the account default"
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.where}: automountServiceAccountToken is not false"


@policy(9, "who signs on to Azure has the label on the pod and the identity on the account")
def workload_identity(world):
    key = "azure.workload.identity/"
    for pod in world.pods():
        account = world.find("ServiceAccount", pod.spec.get("serviceAccountName"))
        identity = get(account or {}, "metadata.annotations", {}).get(key + "client-id")
        if pod.labels.get(key + "use") == "true" and not re.fullmatch(r"[0-9a-f-]{36}", identity or ""):
            yield f"{pod.where}: labelled for workload identity, but its account names none"
        # Blob and Key Vault are reached by identity only
        names = {c.get("name") for c in pod.containers}
        if names & {"intake", "ingestion", "backup"} and pod.labels.get("libertum.io/https") and pod.labels.get(key + "use") != "true":
            yield f"{pod.where}: reaches Blob, but its template lacks the label {key}use"


@policy(10, "what runs long has probes, rolls out without a gap and is spread over zones and nodes")
def long_running(world):
    for pod in world.pods(*LONG_RUNNING):
        for container in pod.spec.get("containers") or []:
            if container.get("name") == "pause":
                continue
            for probe in ("livenessProbe", "readinessProbe"):
                if probe not in container:
                    yield f"{pod.where}/{container['name']}: no {probe}"
        if pod.owner["kind"] != "Deployment":
            continue
        if get(pod.owner, "spec.strategy.rollingUpdate.maxUnavailable") not in (0, 1):
            yield f"{pod.where}: maxUnavailable is not 0 or 1"
        spread = {c.get("topologyKey") for c in pod.spec.get("topologySpreadConstraints") or []}
        for key in {"topology.kubernetes.io/zone", "kubernetes.io/hostname"} - spread:
            yield f"{pod.where}: not spread over {key}"
        for constraint in pod.spec.get("topologySpreadConstraints") or []:
            for wanted in get(constraint, "labelSelector.matchLabels", {"?": "?"}).items():
                if wanted not in pod.labels.items():
                    yield f"{pod.where}: spreads {wanted}, which its pods do not carry"
        if not (name(pod.owner) and get(pod.owner, "spec.revisionHistoryLimit", 0) >= 10):
            yield f"{pod.where}: keeps fewer than 10 revisions to roll back to"
