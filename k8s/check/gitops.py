"""30: what Argo CD is told, held against what there is."""
import copy
import re
from dataclasses import dataclass

import yaml

from schemas import problems
from world import ROOT, World, get, label, name, render

ARGOCD = ROOT / "k8s/argocd"


@dataclass
class GitOps:
    environment: str
    argo: World
    pool: World
    gateway_kinds: set

    def applications(self):
        """Every Application, the templates of ApplicationSets among them."""
        for thing in self.argo.of("Application"):
            yield label(thing), thing["spec"]
        for thing in self.argo.of("ApplicationSet"):
            yield label(thing), get(thing, "spec.template.spec")


def sources(spec):
    return spec.get("sources") or [spec["source"]]


def projects(g):
    """Projects name what may come from where; nothing has a star."""
    for project in g.argo.of("AppProject"):
        for repo in get(project, "spec.sourceRepos"):
            if "*" in repo:
                yield f"{label(project)}: takes from {repo}"
        for place in get(project, "spec.destinations"):
            if "*" in place["namespace"] + place["server"]:
                yield f"{label(project)}: may write to {place}"
        listed = (get(project, "spec.clusterResourceWhitelist") or []) + (get(project, "spec.namespaceResourceWhitelist") or [])
        if not listed or any("*" in e["group"] + e["kind"] for e in listed):
            yield f"{label(project)}: may bring every kind"


def applications(g):
    """An Application has a project, mends itself, keeps its history, and takes nothing that moves."""
    for what, spec in g.applications():
        project = g.argo.find("AppProject", spec.get("project"))
        if project is None:
            yield f"{what}: project {spec.get('project')}"
            continue
        automated = get(spec, "syncPolicy.automated") or {}
        if not (automated.get("selfHeal") and automated.get("prune")):
            yield f"{what}: without selfHeal and prune"
        if spec.get("revisionHistoryLimit", 0) < 10:
            yield f"{what}: fewer than 10 revisions of history"
        if get(spec, "destination.namespace") not in {d["namespace"] for d in get(project, "spec.destinations")}:
            yield f"{what}: its project may not write to {get(spec, 'destination.namespace')}"
        for source in sources(spec):
            if source["repoURL"] not in get(project, "spec.sourceRepos"):
                yield f"{what}: its project takes nothing from {source['repoURL']}"
            wanted = r"\d+\.\d+\.\d+" if "chart" in source else g.environment
            if not re.fullmatch(wanted, source["targetRevision"]):
                yield f"{what}: targetRevision {source['targetRevision']}"


def files(g):
    """Every path and values file that is named is there, for this environment."""
    for what, spec in g.applications():
        for source in sources(spec):
            for path in [source.get("path"), *(get(source, "helm.valueFiles") or [])]:
                if path and "{{" not in path and not (ROOT / path.removeprefix("$values/")).exists():
                    yield f"{what}: no {path}"
    for thing in g.argo.of("ApplicationSet"):
        for generator in get(thing, "spec.generators"):
            for entry in get(generator, "git.directories") or []:
                if entry["path"] != f"k8s/overlays/{g.environment}" or not (ROOT / entry["path"]).is_dir():
                    yield f"{label(thing)}: serves {entry['path']}"


def kinds(g):
    """The pool's project allows exactly the kinds that the pool has."""
    project = g.argo.find("AppProject", "libertum")
    allowed = {(e["group"], e["kind"]) for k in ("clusterResourceWhitelist", "namespaceResourceWhitelist") for e in get(project, f"spec.{k}")}
    used = {(o["apiVersion"].rpartition("/")[0], o["kind"]) for o in g.pool.objects} | g.gateway_kinds
    yield from sorted(f"AppProject/libertum: does not allow {k}" for k in used - allowed)
    yield from sorted(f"AppProject/libertum: allows {k}, which the pool has not" for k in allowed - used)


def waves(g):
    """Namespaces first, then who brings kinds, then who needs them, then the pool."""
    wave = {name(o): int(get(o, "metadata.annotations", {}).get("argocd.argoproj.io/sync-wave", "0")) for o in g.argo.of("Application", "ApplicationSet", "AppProject")}
    order = ["libertum", "namespaces", "kube-prometheus-stack", "platform-objects", "collector", "pool"]
    for first, then in zip(order, order[1:]):
        if not wave[first] < wave[then]:
            yield f"{then} does not wait for {first}"


def health(_):
    """Waves of Applications and ScaledJobs wait for a health that somebody gives them."""
    held = yaml.safe_load((ARGOCD / "values-argocd.yaml").read_text())["configs"]["cm"]
    for kind in ("argoproj.io_Application", "keda.sh_ScaledJob"):
        if "return" not in held.get(f"resource.customizations.health.{kind}", ""):
            yield f"values-argocd.yaml: no health for {kind}"
    if held.get("application.resourceTrackingMethod") != "annotation":
        yield "values-argocd.yaml: tracking by label takes KEDA's jobs for members"


CHECKS = [
    ("30 projects name their sources and targets", projects),
    ("30 applications are pinned, mend themselves and keep their history", applications),
    ("every file that Argo CD is sent to is there", files),
    ("the pool's project allows exactly its kinds", kinds),
    ("waves are in order", waves),
    ("applications and ScaledJobs have a health", health),
]


def bites():
    def star(g):
        g.argo.find("AppProject", "libertum")["spec"]["sourceRepos"].append("*")

    def head(g):
        g.argo.find("Application", "traefik")["spec"]["sources"][0]["targetRevision"] = "HEAD"

    def drift(g):
        g.argo.find("ApplicationSet", "pool")["spec"]["template"]["spec"]["syncPolicy"]["automated"]["selfHeal"] = False

    def default(g):
        g.argo.find("Application", "loki")["spec"]["project"] = "default"

    def other(g):
        g.argo.find("ApplicationSet", "pool")["spec"]["generators"][0]["git"]["directories"][0]["path"] = "k8s/overlays/local"

    def kind(g):
        g.pool.objects.append({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "x"}})

    def early(g):
        g.argo.find("Application", "platform-objects")["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"] = "-9"

    return [
        ("a project that takes from everywhere", projects, star), ("a chart that moves", applications, head), ("an application that drifts", applications, drift),
        ("an application of the project default", applications, default), ("a cluster that serves another environment", files, other),
        ("a kind that the project does not allow", kinds, kind), ("objects before their kinds", waves, early),
    ]


def every(worlds, gateway_kinds):
    held = []
    for environment in ("staging", "production"):
        argo = World(environment, render(ARGOCD / environment))
        yield f"argocd/{environment}: schemas", problems(argo.objects)
        held.append(GitOps(environment, argo, worlds[environment], gateway_kinds))
    for g in held:
        for what, check in CHECKS:
            yield f"{g.environment}: {what}", check(g)
    for what, check, change in bites():
        other = copy.deepcopy(held[1])
        change(other)
        yield f"teeth: {what}", [] if list(check(other)) else ["nothing found"]
