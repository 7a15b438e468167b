"""Strict validation against the API server's schemas, offline: unknown fields are errors, and all errors are told."""
import json
import os
from functools import lru_cache
from pathlib import Path

import jsonschema
import yaml
from referencing import Registry, Resource

from world import ROOT, as_jobs, label

HERE = Path(__file__).parent / "schemas"
# KEDA's own CRDs, which `scalers check` reads too
KEDA = ROOT / "scalers/tool/schema"


def strict(schema):
    """A CRD's schema as the API server goes by it with strict field validation."""
    if isinstance(schema, list):
        return [strict(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    out = {k: strict(v) for k, v in schema.items() if k != "properties"}
    if "properties" in schema:
        out["properties"] = {k: strict(v) for k, v in schema["properties"].items()}
        if "additionalProperties" not in out and not schema.get("x-kubernetes-preserve-unknown-fields"):
            out["additionalProperties"] = False
    if out.pop("x-kubernetes-int-or-string", False):
        out.pop("anyOf", None)
        out["type"] = ["integer", "string"]
    return out


@lru_cache(maxsize=1)
def custom():
    found = {}
    for path in [*sorted(HERE.glob("*.yaml")), *sorted(KEDA.glob("keda.sh_*.yaml"))]:
        for crd in yaml.safe_load_all(path.read_text()):
            for version in crd["spec"]["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                # the API server checks these by itself
                schema.setdefault("properties", {}).update(metadata={"type": "object"}, apiVersion={}, kind={})
                found[crd["spec"]["group"] + "/" + version["name"], crd["spec"]["names"]["kind"]] = schema
    return found


@lru_cache(maxsize=1)
def definitions():
    held = json.loads((Path(os.environ["CHECK_SCHEMAS"]) / "_definitions.json").read_text())
    return Registry().with_resource(held["$id"], Resource.from_contents(held))


@lru_cache(maxsize=None)
def validator(api_version, kind):
    schema = custom().get((api_version, kind))
    registry = Registry()
    if schema is None:
        registry = definitions()
        group, _, version = api_version.rpartition("/")
        parts = [kind.lower()] + ([group.split(".")[0]] if group else []) + [version]
        path = Path(os.environ["CHECK_SCHEMAS"]) / ("-".join(parts) + ".json")
        if not path.exists():
            return None
        schema = json.loads(path.read_text())
    return jsonschema.Draft202012Validator(schema, registry=registry)


def problems(objects):
    for thing in list(objects) + list(as_jobs(objects)):
        check = validator(thing.get("apiVersion", ""), thing.get("kind", ""))
        if check is None:
            yield f"{label(thing)}: no schema for {thing.get('apiVersion')} {thing.get('kind')}: add its CRD to k8s/check/schemas"
            continue
        for error in check.iter_errors(thing):
            yield f"{label(thing)}: {'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"
