"""The runbooks name what exists: our scripts and their options, files, programs and units of the data machine, users; and the
cost table adds up: runbooks.py"""
import json
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FILES = os.path.join(ROOT, "infra/modules/vm/files")
RUNBOOKS = os.path.join(ROOT, "docs/runbooks")


def read(*path):
    with open(os.path.join(ROOT, *path)) as file:
        return file.read()


def options_of(command):
    """What a script of ours knows, itself or by the program that it hands its arguments on to."""
    text = read(command)
    if command == "scripts/redrive":
        return "".join(f" --{name.replace('_', '-')}" for name in re.findall(r"pub (\w+):", read("shared/bus/src/redrive/args.rs")))
    return text + (read("scripts/lib/manifests.sh") if command in ("scripts/promote", "scripts/rollback") else "")


def wrong_commands(text):
    for line in text.splitlines():
        for command, rest in re.findall(r"(?<![\w./-])((?:scripts|infra)/[a-z-]+)(?![\w/.*-])([^`|;&]*)", line):
            if not os.path.exists(os.path.join(ROOT, command)):
                yield f"{command} is not there"
            elif os.path.isfile(os.path.join(ROOT, command)):
                known = options_of(command)
                for option in re.findall(r"(?<!\S)--[a-z-]+", rest):
                    if not re.search(re.escape(option) + r"(?![\w-])", known):
                        yield f"{command} has no {option}"


def knows(folder, word):
    """Whether the source of a program has such a command."""
    source = "".join(read(base, file) for base, _, files in os.walk(os.path.join(ROOT, folder)) for file in files if file.endswith(".rs"))
    return re.search(rf"^\s+{word.capitalize()}\b", source, re.M)


def wrong_programs(text):
    """`backup list`, and the args that a Job gives a worker."""
    for name, word in re.findall(r"`(minting|backup|ingestion|valuation|intake|scalers) ([a-z]+)\b", text):
        if not knows("scalers/tool/src" if name == "scalers" else f"workers/{name}/src", word):
            yield f"{name} has no command {word}"
    for word, more in re.findall(r'args = \["([a-z]+)"([^\]]*)\]', text):
        if not knows("workers", word):
            yield f"no worker has a command {word}"
        for option in re.findall(r"--[a-z-]+", more) if word == "redrive" else []:
            if f"{option} " not in options_of("scripts/redrive") + " ":
                yield f"redrive has no {option}"


def wrong_names(text):
    programs = os.listdir(os.path.join(FILES, "bin"))
    units = [f.removesuffix(".service") for f in os.listdir(os.path.join(FILES, "system"))]
    for name in re.findall(r"\b(libertum-[a-z]+)\b(?!-)", text):
        if name not in programs and name not in units and name not in ("libertum-data", "libertum-state", "libertum-staging", "libertum-production"):
            yield f"{name} is neither a program nor a unit of the data machine"
    for link in re.findall(r"\]\(([\w-]+\.md)\)", text):
        if not os.path.exists(os.path.join(RUNBOOKS, link)):
            yield f"{link} is not there"
    for path in re.findall(r"`((?:k8s|infra|scalers)/[\w./-]+)`", text):
        if not re.search("ENV|WORKER", path) and not os.path.exists(os.path.join(ROOT, path)):
            yield f"{path} is not there"
    access = json.loads(read("infra/modules/vm/files/access.json"))
    for user in re.findall(r"-n (\w+)-mongodb-uri", text):
        if user not in access["mongodb"]:
            yield f"{user} is no user of MongoDB"
    for word in re.findall(r"--rotate ([a-z][\w-]*)", text):
        if word not in access["kafka"] and f'"{word}"' not in read("infra/secrets") and f" {word}\n" not in read("infra/secrets"):
            yield f"infra/secrets rotates no {word}"


def wrong_costs(text):
    """The cost table of infra/README: what it calls the sum is the sum of the rows above."""
    sums = [0.0, 0.0]
    for line in text.splitlines():
        cells = [cell.strip().strip("*") for cell in line.split("|")[1:-1]]
        if len(cells) != 5 or not re.search(r"\d\.\d\d$", cells[4]):
            continue
        values = [float(cell.split(":")[-1].replace(",", "")) if cell != "–" else 0.0 for cell in cells[3:]]
        if cells[0].startswith("idle"):
            return [] if [round(s, 2) for s in sums] == values else [f"the rows sum to {[round(s, 2) for s in sums]}, the table says {values}"]
        sums = [s + v for s, v in zip(sums, values)]
    return ["there is no row that begins with idle"]


def wrong(text):
    yield from wrong_commands(text)
    yield from wrong_programs(text)
    yield from wrong_names(text)


# Each of these must be seen.
BREAKS = ["`scripts/nothing`", "`scripts/promote ENV --image`", "`scripts/redrive minting --put-it-back`", "`minting undo`", 'args = ["undo"]', 'args = ["redrive", "--all"]', "on_vm libertum-healthy", "[x](none.md)", "`k8s/none/x.yaml`",
          "-n nobody-mongodb-uri", "--rotate nobody"]


def main():
    problems = [f"runbooks.py does not see {broken}" for broken in BREAKS if not list(wrong(broken))]
    costs = read("infra/README.md")
    problems += [f"infra/README.md: {what}" for what in wrong_costs(costs)]
    if not wrong_costs(costs.replace("62.05", "62.15")):
        problems.append("runbooks.py does not see a price that its sum leaves out")
    for file in sorted(f for f in os.listdir(RUNBOOKS) if f.endswith(".md")):
        problems += [f"docs/runbooks/{file}: {what}" for what in wrong(read("docs/runbooks", file))]
    for what in problems:
        print(what, file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
