"""What cloud-init will be given, against cloud-init's own schema, and against the files that it brings."""
import base64
import gzip
import json
import os
import re

import jsonschema
import yaml

VM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "modules/vm")
ACCESS = "/usr/local/share/libertum/access.json"
# Of the 4 GiB (3.9 GiB are seen): the servers and the exporters, and what the system itself needs.
CAPS_MIB = 3400
SYSTEM_MIB = 600
EXPORTERS = 2
DISK_GB = 30


def wrong(cloud_config, schema):
    """What is wrong with the cloud config that Terraform renders."""
    if not cloud_config.startswith("#cloud-config\n"):
        yield "the first line is not #cloud-config"
    config = yaml.safe_load(cloud_config)
    for error in jsonschema.Draft4Validator(schema).iter_errors(config):
        yield f"{'.'.join(map(str, error.path))}: {error.message}"
    # cloud-init passes over keys that it does not know.
    known = {key for part in schema["allOf"] for key in schema["$defs"][part["$ref"].split("/")[-1]].get("properties", {})}
    for key in set(config) - known:
        yield f"cloud-init knows no {key}"
    brought = {}
    for entry in config["write_files"]:
        content = entry["content"]
        if entry["encoding"] == "gz+b64":
            content = gzip.decompress(base64.b64decode(content)).decode()
        brought[entry["path"]] = content
    yield from files_are_whole(brought)
    yield from no_secrets(brought)
    yield from memory_fits(brought)
    yield from disk_fits(brought)
    yield from rights_are_small(brought)


def files_are_whole(brought):
    listed = {entry[0] for entry in json.load(open(os.path.join(VM, "files.json")))["files"]}
    for base, folders, files in os.walk(os.path.join(VM, "files")):
        folders[:] = [f for f in folders if f != "__pycache__"]
        for file in files:
            name = os.path.relpath(os.path.join(base, file), os.path.join(VM, "files"))
            if name not in listed:
                yield f"files/{name} is not brought to the machine (files.json)"
    for path, content in brought.items():
        for program in re.findall(r"^Exec\w+=(/usr/local/sbin/\S+)", content, re.M):
            if program not in brought:
                yield f"{path} runs {program}, which nothing brings"


def no_secrets(brought):
    for path, content in brought.items():
        if re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/=]", content):
            yield f"{path} holds a key"
    for name, value in json.loads(brought["/etc/libertum/settings.json"]).items():
        if re.search(r"password|secret|key$", name) and name != "mongodb_key":
            yield f"settings.json has {name}: {value}"


def cap(brought, path):
    return int(re.search(r"^MemoryMax=(\d+)M$", brought[path], re.M).group(1))


def memory_fits(brought):
    units = {s: cap(brought, f"/etc/systemd/system/libertum-{s}.service") for s in ("kafka", "mongodb", "redis")}
    exporter = cap(brought, "/etc/systemd/system/prometheus-node-exporter.service.d/libertum.conf")
    total = sum(units.values()) + EXPORTERS * exporter + SYSTEM_MIB
    if total > CAPS_MIB:
        yield f"the memory caps sum to {total} MiB with the system's {SYSTEM_MIB}, more than {CAPS_MIB}"
    # What each server allows itself must be well below where the kernel ends it.
    jvm = brought["/usr/local/share/libertum/kafka/jvm.options"]
    allowed = sum(int(n) for n in re.findall(r"(?:-Xmx|MaxDirectMemorySize=|MaxMetaspaceSize=|ReservedCodeCacheSize=)(\d+)m", jvm))
    if allowed + 100 > units["kafka"]:
        yield f"Java may take {allowed} MiB and 100 of its own, the cap is {units['kafka']}"
    cache = float(re.search(r"cacheSizeGB: ([\d.]+)", brought["/usr/local/share/libertum/mongodb/mongod.conf.in"]).group(1)) * 1024
    if cache * 1.5 > units["mongodb"]:
        yield f"MongoDB's cache of {cache:g} MiB leaves its connections no room below {units['mongodb']}"
    redis = int(re.search(r"^maxmemory (\d+)mb", brought["/usr/local/share/libertum/redis/redis.conf.in"], re.M).group(1))
    if redis * 1.5 > units["redis"]:
        yield f"Redis may hold {redis} MiB, and half as much again while it rewrites its file: more than {units['redis']}"


def topics():
    with open(os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(VM))), "scalers/topics.yaml")) as file:
        return yaml.safe_load(file)["topics"]


def rights_are_small(brought):
    """Nobody may give himself rights, no worker reaches every topic, and each entry is of something that exists."""
    known = {topic["name"] for topic in topics()}
    for user, rights in json.loads(brought[ACCESS])["kafka"].items():
        for operation, kind, name in (right.split(" ") for right in rights):
            # Who may alter the cluster makes users and access lists.
            if kind == "CLUSTER" and operation not in ("CREATE", "DESCRIBE"):
                yield f"{user} may {operation} the cluster"
            if name == "*" and user not in ("prepare", "operator") and operation != "DESCRIBE":
                yield f"{user} may {operation} every {kind.lower()}"
            if kind == "TOPIC" and name != "*" and name not in known:
                yield f"{user} has a right on {name}, which scalers/topics.yaml does not have"


def disk_fits(brought):
    """System and packages 7 GB, swap 2, journal, Kafka's topics, the oplog and the rest of MongoDB, a fifth free."""
    kafka = sum(t["partitions"] * (t["retentionBytes"] + t["segmentBytes"]) for t in topics()) / 1e9 + 0.6
    journal = int(re.search(r"SystemMaxUse=(\d+)M", brought["/etc/systemd/journald.conf.d/libertum.conf"]).group(1)) / 1e3
    oplog = int(re.search(r"oplogSizeMB: (\d+)", brought["/usr/local/share/libertum/mongodb/mongod.conf.in"]).group(1)) / 1e3
    redis = 1
    left = DISK_GB * 0.8 - 7 - 2 - journal - kafka - oplog - redis
    if left < 5:
        yield f"the disk leaves MongoDB {left:.1f} GB besides its oplog: Kafka {kafka:.1f}, journal {journal:.1f}"


def toothless(cloud_config, schema):
    """The changes that the checks above do not find."""
    for what, change in {
        "an unknown key": lambda c: c.update(package_updates=True),
        "a wrong type": lambda c: c.update(runcmd="echo"),
        "a program that nothing brings": lambda c: c.update(write_files=[f for f in c["write_files"] if not f["path"].endswith("libertum-refresh")]),
        "memory beyond the machine": lambda c: swap(c, "/etc/systemd/system/libertum-redis.service", "MemoryMax=450M", "MemoryMax=950M"),
        "a heap beyond its cap": lambda c: swap(c, "/usr/local/share/libertum/kafka/jvm.options", "-Xmx512m", "-Xmx900m"),
        "an oplog beyond the disk": lambda c: swap(c, "/usr/local/share/libertum/mongodb/mongod.conf.in", "oplogSizeMB: 1024", "oplogSizeMB: 9024"),
        "a user who may make users": lambda c: swap(c, ACCESS, "DESCRIBE CLUSTER", "ALTER CLUSTER"),
        "a worker who reads everything": lambda c: swap(c, ACCESS, "READ TOPIC valuation", "READ TOPIC *"),
        "a right on a topic of another time": lambda c: swap(c, ACCESS, "WRITE TOPIC asset-events", "WRITE TOPIC events"),
    }.items():
        broken = yaml.safe_load(cloud_config)
        change(broken)
        if not list(wrong("#cloud-config\n" + yaml.safe_dump(broken), schema)):
            yield what


def swap(config, path, old, new):
    entry = next(f for f in config["write_files"] if f["path"] == path)
    content = gzip.decompress(base64.b64decode(entry["content"])).decode()
    assert old in content, f"{path} has no {old} any more"
    entry["content"] = base64.b64encode(gzip.compress(content.replace(old, new).encode())).decode()
