"""What Prometheus scrapes and the blackbox exporter looks at lets itself be reached through the default-deny of its namespace; a port that is
closed is an alert for ever."""
import copy

import yaml

from world import ROOT, World, get, name, render

PLATFORM = ROOT / "k8s/platform"
# the targets that kube-prometheus-stack brings, and where they listen; those of the control plane are off (46)
CHART = {
    "alertmanager": 9093, "config-reloader": 8080, "coredns": 9153, "grafana": 3000, "kube-state-metrics": 8080, "kubelet": 10250,
    "node-exporter": 9100, "prometheus": 9090, "prometheus-operator": 10250,
}
# charts beside it, by the ports of their metrics
BESIDE = {"alloy": 12345, "collector": 12345, "blackbox-exporter": 9115, "kafka-exporter": 9308, "keda-operator": 8080, "traefik": 9100}


def scraped(pool):
    """Names and ports of everything that is scraped."""
    yield from [*CHART.items(), *BESIDE.items()]
    for pod in pool.pods():
        for container in pod.containers:
            for port in container.get("ports") or []:
                if port.get("name") == "metrics":
                    yield pod.where, port["containerPort"]


def open_ports(held):
    """What a pod of monitoring may reach in other namespaces."""
    for policy in held.of("NetworkPolicy"):
        if get(policy, "metadata.namespace") == "monitoring" and name(policy) == "inside":
            for rule in get(policy, "spec.egress") or []:
                if any(to.get("namespaceSelector") == {} for to in rule.get("to") or []):
                    yield from (p["port"] for p in rule.get("ports") or [])


def problems(held, pool):
    reached = set(open_ports(held))
    yield from sorted({f"{what}: Prometheus may not reach port {port}" for what, port in scraped(pool) if port not in reached})


def door(held):
    """The balancer's address is no address to a pod: what is let through is the controller's pod and its port."""
    port = yaml.safe_load((PLATFORM / "ingress/values-traefik.yaml").read_text())["ports"]["websecure"]["port"]
    for policy in held.of("NetworkPolicy"):
        who = get(policy, "spec.podSelector.matchLabels", {}).get("app.kubernetes.io/name")
        for rule in (get(policy, "spec.egress") or []) if who == "prometheus-blackbox-exporter" else []:
            spaces = [get(to, "namespaceSelector.matchLabels", {}).get("kubernetes.io/metadata.name") for to in rule.get("to") or []]
            if "ingress" in spaces and port in {p["port"] for p in rule.get("ports") or []}:
                return
    yield f"the blackbox exporter may not reach port {port} of the ingress controller, so DoorClosed fires for ever"


def every(worlds):
    held = World("production", render(PLATFORM / "namespaces"))
    pool = worlds["production"]
    yield "everything that is scraped can be reached", problems(held, pool)
    yield "the door can be looked at from inside", door(held)
    without = World("production", [o for o in held.objects if name(o) != "to-door"])
    yield "teeth: a door that nobody can look at", [] if list(door(without)) else ["nothing found"]
    closed = World("production", copy.deepcopy(held.objects))
    for policy in closed.of("NetworkPolicy"):
        if name(policy) == "inside":
            policy["spec"]["egress"][0]["ports"] = [p for p in policy["spec"]["egress"][0]["ports"] if p["port"] != 9153]
    yield "teeth: a port of metrics that is closed", [] if list(problems(closed, pool)) else ["nothing found"]
