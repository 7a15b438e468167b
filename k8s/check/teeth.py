"""The policies bite: for each a change of the production render that it must find, and none that finds nothing."""
import copy
from pathlib import Path

import yaml

from policy import POLICIES, findings
from schemas import problems
from world import World, label

HERE = Path(__file__).parent
REMOVE = "<remove>"


class Exemptions:
    def __init__(self, listed):
        self.listed = listed
        self.used = set()

    def without(self, number, found):
        for problem in found:
            held = next((i for i, e in enumerate(self.listed) if e["policy"] == number and ("*" in e["objects"] or problem.startswith(tuple(e["objects"])))), None)
            if held is None:
                yield problem
            else:
                self.used.add(held)

    def unused(self):
        return [f"policy {e['policy']}: {e['because']}" for i, e in enumerate(self.listed) if i not in self.used]


def exemptions():
    return Exemptions(yaml.safe_load((HERE / "exemptions.yaml").read_text()))


def put(thing, path, value):
    """Sets, or removes, what stands at a path; '/' between its steps, since names of labels have dots."""
    steps = path.split("/")
    steps = [s.replace("~1", "/") for s in steps]
    for step in steps[:-1]:
        if isinstance(thing, list):
            thing = thing[int(step)]
        else:
            thing = thing.setdefault(step, {})
    last = steps[-1]
    if isinstance(thing, list):
        if last == "-":
            thing.append(value)
        elif value == REMOVE:
            thing.pop(int(last))
        else:
            thing[int(last)] = value
    elif value == REMOVE:
        del thing[last]
    else:
        thing[last] = value


def broken(world, fixture):
    other = World(world.environment, copy.deepcopy(world.objects))
    for wanted in fixture.get("add", []):
        other.objects.append(wanted)
    if "source" in fixture:
        other.sources = {"k8s/base/somewhere.yaml": fixture["source"]}
    for target, changes in fixture.get("change", {}).items():
        hit = [o for o in other.objects if label(o) == target or (target.endswith("*") and label(o).startswith(target[:-1]))]
        if not hit:
            raise SystemExit(f"k8s-check: a fixture of policy {fixture['breaks']} changes {target}, which is not there")
        for thing in hit:
            for path, value in changes.items():
                put(thing, path, value)
    if fixture.get("drop"):
        before = len(other.objects)
        other.objects = [o for o in other.objects if label(o) not in fixture["drop"]]
        if len(other.objects) == before:
            raise SystemExit(f"k8s-check: a fixture drops {fixture['drop']}, which is not there")
    return other


def every(worlds):
    world = worlds["production"]
    fixtures = yaml.safe_load((HERE / "fixtures.yaml").read_text())
    for fixture in fixtures:
        number = fixture["breaks"]
        what = f"teeth: {number} finds {fixture['when']}"
        other = broken(world, fixture)
        if number == "schema":
            yield what, [] if list(problems(other.objects)) else ["nothing found"]
        else:
            yield what, [] if findings(other, {number}) else ["nothing found"]
    bitten = {f["breaks"] for f in fixtures}
    yield "teeth: every policy has a fixture that fails it", [f"policy {n}: none" for n in sorted(set(POLICIES) - bitten)]
