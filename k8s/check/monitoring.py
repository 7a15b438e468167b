"""45 and 46: rules, routes, dashboards and logs of k8s/platform, held against each other and against the code."""
import copy
import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from policy import findings
from schemas import problems
from world import ROOT, World, get, label, render

PLATFORM = ROOT / "k8s/platform"
HERE = PLATFORM / "monitoring"
RUNBOOK = "docs/runbooks/alerts.md"
# 7, 9, 13 and 27 are about the pool: images of the platform are public, and its Secrets are made outside git. For 7 that is a way off the
# assertion, which wants digests of other people's images: they are by exact version (versioned), as their charts have them, since no registry was
# at hand to read a digest from (docs/decisions/0005)
CLUSTER_POLICIES = {1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 15, 16, 28, 29}


@dataclass
class Monitoring:
    rules: dict
    tests: dict
    dashboards: dict
    metrics: dict
    routes: list
    values: dict
    logs: dict
    runbook: str
    code: str
    measured: str
    # exporters that are files of this project
    scripts: dict

    def alerts(self):
        for name, spec in self.rules.items():
            for group in spec["groups"]:
                yield from ((name, r) for r in group["rules"] if "alert" in r)

    def recorded(self):
        return {r["record"] for s in self.rules.values() for g in s["groups"] for r in g["rules"] if "record" in r}

    def queries(self):
        """Pairs of where and PromQL: rules and panels of Prometheus."""
        for name, spec in self.rules.items():
            for group in spec["groups"]:
                yield from ((f"rules/{name}: {r.get('alert') or r['record']}", r["expr"]) for r in group["rules"])
        for name, board in self.dashboards.items():
            for panel in board["panels"]:
                for target in panel["targets"]:
                    if get(target, "datasource.type") == "prometheus":
                        yield f"dashboards/{name}: {panel['title']}", target["expr"]


def load():
    stem = {p.stem: p for p in sorted((HERE / "rules").glob("*.yaml"))}
    metrics = yaml.safe_load((HERE / "metrics.yaml").read_text())
    code = [p.read_text() for folder in ("shared", "workers", "scalers") for p in (ROOT / folder).rglob("src/**/*.rs")]
    return Monitoring(
        rules={s: yaml.safe_load(p.read_text())["spec"] for s, p in stem.items()},
        tests={s: yaml.safe_load((HERE / f"tests/{s}.yaml").read_text()) for s in stem},
        dashboards={p.stem: json.loads(p.read_text()) for p in sorted((HERE / "dashboards").glob("*.json"))},
        metrics=metrics,
        routes=yaml.safe_load((HERE / "tests/routes.yaml").read_text()),
        values={p.relative_to(PLATFORM).as_posix(): yaml.safe_load(p.read_text()) for p in sorted(PLATFORM.rglob("values-*.yaml"))},
        logs={p.name: p.read_text() for p in sorted((PLATFORM / "logging").glob("*.alloy"))},
        runbook=(ROOT / RUNBOOK).read_text(),
        code="\n".join(code),
        measured="\n".join(p.read_text() for folder in ("shared", "workers") for p in (ROOT / folder).glob("*/tests/**/*.rs")),
        scripts={e["source"]: (ROOT / e["source"]).read_text() for e in metrics["others"] if "source" in e},
    )


def run(*command, cwd=None):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)
    return done.returncode, (done.stdout + done.stderr).strip()


def rules_hold(world):
    """promtool takes every rule, and every unit test of them passes."""
    with tempfile.TemporaryDirectory() as folder:
        for name, spec in world.rules.items():
            path = Path(folder) / f"{name}.yaml"
            path.write_text(yaml.safe_dump(spec))
            code, said = run("promtool", "check", "rules", str(path))
            if code:
                yield f"{name}: {said[-400:]}"
            # what a test expects are labels: the words of an alert may change without its test
            bare = copy.deepcopy(spec)
            for group in bare["groups"]:
                for rule in group["rules"]:
                    rule.pop("annotations", None)
            path.write_text(yaml.safe_dump(bare))
            (Path(folder) / f"test-{name}.yaml").write_text(yaml.safe_dump(world.tests[name]))
        for name in world.rules:
            code, said = run("promtool", "test", "rules", f"test-{name}.yaml", cwd=folder)
            if code:
                yield f"{name}: {said[-600:]}"


def alerts_complete(world):
    """Every alert says how bad, what, and where to read on, and has a test that fires it and one that does not."""
    headings = {re.sub(r"[^a-z0-9]", "", h.lower()) for h in re.findall(r"^## (.+)$", world.runbook, re.M)}
    for name, alert in world.alerts():
        what = alert["alert"]
        if get(alert, "labels.severity") not in ("page", "ticket", "info"):
            yield f"{what}: severity {get(alert, 'labels.severity')}"
        if not get(alert, "annotations.summary"):
            yield f"{what}: no summary"
        url = get(alert, "annotations.runbook_url", "")
        if not url.startswith("https://") or f"{RUNBOOK}#" not in url or url.partition("#")[2] not in headings:
            yield f"{what}: {url or 'no runbook_url'} leads nowhere"
        cases = [c for t in world.tests[name]["tests"] for c in t.get("alert_rule_test", []) if c["alertname"] == what]
        if not any(c["exp_alerts"] for c in cases):
            yield f"{what}: no test fires it"
        if not any(not c["exp_alerts"] for c in cases):
            yield f"{what}: no test in which it keeps still"
    for name in headings - {get(a, "alert", "").lower() for _, a in world.alerts()} - {"servicelevels"}:
        yield f"{RUNBOOK}: {name} is no alert"


WORDS = {
    "by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "offset", "bool", "inf", "nan",
}


def metrics_of(query):
    """The names of metrics in a query."""
    query = re.sub(r'"(\\.|[^"\\])*"', "", query)
    query = re.sub(r"\{[^}]*\}", "", query)
    query = re.sub(r"\[[^\]]*\]", "", query)
    query = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", query)
    names = re.findall(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\b(?!\s*\()", query)
    return {re.sub(r"_(bucket|sum|count)$", "", n) for n in names if n not in WORDS and not re.fullmatch(r"offset|\d+[smhdwy]", n)}


def metrics_known(world):
    """Every metric of a query is exported by our code or listed with its exporter and version, and none is listed for nothing."""
    ours = world.metrics["ours"]
    others = {m for e in world.metrics["others"] for m in e["metrics"]}
    for e in world.metrics["others"]:
        if "source" in e:
            yield from (f"{e['source']} does not write {m}" for m in e["metrics"] if f'"{m}' not in world.scripts[e["source"]])
        elif not e.get("exporter") or not re.fullmatch(r"\d+\.\d+\.\d+", str(e.get("version"))):
            yield f"{e.get('exporter')}: no version"
    for name, instrument in ours.items():
        if f'"{instrument}"' not in world.code:
            yield f"{name}: no instrument {instrument} in the code"
        if f'"{instrument}"' not in world.measured and name not in world.measured:
            yield f"{name}: no test of the running pool looks for it"
        if not name.startswith(instrument.replace(".", "_")):
            yield f"{name}: not what {instrument} is called in Prometheus"
    used = set()
    for where, query in world.queries():
        for name in metrics_of(query):
            used.add(name)
            if name not in ours and name not in others and name not in world.recorded():
                yield f"{where}: nobody exports {name}"
    for name in (set(ours) | others) - used:
        yield f"metrics.yaml: nothing reads {name}"


def dashboards_hold(world):
    """Every dashboard's queries are PromQL, every panel has one, and the kustomization carries every dashboard."""
    listed = (HERE / "kustomization.yaml").read_text()
    uids = [b["uid"] for b in world.dashboards.values()]
    if len(set(uids)) != len(uids):
        yield f"uids are not one each: {uids}"
    rules = []
    for name, board in world.dashboards.items():
        if f"dashboards/{name}.json" not in listed:
            yield f"{name}: not in kustomization.yaml"
        for panel in board["panels"]:
            if not panel.get("targets") or not panel.get("title"):
                yield f"{name}: a panel without a title or a query"
    for position, (where, query) in enumerate(world.queries()):
        if where.startswith("dashboards/"):
            rules.append({"record": f"check:{position}", "expr": query.replace("$worker", "ingestion")})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dashboards.yaml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
        code, said = run("promtool", "check", "rules", str(path))
        if code:
            yield said[-600:]


def routes_hold(world):
    """amtool takes the routes, and an alert reaches whom it should."""
    config = get(world.values["monitoring/values-kube-prometheus-stack.yaml"], "alertmanager.config")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "alertmanager.yaml"
        path.write_text(yaml.safe_dump(config))
        code, said = run("amtool", "check-config", str(path))
        if code:
            yield said[-400:]
            return
        for route in world.routes:
            code, said = run("amtool", "config", "routes", "test", "--config.file", str(path), *route["labels"])
            said = said.splitlines()[0] if said else ""
            if code or said.split(",") != route["to"]:
                yield f"{route['labels']}: reaches {said}, not {route['to']}"
    tested = {r for t in world.routes for r in t["to"]}
    for receiver in {r["name"] for r in config["receivers"]} - tested:
        yield f"no test reaches {receiver}"


def logs_hold(world):
    """46: no Promtail; Alloy and Loki with identity and a bound in time; nothing of the control plane is waited for."""
    for name, values in world.values.items():
        if re.search(r"(repository|image): .*promtail", yaml.safe_dump(values)):
            yield f"{name}: Promtail is at its end of life"
    loki = world.values["logging/values-loki.yaml"]
    if loki.get("deploymentMode") != "Monolithic":
        yield f"loki: deploymentMode {loki.get('deploymentMode')}"
    if get(loki, "loki.storage_config.azure.use_federated_token") is not True or get(loki, "loki.storage.azure.useFederatedToken") is not True:
        yield "loki: does not sign on by workload identity"
    if dict(get(loki, "loki.podLabels", {})).get("azure.workload.identity/use") != "true":
        yield "loki: no label for workload identity"
    if not get(loki, "loki.limits_config.retention_period") or get(loki, "loki.compactor.retention_enabled") is not True:
        yield "loki: keeps logs for ever"
    if get(world.values["logging/values-alloy.yaml"], "controller.type") != "daemonset":
        yield "alloy: not on every node"
    for name in ("alloy", "collector"):
        values = world.values[f"logging/values-{name}.yaml"]
        written = get(values, "alloy.storagePath", "/tmp/alloy")
        if get(values, "alloy.securityContext.readOnlyRootFilesystem") is not True:
            yield f"{name}: its root can be written"
        if written not in {m["mountPath"] for m in get(values, "alloy.mounts.extra") or []}:
            yield f"{name}: cannot write to {written}"
        if get(values, "alloy.enableReporting") is not False:
            yield f"{name}: reports to its makers"
    for name in ("namespace", "pod", "container", "node_name", "app", "job"):
        if f'target_label  = "{name}"' not in world.logs["node.alloy"]:
            yield f"node.alloy: lacks Promtail's label {name}"
    for topic in ["asset-events", *(f"{w}.dead" for w in ("ingestion", "valuation", "minting", "backup"))]:
        if f'"{topic}"' not in world.logs["collector.alloy"]:
            yield f"collector.alloy: does not read {topic}"
    stack = world.values["monitoring/values-kube-prometheus-stack.yaml"]
    for target in ("kubeControllerManager", "kubeScheduler", "kubeEtcd", "kubeProxy"):
        if get(stack, f"{target}.enabled") is not False:
            yield f"kube-prometheus-stack: waits for {target}, which cannot be scraped on AKS"
    for kind in ("serviceMonitor", "podMonitor", "rule", "probe", "scrapeConfig"):
        if get(stack, f"prometheus.prometheusSpec.{kind}SelectorNilUsesHelmValues") is not False:
            yield f"kube-prometheus-stack: does not see our {kind}s"


def covers(world):
    """The bad days that must not pass unseen each have an alert."""
    wanted = {
        "BackupMissed", "DeadLettersGrowing", "LagWithoutJobs", "JobsWithoutProgress", "FinalityStalled", "CertificateExpiring", "JobsFailing",
        "ScalerErrors", "DataDiskFilling", "JobsNodesAtMost",
    }
    yield from sorted(wanted - {a["alert"] for _, a in world.alerts()})


CHECKS = [
    ("45 promtool takes the rules, and their tests pass", rules_hold),
    ("45 every alert is complete and tested both ways", alerts_complete),
    ("45 the bad days have alerts", covers),
    ("every metric that is read is exported", metrics_known),
    ("every dashboard's queries hold", dashboards_hold),
    ("amtool takes the routes, and alerts reach whom they should", routes_hold),
    ("46 logs: Alloy and Loki, no Promtail, no dead targets", logs_hold),
]


def bites():
    """Changes that each check must find."""

    def metric(m):
        m.rules["workers"]["groups"][0]["rules"][0]["expr"] = "sum(kafka_consumergroup_lags)"

    def instrument(m):
        m.code = m.code.replace("libertum.worker.oldest_unfinished", "libertum.worker.oldest")

    def unmeasured(m):
        m.measured = m.measured.replace("libertum.worker.cold_start", "libertum.worker.start")

    def report(m):
        m.scripts = {s: t.replace("data_machine_server_restarts_total", "data_machine_restarts_total") for s, t in m.scripts.items()}

    def unread(m):
        m.metrics["others"][0]["metrics"].append("kafka_brokers")

    def threshold(m):
        next(r for _, r in m.alerts() if r["alert"] == "LagWithoutJobs")["for"] = "2h"

    def untested(m):
        m.tests["backup"]["tests"] = m.tests["backup"]["tests"][:1]

    def severity(m):
        next(r for _, r in m.alerts())["labels"] = {}

    def runbook(m):
        m.runbook = m.runbook.replace("## FinalityStalled", "## Other")

    def gone(m):
        m.rules["workers"]["groups"][1]["rules"] = m.rules["workers"]["groups"][1]["rules"][1:]

    def panel(m):
        m.dashboards["pool"]["panels"][0]["targets"][0]["expr"] = "sum by (worker worker:lag:messages"

    def route(m):
        m.values["monitoring/values-kube-prometheus-stack.yaml"]["alertmanager"]["config"]["route"]["routes"].pop(1)

    def promtail(m):
        m.values["logging/values-alloy.yaml"]["image"] = {"repository": "grafana/promtail"}

    def unwritable(m):
        del m.values["logging/values-collector.yaml"]["alloy"]["mounts"]

    def etcd(m):
        del m.values["monitoring/values-kube-prometheus-stack.yaml"]["kubeEtcd"]

    def for_ever(m):
        del m.values["logging/values-loki.yaml"]["loki"]["limits_config"]["retention_period"]

    return [
        ("a metric nobody exports", metrics_known, metric), ("an instrument renamed in the code", metrics_known, instrument),
        ("a metric that no test of the running pool looks for", metrics_known, unmeasured), ("a listed metric that nothing reads", metrics_known, unread), ("a metric that the data machine calls otherwise", metrics_known, report),
        ("an alert that waits too long", rules_hold, threshold),
        ("an alert without a test", alerts_complete, untested), ("an alert without severity", alerts_complete, severity),
        ("a runbook that lost a heading", alerts_complete, runbook), ("a bad day without an alert", covers, gone),
        ("a query that is no PromQL", dashboards_hold, panel), ("pages that reach nobody's pager", routes_hold, route),
        ("Promtail", logs_hold, promtail), ("a collector that cannot write", logs_hold, unwritable), ("a target that is down for ever", logs_hold, etcd), ("logs kept for ever", logs_hold, for_ever),
    ]


def versioned(held):
    """In place of 7: an image of the platform is of a full version, or a digest."""
    for pod in held.pods():
        for container in pod.containers:
            if not re.search(r":v?\d+\.\d+\.\d+$|@sha256:[0-9a-f]{64}$", container.get("image", "")):
                yield f"{pod.where}: image {container.get('image')} is not of one version"


def moving():
    """A tooth for versioned."""
    held = World("production", render(PLATFORM / "production"))
    held.find("Deployment", "kafka-exporter")["spec"]["template"]["spec"]["containers"][0]["image"] = "docker.io/danielqsj/kafka-exporter:v1"
    return [] if list(versioned(held)) else ["nothing found"]


def objects():
    """The platform's own objects: strict schemas, and the policies that concern a cluster."""
    for environment in ("staging", "production"):
        held = World(environment, render(PLATFORM / environment) + render(PLATFORM / "namespaces"))
        yield from (f"{environment}: {p}" for p in problems(held.objects))
        yield from (f"{environment}: {n}: {p}" for n, p in findings(held, CLUSTER_POLICIES))
        yield from (f"{environment}: {p}" for p in versioned(held))
        for space in held.of("Namespace"):
            policies = {label(o) for o in held.of("NetworkPolicy") if get(o, "metadata.namespace") == space["metadata"]["name"]}
            if not {"NetworkPolicy/default-deny", "NetworkPolicy/dns"} <= policies:
                yield f"{environment}: {label(space)}: no default deny, or no DNS"


def every():
    world = load()
    yield "platform: schemas and policies of its objects", objects()
    yield "teeth: an image of the platform that moves", moving()
    for what, check in CHECKS:
        yield what, check(world)
    for what, check, change in bites():
        other = copy.deepcopy(world)
        change(other)
        yield f"teeth: {what}", [] if list(check(other)) else ["nothing found"]
