"""41: Dockerfile.worker and .dockerignore, held against the other places that say the same.

Where this leaves the assertion: it wants base images by digest, and here they are by the tag of a version, as was asked for; the image workflow finds
out the digest that each tag had, refuses to go on without it, and keeps it in the provenance (docs/decisions/0005).
"""
import re
from dataclasses import dataclass, replace

from world import ROOT, World


@dataclass
class Images:
    dockerfile: str
    ignore: str
    toolchain: str
    versions: str
    production: World

    def lines(self):
        """Instructions, continued lines joined, without comments."""
        bare = "\n".join(line for line in self.dockerfile.splitlines() if not line.startswith("#"))
        return [line.strip() for line in bare.replace("\\\n", " ").splitlines() if line.strip()]

    def argument(self, name):
        return next((line.partition("=")[2] for line in self.lines() if line.startswith(f"ARG {name}=")), None)

    def last_stage(self):
        lines = self.lines()
        return lines[max(i for i, line in enumerate(lines) if line.startswith("FROM")):]


def load(worlds):
    read = lambda path: (ROOT / path).read_text()  # noqa: E731
    return Images(read("Dockerfile.worker"), read(".dockerignore"), read("rust-toolchain.toml"), read("scripts/versions.env"), worlds["production"])


def empty(i):
    """What runs is an empty image with one program, as nobody."""
    last = i.last_stage()
    if last[0] != "FROM base-${WORKER}" or not all(line.startswith("FROM scratch") for line in i.lines() if re.match(r"FROM \S+ AS base-", line)):
        yield "the last stage does not stand on an empty image"
    for line in last:
        if line.startswith(("RUN", "ADD", "SHELL", "CMD")):
            yield f"the last stage has {line}"
    user = next((line.split()[1] for line in last if line.startswith("USER")), "root")
    pods = {p.security(c, "runAsUser") for p in i.production.pods("ScaledJob") for c in p.containers}
    if not re.fullmatch(r"[1-9]\d{4,}:[1-9]\d{4,}", user) or {int(user.split(":")[0])} != pods:
        yield f"USER {user}; the pods run as {pods}"
    if 'ENTRYPOINT ["/worker"]' not in last:
        yield "no entry point in exec form"
    for label in ("title", "licenses", "revision", "version"):
        if f"org.opencontainers.image.{label}=" not in " ".join(last):
            yield f"no label {label}"


def careful(i):
    """Locked, by exact versions, without secrets."""
    for line in i.lines():
        if line.startswith("ADD"):
            yield line
        if re.search(r"cargo (auditable )?(build|chef cook|install)", line) and "--locked" not in line:
            yield f"not locked: {line[:80]}"
        if re.match(r"(ARG|ENV) .*(PASSWORD|SECRET|TOKEN|KEY|SAS)", line):
            yield f"a secret in {line[:80]}"
        named = re.match(r"FROM (\S+)", line)
        # a stage that an argument names is a stage of this file, unless a builder says otherwise
        chosen = re.match(r"FROM \$\{([A-Z_]+)\} AS ", line)
        if chosen:
            if i.argument(chosen[1]) not in stages(i):
                yield f"{chosen[1]} is {i.argument(chosen[1])}, no stage of this file"
            continue
        if named and ":" not in named[1] and named[1] not in stages(i) and named[1] not in ("scratch", "base-${WORKER}"):
            yield f"{named[1]} without a version"
        if named and named[1].endswith(":latest"):
            yield f"{named[1]} moves"
    for hidden in ("**/target/", "**/.git/", "**/.env*", "**/.stack/"):
        if hidden not in i.ignore.splitlines():
            yield f".dockerignore: lets {hidden} through"
    if "*" not in i.ignore.splitlines():
        yield ".dockerignore: does not begin with nothing"


def stages(i):
    return {m[1] for line in i.lines() if (m := re.search(r" AS (\S+)$", line))}


def agree(i):
    """Versions and names are those of the rest of the project."""
    channel = re.search(r'channel = "([^"]+)"', i.toolchain)[1]
    if i.argument("RUST_VERSION") != channel:
        yield f"Rust {i.argument('RUST_VERSION')}, and {channel} in rust-toolchain.toml"
    go, tools = (re.search(rf"^MONGO_TOOLS_{name}=(.+)$", i.versions, re.M)[1] for name in ("GO_VERSION", "VERSION"))
    if number(i.argument("GO_VERSION")) < number(go):
        yield f"GO_VERSION is {i.argument('GO_VERSION')}, and {go} at least in scripts/versions.env"
    if i.argument("MONGO_TOOLS_VERSION") != tools:
        yield f"MONGO_TOOLS_VERSION is {i.argument('MONGO_TOOLS_VERSION')}, and {tools} in scripts/versions.env"
    run = {re.search(r"/([a-z]+)[:@]", c["image"])[1] for p in i.production.pods() for c in p.containers if "/" in c["image"]}
    built = {s.removeprefix("base-") for s in stages(i) if s.startswith("base-")}
    copied = set(get_programs(i))
    for name in run - built - {"pause", "clamd"}:
        yield f"{name} runs, and is not built"
    for name in built ^ copied:
        yield f"{name} is a stage or a program, not both"


def number(version):
    return [int(part) for part in version.split(".")]


def get_programs(i):
    return re.search(r"for program in ([a-z ]+);", " ".join(i.lines()))[1].split()


CHECKS = [("41 an image is one program, run by nobody", empty), ("41 builds are locked, by version, without secrets", careful), ("41 images agree with the rest", agree)]


def bites():
    def swap(old, new, what="dockerfile"):
        def change(i):
            text = getattr(i, what)
            assert old in text, old
            return replace(i, **{what: text.replace(old, new)})

        return change

    return [
        ("an image that runs as root", empty, swap("USER 65532:65532", "USER root")),
        ("a shell under a worker", empty, swap("FROM scratch AS base-intake", "FROM debian:bookworm AS base-intake")),
        ("an entry point by shell", empty, swap('ENTRYPOINT ["/worker"]', "ENTRYPOINT /worker")),
        ("a build that is not locked", careful, swap("cargo auditable build --release --locked", "cargo auditable build --release")),
        ("a base that moves", careful, swap("mongo:${MONGODB_VERSION} AS", "mongo:latest AS")),
        ("a stage from somewhere else, unasked", careful, swap("ARG MONGO_TOOLS=mongo-tools", "ARG MONGO_TOOLS=docker.io/somebody/tools:1")),
        ("a secret as an argument", careful, swap("ARG REVISION=unknown", "ARG KAFKA_SASL_PASSWORD=x")),
        ("keys in the build's context", careful, swap("**/.stack/\n", "", "ignore")),
        ("another Rust than the project's", agree, swap("RUST_VERSION=1.95.0", "RUST_VERSION=1.94.0")),
        ("a Go that is too old for MongoDB's tools", agree, swap("ARG GO_VERSION=1.26.8", "ARG GO_VERSION=1.24.13")),
        ("other tools than the scripts'", agree, swap("ARG MONGO_TOOLS_VERSION=v0", "ARG MONGO_TOOLS_VERSION=v1")),
        ("a worker that is not built", agree, swap("FROM scratch AS base-valuation\n", "")),
    ]


def every(worlds):
    held = load(worlds)
    for what, check in CHECKS:
        yield what, check(held)
    for what, check, change in bites():
        yield f"teeth: {what}", [] if list(check(change(held))) else ["nothing found"]
