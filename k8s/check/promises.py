"""What takes two renders, or files beside them, to see."""
import re
import shutil
import tempfile
from pathlib import Path

from policy import findings
from schemas import problems
from world import ROOT, World, get, label, render

# what the component gateway brings besides
GATEWAY_KINDS = {("gateway.networking.k8s.io", "Gateway"), ("gateway.networking.k8s.io", "HTTPRoute")}


def paths(old, new, at=""):
    """The paths at which two values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(set(old) | set(new), key=str):
            yield from paths(old.get(key), new.get(key), f"{at}/{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for position, (one, other) in enumerate(zip(old, new)):
            yield from paths(one, other, f"{at}/{position}")
    elif old != new:
        yield at


def differences(old, new):
    yield from paths({label(o): o for o in old}, {label(o): o for o in new})


def copy_tree(into):
    for folder in ("k8s", "scalers"):
        shutil.copytree(ROOT / folder, into / folder, ignore=shutil.ignore_patterns("tool", "check", "__pycache__"))
    return into


def edit(path, old, new):
    text = path.read_text()
    if old not in text:
        raise SystemExit(f"k8s-check: {path} has no {old!r}")
    path.write_text(text.replace(old, new, 1))


def one_number(tree, before):
    """Changing one number in a scaler file changes that field of that ScaledJob in production, and no other."""
    for worker, key, new in (("ingestion", "pollingInterval", "pollingInterval: 33"), ("ingestion", "lagThreshold", 'lagThreshold: "33"'), ("minting", "maxReplicaCount", "maxReplicaCount: 3")):
        path = tree / "scalers" / f"{worker}.yaml"
        kept = path.read_text()
        path.write_text(re.sub(rf"{key}: .*", new, kept, count=1))
        found = list(differences(before, render(tree / "k8s/overlays/production")))
        path.write_text(kept)
        where = f"/ScaledJob/{worker}/spec/" + ("triggers/0/metadata/" if key == "lagThreshold" else "") + key
        if found != [where]:
            yield f"{worker} {key}: changed {found}, not exactly {where}"


def images_only(tree, before):
    """What a deployment writes moves images and nothing else, and going back gives the very same render."""
    path = tree / "k8s/overlays/production/images/kustomization.yaml"
    kept = path.read_text()
    path.write_text(re.sub(r'"[0-9a-f]{40}"', f'"{"ab" * 20}"', kept))
    found = list(differences(before, render(tree / "k8s/overlays/production")))
    path.write_text(kept)
    if not found or any(not f.endswith("/image") for f in found):
        yield f"a promotion changes {[f for f in found if not f.endswith('/image')] or 'nothing'}"
    if list(differences(before, render(tree / "k8s/overlays/production"))):
        yield "going back does not give the same render"


def a_setting_restarts(tree, before):
    """A changed setting reaches the pods under a new name, in ScaledJobs too."""
    edit(tree / "k8s/overlays/production/settings.env", "BACKUP_CLUSTER=production", "BACKUP_CLUSTER=other")
    after = render(tree / "k8s/overlays/production")
    edit(tree / "k8s/overlays/production/settings.env", "BACKUP_CLUSTER=other", "BACKUP_CLUSTER=production")
    changed = set(differences(before, after))
    for worker in ("ingestion", "valuation", "minting", "backup"):
        if f"/ScaledJob/{worker}/spec/jobTargetRef/template/spec/containers/0/envFrom/0/configMapRef/name" not in changed:
            yield f"ScaledJob/{worker}: still names the old ConfigMap"


def with_gateway(tree):
    """The Gateway API in the Ingress' place passes everything too."""
    path = tree / "k8s/overlays/production/kustomization.yaml"
    kept = path.read_text()
    edit(path, "  - ../../components/azure\n", "  - ../../components/gateway\n  - ../../components/azure\n")
    world = World("production", render(tree / "k8s/overlays/production"))
    path.write_text(kept)
    yield from problems(world.objects)
    yield from (f"{number}: {problem}" for number, problem in findings(world))
    if world.of("Ingress") or not world.of("Gateway"):
        yield "the Ingress is still there, or the Gateway is not"
    for gateway in world.of("Gateway"):
        # a Service of type LoadBalancer takes a node port a port, the one of the probe among them
        wanted = len(get(gateway, "spec.listeners")) + 1
        for quota in world.of("ResourceQuota"):
            if int(quota["spec"]["hard"]["services.nodeports"]) < wanted:
                yield f"{label(quota)}: the gateway's Service wants {wanted} node ports"
        for listener in get(gateway, "spec.listeners"):
            if not listener["hostname"].startswith("intake.production."):
                yield f"{label(gateway)}: serves {listener['hostname']}"


def bites(tree):
    """For each promise a tree that breaks it."""
    overlay = tree / "k8s/overlays/production"

    def tagged():
        path = overlay / "images/kustomization.yaml"
        path.write_text(path.read_text() + f'commonAnnotations: {{ deployed: "{"0" * 40}" }}\n')

    def patched():
        path = overlay / "kustomization.yaml"
        patch = "  - target: { kind: ScaledJob, name: ingestion }\n    patch: |\n      - { op: replace, path: /spec/pollingInterval, value: 10 }\n"
        path.write_text(path.read_text() + "patches:\n" + patch)

    def unnamed():
        edit(tree / "k8s/base/kustomization.yaml", "configurations:\n  - names.yaml\n", "")

    for what, change, promise in (
        ("a promotion that moves more than images", tagged, images_only),
        ("a scaler's number that an overlay overrides", patched, one_number),
        ("names that do not reach a ScaledJob", unnamed, a_setting_restarts),
    ):
        touched = {p: p.read_text() for p in [*overlay.rglob("kustomization.yaml"), tree / "k8s/base/kustomization.yaml"]}
        change()
        yield what, list(promise(tree, render(overlay)))
        for path, text in touched.items():
            path.write_text(text)


def environments_agree(worlds):
    """Staging and production are the same objects."""
    held = {e: {re.sub(r"-[a-z0-9]{10}$", "", label(o)) for o in worlds[e].objects} for e in ("staging", "production")}
    yield from sorted(f"{o}: in one of them only" for o in held["staging"] ^ held["production"])


def every(worlds):
    before = worlds["production"].objects
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(Path(folder))
        yield "31 images move by one file, and back byte for byte", images_only(tree, before)
        yield "25 one number in scalers/ changes exactly that field", one_number(tree, before)
        yield "27 a changed setting reaches every ScaledJob", a_setting_restarts(tree, before)
        yield "28 the component gateway passes everything", with_gateway(tree)
        for what, found in bites(tree):
            yield f"teeth: {what}", [] if found else ["nothing found"]
    yield "staging and production are the same objects", environments_agree(worlds)
