"""Helm takes an unknown key without a word: the keys that we set, held against those that the charts have."""
import copy

import yaml

from world import ROOT, get, load_all

HERE = ROOT / "k8s/check/charts.yaml"
PLATFORM = ROOT / "k8s/argocd/base/platform.yaml"
BY_ENVIRONMENT = "set-by-the-environment"


def files(path):
    """The files behind a valueFiles entry: one, or one for each environment."""
    path = path.removeprefix("$values/")
    return [ROOT / path.replace(BY_ENVIRONMENT, e) for e in ("staging", "production")] if BY_ENVIRONMENT in path else [ROOT / path]


def set_by_us():
    """What Argo CD gives each chart: pairs of (chart, version) and the values by file."""
    for application in load_all(PLATFORM.read_text()):
        for source in get(application, "spec.sources"):
            if "chart" in source:
                paths = [f for p in get(source, "helm.valueFiles") for f in files(p)]
                held = {p.relative_to(ROOT).as_posix(): yaml.safe_load(p.read_text()) for p in paths}
                yield source["chart"], source["targetRevision"], held


def unknown(values, keys, at=""):
    """Paths of ours that the chart does not have."""
    if not keys or not isinstance(values, dict):
        return
    for key, value in values.items():
        if key in keys:
            yield from unknown(value, keys[key], f"{at}{key}.")
        else:
            yield f"{at}{key}"


def problems(given, listed):
    read = {e["chart"]: e for e in listed["read"]}
    known = {**read, **{e["chart"]: e for e in listed["unread"]}}
    for chart, version, held in given:
        if chart not in known:
            yield f"{chart}: its keys are not in k8s/check/charts.yaml"
            continue
        if version != known[chart]["pinned"]:
            yield f"{chart}: {version} is installed, but the keys were read for {known[chart]['pinned']}"
        for path, values in held.items() if chart in read else ():
            yield from (f"{path}: the chart {chart} has no {key}" for key in unknown(values, read[chart]["keys"]))
    yield from sorted(f"{chart}: listed, and installed by nobody" for chart in set(known) - {c for c, _, _ in given})


def every():
    given = list(set_by_us())
    listed = yaml.safe_load(HERE.read_text())
    yield "every key of our values is one of its chart", problems(given, listed)
    for what, path, value in (
        ("a misspelt key of a chart", ("alloy", "storagepath"), "/var/lib/alloy"),
        ("a key one step too high", ("podLabels",), {}),
    ):
        other = copy.deepcopy(given)
        at = next(values for chart, _, held in other if chart == "alloy" for values in held.values())
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        yield f"teeth: {what}", [] if list(problems(other, listed)) else ["nothing found"]
    moved = [(chart, "99.0.0" if chart == "loki" else version, held) for chart, version, held in given]
    yield "teeth: a chart that moved on unread", [] if list(problems(moved, listed)) else ["nothing found"]
