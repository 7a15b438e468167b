"""19 to 27 and 47: ScaledJobs and CronJobs; from 101: what these manifests promise besides."""
import re

from policy import policy
from world import ROOT, get, label, name

JOB = "spec.jobTargetRef"
STRATEGIES = {"default", "custom", "accurate", "eager"}
# what KEDA 2.19, which AKS 1.36 ships, takes
KAFKA_KEYS = {
    "bootstrapServers", "bootstrapServersFromEnv", "consumerGroup", "consumerGroupFromEnv", "topic", "topicFromEnv", "lagThreshold",
    "activationLagThreshold", "offsetResetPolicy", "allowIdleConsumers", "scaleToZeroOnInvalidOffset", "excludePersistentLag",
    "limitToPartitionsWithLag", "ensureEvenDistributionOfPartitions", "version", "partitionLimitation", "sasl", "tls", "unsafeSsl",
}
SPEC_KEYS = {
    "jobTargetRef", "pollingInterval", "minReplicaCount", "maxReplicaCount", "successfulJobsHistoryLimit", "failedJobsHistoryLimit",
    "envSourceContainerName", "rollout", "scalingStrategy", "triggers",
}
KNOBS = ("pollingInterval", "minReplicaCount", "maxReplicaCount", "lagThreshold", "scalingStrategy")


@policy(19, "jobs start from zero, and never more than the topic has partitions")
def bounds(world):
    topics = world.topics()
    for job in world.of("ScaledJob"):
        if get(job, "spec.minReplicaCount", 0) != 0:
            yield f"{label(job)}: minReplicaCount is not 0"
        for trigger in get(job, "spec.triggers") or []:
            held = topics.get(get(trigger, "metadata.topic"), {}).get("partitions", 0)
            if not 0 < get(job, "spec.maxReplicaCount", 10**6) <= held:
                yield f"{label(job)}: maxReplicaCount {get(job, 'spec.maxReplicaCount')} for {held} partitions"


@policy(20, "a change kills no running job, and KEDA knows every word")
def rollout(world):
    for job in world.of("ScaledJob"):
        if get(job, "spec.rollout.strategy") != "gradual":
            yield f"{label(job)}: rollout.strategy is not gradual"
        if get(job, "spec.scalingStrategy.strategy", "default") not in STRATEGIES:
            yield f"{label(job)}: scalingStrategy.strategy {get(job, 'spec.scalingStrategy.strategy')}"
        for key in set(job["spec"]) - SPEC_KEYS:
            yield f"{label(job)}: KEDA 2.19 does not know spec.{key}"


@policy(21, "a job ends, is not repeated for ever, and does not stay for ever")
def ends(world):
    for job in world.of("ScaledJob"):
        for key in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
            if not 0 < get(job, f"spec.{key}", 100) <= 20:
                yield f"{label(job)}: {key} is not between 1 and 20"
        for key in ("activeDeadlineSeconds", "ttlSecondsAfterFinished"):
            if not get(job, f"{JOB}.{key}"):
                yield f"{label(job)}: no {key}"
        if get(job, f"{JOB}.backoffLimit", 6) > 3:
            yield f"{label(job)}: backoffLimit above 3"
        if get(job, f"{JOB}.template.spec.restartPolicy") != "Never":
            yield f"{label(job)}: restartPolicy is not Never"


@policy(22, "a trigger says everything in text, signs on, and uses no parameter newer than AKS' KEDA")
def triggers(world):
    for job in world.of("ScaledJob"):
        for trigger in get(job, "spec.triggers") or []:
            held = trigger.get("metadata") or {}
            for key, value in held.items():
                if not isinstance(value, str):
                    yield f"{label(job)}: {key} is not text"
                if key not in KAFKA_KEYS:
                    yield f"{label(job)}: KEDA 2.19 does not know {key}"
            for key in ("topic", "consumerGroup", "lagThreshold", "version"):
                if not held.get(key):
                    yield f"{label(job)}: no {key}"
            if held.get("offsetResetPolicy") != "earliest":
                yield f"{label(job)}: offsetResetPolicy is not earliest, as the workers'"
            if not get(trigger, "authenticationRef.name"):
                yield f"{label(job)}: no authenticationRef"


@policy(23, "KEDA signs on with what Key Vault holds, and nothing is written out")
def trigger_authentication(world):
    held = world.of("TriggerAuthentication", "ClusterTriggerAuthentication")
    if not held:
        yield "no TriggerAuthentication"
    for thing in held:
        identity = get(thing, "spec.azureKeyVault.podIdentity") or {}
        if identity.get("provider") != "azure-workload" or not re.fullmatch(r"[0-9a-f-]{36}", identity.get("identityId", "")):
            yield f"{label(thing)}: does not sign on to Key Vault by azure-workload (azureKeyVault.podIdentity)"
        if {s.get("parameter") for s in get(thing, "spec.azureKeyVault.secrets") or []} != {"username", "password", "ca"}:
            yield f"{label(thing)}: Kafka wants username, password and ca"
        if get(thing, "spec.podIdentity"):
            yield f"{label(thing)}: spec.podIdentity is the trigger's, and a kafka trigger has none"
        for key in ("secretTargetRef", "env", "filePath"):
            if get(thing, f"spec.{key}"):
                yield f"{label(thing)}: {key}"


@policy(24, "workers run on the jobs' nodes, and only there")
def pool(world):
    for pod in world.pods("ScaledJob"):
        if get(pod.spec, "nodeSelector", {}).get("libertum.io/pool") != "jobs":
            yield f"{pod.where}: nodeSelector is not libertum.io/pool=jobs"
        if not any(t.get("key") == "libertum.io/pool" and t.get("value") == "jobs" and t.get("effect") == "NoSchedule" for t in pod.spec.get("tolerations") or []):
            yield f"{pod.where}: does not tolerate the jobs' nodes"


@policy(25, "what ops tune stands in scalers/ and nowhere else")
def knobs(world):
    if not hasattr(world, "sources"):
        world.sources = {p: p.read_text() for p in (ROOT / "k8s").rglob("*.yaml") if "check" not in p.parts and "scalers" not in p.parent.parts}
    for path, text in world.sources.items():
        for knob in KNOBS:
            if re.search(rf"^\s*-?\s*{knob}:", text, re.M):
                yield f"{path}: {knob} belongs to scalers/"


@policy(26, "the autoscaler leaves running jobs alone, and no node waits longer than ten minutes for one")
def eviction(world):
    for pod in world.pods("ScaledJob"):
        if pod.metadata.get("annotations", {}).get("cluster-autoscaler.kubernetes.io/safe-to-evict") != "false":
            yield f"{pod.where}: safe-to-evict is not \"false\""
        if not 0 < pod.spec.get("terminationGracePeriodSeconds", 30) <= 600:
            yield f"{pod.where}: grace period above 600 s"


def secrets_made(world):
    made = {name(s) for s in world.of("Secret")}
    for thing in world.of("SecretProviderClass"):
        made |= {o["secretName"] for o in get(thing, "spec.secretObjects") or []}
    return made


def named(pod):
    """Pairs of kind and name of what a pod refers to."""
    for container in pod.containers:
        for source in container.get("envFrom") or []:
            for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if key in source:
                    yield kind, source[key]["name"]
        for variable in container.get("env") or []:
            for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if get(variable, f"valueFrom.{key}"):
                    yield kind, get(variable, f"valueFrom.{key}.name")
    for volume in pod.spec.get("volumes") or []:
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if get(volume, "csi.driver") == "secrets-store.csi.k8s.io":
            yield "SecretProviderClass", get(volume, "csi.volumeAttributes.secretProviderClass")
    yield "ServiceAccount", pod.spec.get("serviceAccountName")
    if pod.spec.get("priorityClassName"):
        yield "PriorityClass", pod.spec["priorityClassName"]


@policy(27, "every name that a pod or a trigger refers to is there")
def names(world):
    there = {(o["kind"], name(o)) for o in world.objects} | {("Secret", s) for s in secrets_made(world)}
    for pod in world.pods():
        for kind, wanted in named(pod):
            if (kind, wanted) not in there:
                yield f"{pod.where}: no {kind} {wanted}"
    for job in world.of("ScaledJob"):
        for trigger in get(job, "spec.triggers") or []:
            wanted = get(trigger, "authenticationRef.name")
            if wanted and ("TriggerAuthentication", wanted) not in there:
                yield f"{label(job)}: no TriggerAuthentication {wanted}"


@policy(47, "the backup is asked for once a day, one at a time, and not much later than planned")
def nightly(world):
    asks = [c for c in world.of("CronJob") if name(c) == "backup-request"]
    if not asks:
        yield "no CronJob backup-request"
    for ask in asks:
        if not re.fullmatch(r"\d+ \d+ \* \* \*", get(ask, "spec.schedule", "")) or not get(ask, "spec.timeZone"):
            yield f"{label(ask)}: not once a day in a named time zone"
        if get(ask, "spec.concurrencyPolicy") != "Forbid":
            yield f"{label(ask)}: concurrencyPolicy is not Forbid"
        for key in ("spec.startingDeadlineSeconds", "spec.jobTemplate.spec.activeDeadlineSeconds"):
            if not get(ask, key):
                yield f"{label(ask)}: no {key}"
        args = get(ask, "spec.jobTemplate.spec.template.spec.containers.0.args") or []
        if args[:2] != ["request", "--slot"]:
            yield f"{label(ask)}: does not enqueue (backup request --slot)"


def environment(container):
    return {v["name"]: v.get("value", "") for v in container.get("env") or []}


@policy(101, "a worker ends by itself before its job's deadline, and answers SIGTERM before the grace is over")
def time_limits(world):
    for pod in world.pods("ScaledJob"):
        held = environment(pod.spec["containers"][0])
        deadline, run = get(pod.owner, f"{JOB}.activeDeadlineSeconds", 0), int(held.get("MAX_RUN_SECONDS") or 10**9)
        grace = int(held.get("GRACE_SECONDS") or 25)
        if run + grace >= deadline:
            yield f"{pod.where}: MAX_RUN_SECONDS {run} and the grace end after the deadline {deadline}"
        if int(held.get("BACKUP_MAX_SECONDS") or 0) >= run:
            yield f"{pod.where}: BACKUP_MAX_SECONDS does not fit MAX_RUN_SECONDS"
    for pod in world.pods():
        for container in pod.containers:
            grace = environment(container).get("GRACE_SECONDS")
            sleep = get(container, "lifecycle.preStop.sleep.seconds", 0)
            if grace and int(grace) + sleep >= pod.spec.get("terminationGracePeriodSeconds", 30):
                yield f"{pod.where}: GRACE_SECONDS {grace} and the pause of {sleep} s do not fit the pod's grace period"


def exit_codes():
    section = (ROOT / "README.md").read_text().split("\n## Exit codes\n")[1].split("\n## ")[0]
    return {int(c) for c in re.findall(r"^\| (\d+) \|", section, re.M)}


@policy(102, "every exit code of README has one rule in every job")
def failure_rules(world):
    wanted = exit_codes() - {0}
    for pod in world.pods("ScaledJob"):
        rules = get(pod.owner, f"{JOB}.podFailurePolicy.rules") or []
        told = [c for r in rules for c in get(r, "onExitCodes.values") or []]
        if sorted(told) != sorted(wanted):
            yield f"{pod.where}: rules for {sorted(told)}, exit codes {sorted(wanted)}"
        containers = {get(r, "onExitCodes.containerName", pod.spec["containers"][0]["name"]) for r in rules}
        if containers != {pod.spec["containers"][0]["name"]}:
            yield f"{pod.where}: rules for the container {containers}"


def known_settings():
    section = (ROOT / "README.md").read_text().split("\n## Configuration\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([A-Z0-9_]+)`", section, re.M))


@policy(103, "every setting is one that README knows")
def settings(world):
    known = known_settings()
    given = set(world.settings())
    for pod in world.pods("ScaledJob", "CronJob", "Job", "Deployment"):
        if pod.labels.get("libertum.io/kafka"):
            for container in pod.containers:
                given |= set(environment(container))
    for thing in world.of("SecretProviderClass"):
        given |= {d["key"] for o in get(thing, "spec.secretObjects") or [] for d in o["data"] if d["key"].isupper()}
    for key in sorted(given - known):
        yield f"{key}: nothing reads it"


@policy(104, "the Secrets that jobs read are kept alive by a pod that always runs")
def kept_alive(world):
    if not world.of("SecretProviderClass"):
        return
    mounted = {n for pod in world.pods("Deployment") for kind, n in named(pod) if kind == "SecretProviderClass"}
    for thing in world.of("SecretProviderClass"):
        if name(thing) not in mounted:
            yield f"{label(thing)}: no Deployment mounts it, so KEDA finds no Secret and starts no job"


@policy(105, "a worker that is stuck is noticed, and one that starts is left alone")
def liveness(world):
    for pod in world.pods("ScaledJob"):
        probe = pod.spec["containers"][0].get("livenessProbe") or {}
        if get(probe, "httpGet.path") != "/healthz/live" or get(probe, "httpGet.port") != "metrics":
            yield f"{pod.where}: nobody asks /healthz/live"
        elif probe.get("initialDelaySeconds", 0) < 10:
            yield f"{pod.where}: is asked before it can have started"
