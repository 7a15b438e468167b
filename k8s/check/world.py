"""What is checked: the rendered objects of one environment, with every pod in them found and unwrapped."""
import copy
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
KUBECTL = os.environ.get("CHECK_KUBECTL", "kubectl")

# where a kind keeps its pod template
TEMPLATES = {
    "Deployment": "spec.template",
    "StatefulSet": "spec.template",
    "DaemonSet": "spec.template",
    "Job": "spec.template",
    "CronJob": "spec.jobTemplate.spec.template",
    "ScaledJob": "spec.jobTargetRef.template",
}
LONG_RUNNING = ("Deployment", "StatefulSet", "DaemonSet")


def get(value, path, default=None):
    """The value at a dotted path, list positions as numbers."""
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return default
    return value


def name(thing):
    return get(thing, "metadata.name", "?")


def label(thing):
    return f"{thing.get('kind')}/{name(thing)}"


def cpu(text):
    """In millicores."""
    text = str(text)
    return float(text[:-1]) if text.endswith("m") else float(text) * 1000


def memory(text):
    """In MiB."""
    units = {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024, "Ti": 1024 * 1024, "M": 1e6 / 2**20, "G": 1e9 / 2**20}
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()
    return float(number) * (units[unit] if unit else 1 / 2**20)


@dataclass
class Pod:
    owner: dict
    metadata: dict
    spec: dict

    @property
    def where(self):
        return label(self.owner)

    @property
    def labels(self):
        return self.metadata.get("labels") or {}

    @property
    def containers(self):
        return (self.spec.get("initContainers") or []) + (self.spec.get("containers") or [])

    def security(self, container, key):
        """A container's own setting, else its pod's."""
        own = container.get("securityContext") or {}
        return own[key] if key in own else (self.spec.get("securityContext") or {}).get(key)


class Loader(yaml.SafeLoader):
    """As Go reads it: a number that does not fit 64 bits (an address of a contract) is text."""


def _integer(loader, node):
    number = loader.construct_yaml_int(node)
    return number if abs(number) < 2**63 else node.value


Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def load_all(text):
    return [o for o in yaml.load_all(text, Loader=Loader) if o]  # noqa: S506 (a safe loader)


class World:
    def __init__(self, environment, objects):
        self.environment = environment
        self.objects = [o for o in objects if o]

    def copy(self):
        return World(self.environment, copy.deepcopy(self.objects))

    def of(self, *kinds):
        return [o for o in self.objects if o.get("kind") in kinds]

    def find(self, kind, wanted):
        return next((o for o in self.of(kind) if name(o) == wanted), None)

    def pods(self, *kinds):
        for thing in self.of(*(kinds or TEMPLATES)):
            template = get(thing, TEMPLATES[thing["kind"]], {})
            yield Pod(thing, template.get("metadata") or {}, template.get("spec") or {})

    def topics(self):
        held = next(o for o in self.of("ConfigMap") if name(o).startswith("topics"))
        return {t["name"]: t for t in yaml.safe_load(held["data"]["topics.yaml"])["topics"]}

    def settings(self):
        return next(o for o in self.of("ConfigMap") if name(o).startswith("settings"))["data"]


def render(folder):
    done = subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise SystemExit(f"k8s-check: {folder} does not render: {done.stderr.strip()[-600:]}")
    return load_all(done.stdout)


def as_jobs(objects):
    """Every ScaledJob and CronJob as the Job it makes, so that the schema of Job is held against it."""
    for thing in objects:
        spec = {"ScaledJob": "spec.jobTargetRef", "CronJob": "spec.jobTemplate.spec"}.get(thing.get("kind"))
        if spec:
            meta = {"name": name(thing), "namespace": get(thing, "metadata.namespace")}
            yield {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": get(thing, spec)}
