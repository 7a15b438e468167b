"""11 to 18 and 28, 29: namespaces, networks, quotas, budgets, the way in."""
import ipaddress
import re

from policy import policy
from policies_pods import NODE_CPU
from world import cpu, get, label, name

# Alloy and node-exporter read their node; nothing else may live there
AGENTS = "logging"
DATA_PORTS = {9094, 6379, 6380, 27017}
JOBS_NODES = 10
NAMESPACED = "pod-security.kubernetes.io/enforce"


@policy(11, "every namespace enforces restricted pods, by a pinned version; only the agents' is privileged")
def namespaces(world):
    for space in world.of("Namespace"):
        labels = get(space, "metadata.labels", {})
        if labels.get(NAMESPACED) != ("privileged" if name(space) == AGENTS else "restricted"):
            yield f"{label(space)}: {NAMESPACED} is {labels.get(NAMESPACED)}"
        if not re.fullmatch(r"v1\.\d+", labels.get(NAMESPACED + "-version", "")):
            yield f"{label(space)}: {NAMESPACED}-version is not pinned"


def policies_in(world, space):
    return [p for p in world.of("NetworkPolicy") if get(p, "metadata.namespace") == space]


@policy(12, "every namespace with pods denies all traffic both ways, and allows DNS")
def default_deny(world):
    for space in {get(p.owner, "metadata.namespace") for p in world.pods()}:
        held = [p["spec"] for p in policies_in(world, space)]
        if not any(s.get("podSelector") == {} and set(s.get("policyTypes", [])) == {"Ingress", "Egress"} and not s.get("ingress") and not s.get("egress") for s in held):
            yield f"Namespace/{space}: no policy that denies everything"
        if not any(s.get("podSelector") == {} and 53 in {p.get("port") for e in s.get("egress") or [] for p in e.get("ports") or []} for s in held):
            yield f"Namespace/{space}: no policy that allows DNS"


@policy(13, "traffic to an address names one machine and its ports, or is 443 past our own networks")
def egress(world):
    private = [ipaddress.ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
    for thing in world.of("NetworkPolicy"):
        for rule in get(thing, "spec.egress") or []:
            ports = {p.get("port") for p in rule.get("ports") or []}
            if not rule.get("to") or not ports:
                yield f"{label(thing)}: an egress rule to everywhere, or on every port"
            for to in rule.get("to") or []:
                block = to.get("ipBlock")
                if not block:
                    continue
                network = ipaddress.ip_network(block["cidr"])
                if network.prefixlen == 0:
                    if ports != {443} or not set(private) <= {ipaddress.ip_network(e) for e in block.get("except") or []}:
                        yield f"{label(thing)}: 0.0.0.0/0 is for 443 only, without the private networks"
                elif network.prefixlen == 32:
                    if not ports <= DATA_PORTS:
                        yield f"{label(thing)}: the data machine's ports are {sorted(DATA_PORTS)}, not {sorted(ports)}"
                elif ports != {443} or network.prefixlen < 24:
                    yield f"{label(thing)}: {network} is neither one machine nor a small subnet on 443"


@policy(14, "the pool has a quota that the jobs' nodes can give, and limits for who says nothing")
def quota(world):
    for kind in ("ResourceQuota", "LimitRange"):
        if not any(get(q, "metadata.namespace") == "libertum" for q in world.of(kind)):
            yield f"{kind}: none in libertum"
    for held in world.of("ResourceQuota"):
        wanted = cpu(get(held, "spec.hard.requests.cpu", get(held, "spec.hard", {}).get("requests.cpu", "9999")))
        if wanted > JOBS_NODES * NODE_CPU:
            yield f"{label(held)}: {wanted:.0f}m of cpu; {JOBS_NODES} nodes give {JOBS_NODES * NODE_CPU}m"


SECRET_LIKE = re.compile(r"(password|secret|token|mnemonic|private.?key|sas|credential)", re.I)


@policy(15, "no secret in git, and nothing in the namespace default")
def no_secrets(world):
    for thing in world.of("Secret"):
        yield f"{label(thing)}: a Secret with data"
    for thing in world.of("ConfigMap"):
        for key, value in (thing.get("data") or {}).items():
            if SECRET_LIKE.search(key) and value and "ADDRESS" not in key and "MECHANISM" not in key:
                yield f"{label(thing)}: {key} looks like a secret"
            if re.search(r"-----BEGIN .*PRIVATE|AccountKey=|[a-z]+://[^/@ ]+:[^/@ ]+@", value or ""):
                yield f"{label(thing)}: the value of {key} holds a secret"
    for pod in world.pods():
        for container in pod.containers:
            for variable in container.get("env") or []:
                if SECRET_LIKE.search(variable["name"]) and variable.get("value") and not variable["name"].endswith("_FILE"):
                    yield f"{pod.where}: {variable['name']} is written out"
    cluster_wide = {"Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding"}
    for thing in world.objects:
        if thing["kind"] not in cluster_wide and get(thing, "metadata.namespace", "default") == "default":
            yield f"{label(thing)}: in the namespace default"


@policy(16, "what has two replicas has a budget that lets a drain take one")
def budgets(world):
    scaled = {get(h, "spec.scaleTargetRef.name"): h["spec"].get("minReplicas", 1) for h in world.of("HorizontalPodAutoscaler")}
    for thing in world.of("Deployment", "StatefulSet"):
        replicas = scaled.get(name(thing), get(thing, "spec.replicas", 1))
        if replicas < 2:
            continue
        held = [b["spec"] for b in world.of("PodDisruptionBudget") if get(b, "spec.selector") == get(thing, "spec.selector")]
        if not held:
            yield f"{label(thing)}: {replicas} replicas and no budget"
        for spec in held:
            allowed = spec.get("maxUnavailable", replicas - spec.get("minAvailable", 0) if isinstance(spec.get("minAvailable", 0), int) else 0)
            if not isinstance(allowed, int) or allowed < 1:
                yield f"{label(thing)}: its budget lets no pod go, and would block every drain"


@policy(17, "one owner of the number of replicas")
def replicas(world):
    targets = [get(h, "spec.scaleTargetRef.name") for h in world.of("HorizontalPodAutoscaler", "ScaledObject")]
    for target in targets:
        owned = world.find("Deployment", target)
        if owned is None:
            yield f"an autoscaler names {target}, which is not there"
        elif "replicas" in owned["spec"]:
            yield f"{label(owned)}: replicas in git fight the autoscaler"
        if targets.count(target) > 1:
            yield f"{target}: two autoscalers"


@policy(18, "no role with a star")
def roles(world):
    for role in world.of("ClusterRole", "Role"):
        for rule in role.get("rules") or []:
            if "*" in (rule.get("verbs") or []) + (rule.get("resources") or []):
                yield f"{label(role)}: a rule with *"
    for binding in world.of("ClusterRoleBinding", "RoleBinding"):
        if get(binding, "roleRef.name") in ("cluster-admin", "admin", "edit"):
            yield f"{label(binding)}: binds {get(binding, 'roleRef.name')}"


@policy(28, "nothing of ingress-nginx; a gateway serves TLS, and only its own namespace")
def way_in(world):
    for pod in world.pods():
        for container in pod.containers:
            if "ingress-nginx" in container.get("image", ""):
                yield f"{pod.where}: ingress-nginx is retired"
    for door in world.of("Ingress"):
        if get(door, "spec.ingressClassName") in (None, "nginx"):
            yield f"{label(door)}: class {get(door, 'spec.ingressClassName')}"
        hosts = {h for t in get(door, "spec.tls") or [] for h in t.get("hosts") or []}
        for rule in get(door, "spec.rules") or []:
            if rule.get("host") not in hosts:
                yield f"{label(door)}: {rule.get('host')} without TLS"
    for gateway in world.of("Gateway"):
        listeners = get(gateway, "spec.listeners") or []
        if not any(x["protocol"] == "HTTPS" and get(x, "tls.certificateRefs") for x in listeners):
            yield f"{label(gateway)}: no listener with TLS"
        for x in listeners:
            if get(x, "allowedRoutes.namespaces.from") not in ("Same", "Selector"):
                yield f"{label(gateway)}/{x['name']}: open to every namespace"
        plain = {x["name"] for x in listeners if x["protocol"] == "HTTP"}
        for route in world.of("HTTPRoute"):
            on_plain = any(p.get("name") == name(gateway) and p.get("sectionName") in plain | {None} for p in get(route, "spec.parentRefs") or [])
            if on_plain and any(r.get("backendRefs") for r in get(route, "spec.rules") or []):
                yield f"{label(route)}: serves over plain http"


@policy(29, "a load balancer is internal, or says why it is not")
def balancers(world):
    for service in world.of("Service"):
        if get(service, "spec.type") != "LoadBalancer":
            continue
        notes = get(service, "metadata.annotations", {})
        internal = notes.get("service.beta.kubernetes.io/azure-load-balancer-internal") == "true"
        if not internal and not notes.get("libertum.io/public-because"):
            yield f"{label(service)}: reachable from the Internet, without libertum.io/public-because"
