"""Checks infra/ offline: python infra/check PACKAGE CLOUD_INIT_SCHEMA

PACKAGE: the unpacked npm package @cdktf/provider-azurerm. CLOUD_INIT_SCHEMA: schema-cloud-config-v1.json of cloud-init.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import cloud_init
import policies
import settings
import teeth
import terraform

# Settings that must be refused, and a word of why.
REFUSED = {
    "archive": settings.changed(storage_replication="GZRS"),
    "Say who may reach": settings.changed(api_authorized_ranges=[]),
    "nobody could administer": settings.changed(admin_group_ids=[]),
    "Somebody must be told": settings.changed(mail=[]),
    "starter or hardened": settings.changed(size="medium"),
    "OWNER/NAME": settings.changed(github_repository="pool"),
    "must be a /16": settings.changed(cidr="10.20.0.0/20"),
    "128 hexadecimal": settings.changed(vm={**settings.STARTER["vm"], "kafka_sha512": "SHA512-OF-THE-ARCHIVE"}),
}
# Edits that must not validate: they show that arguments and references are really looked at.
INVALID = [
    ("modules/vm/main.tf", "encryption_at_host_enabled", "encryption_at_hosts_enabled", "Unsupported argument"),
    ("modules/storage/main.tf", '  account_tier                      = "Standard"\n', "", "Missing required argument"),
    ("modules/network/main.tf", "azurerm_nat_gateway.this.id", "azurerm_nat_gateway.that.id", "undeclared resource"),
    ("modules/aks/main.tf", "workload_autoscaler_profile {", "workload_autoscaler {", "Unsupported block type"),
    ("modules/aks/main.tf", "max_pods                     = local.max_pods", 'max_pods                     = "fifty"', "a number is required"),
]


def expect_failure(what, word, run):
    try:
        run()
    except terraform.Failed as failed:
        if word.lower() in " ".join(str(failed).replace("│", " ").split()).lower():
            return []
        return [f"{what}: refused, but for another reason: {failed}"]
    return [f"{what}: not refused"]


def outputs_feed_the_overlay(output):
    """infra/overlay puts every value where the manifests read it, once, and writes nothing when one has no place."""
    with tempfile.TemporaryDirectory() as folder:
        k8s = os.path.join(folder, "k8s")
        shutil.copytree(os.path.join(policies.ROOT, "k8s"), k8s)

        def write(given):
            command = [sys.executable, os.path.join(policies.ROOT, "infra/overlay"), "production", "--k8s", k8s]
            return subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=60)

        odd = {**output, "overlay": {**output["overlay"], "identity-nobody": "word"}}
        if write(odd).returncode == 0 or subprocess.run(["diff", "-r", os.path.join(policies.ROOT, "k8s"), k8s], capture_output=True).returncode:
            yield "a value without a place is not refused, or something was written all the same"
        if (first := write(output)).returncode:
            yield first.stderr
        if (again := write(output)).returncode or again.stdout:
            yield f"a second time is not the same: {again.stdout}{again.stderr}"
        texts = ""
        for file in first.stdout.split():
            with open(os.path.join(folder, file)) as text:
                texts += text.read()
        for name, value in {**output["overlay"], **output["settings"]}.items():
            if value not in texts:
                yield f"{name} is not in the manifests"
        if len(first.stdout.split()) != 3:
            yield f"written: {first.stdout.split()}, of three files"


def vm_actions(plan):
    return [c["change"]["actions"] for c in plan["resource_changes"] if c["type"] == "azurerm_linux_virtual_machine"][0]


def edit_of_cloud_init_replaces_nothing(space):
    """With a state in place: an edit changes what a new machine would get, and plans nothing for the one that runs."""
    space.edit("modules/vm/files/redis/redis.conf.in", "maxclients 500", "maxclients 400")
    wrong = []
    if (actions := vm_actions(space.plan(settings.STARTER))) != ["no-op"]:
        wrong.append(f"an edit of cloud-init plans {actions} for the data machine")
    space.edit("modules/vm/main.tf", "ignore_changes = [custom_data, ", "ignore_changes = [")
    if vm_actions(space.plan(settings.STARTER)) == ["no-op"]:
        wrong.append("without ignore_changes nothing is planned either: this test sees nothing")
    return wrong + expect_failure("destroying", "cannot be destroyed", lambda: space.plan(settings.STARTER, "-destroy"))


def main():
    package, schema_file = sys.argv[1:]
    wrong = []
    with terraform.workspace(package, "staging") as space:
        space.validate()
    with terraform.workspace(package, "production") as space:
        space.validate()
        starter, hardened = space.plan(settings.STARTER), space.plan(settings.hardened())
        for size, found, extra in (("starter", starter, policies.starter_is_cheap), ("hardened", hardened, policies.hardened_has_its_parts)):
            plan = policies.Plan(found)
            for policy in [*policies.EVERY, extra]:
                wrong += [f"{size}: {policy.__name__}: {what}" for what in policy(plan)]
            print(f"infra: {size}: {len(plan.resources)} resources, {len(policies.EVERY) + 1} policies", file=sys.stderr)
        wrong += teeth.toothless(starter, hardened)
        for word, refused in REFUSED.items():
            wrong += expect_failure(f"settings ({word})", word, lambda: space.plan(refused))
        with open(schema_file) as file:
            schema = json.load(file)
        space.plan(settings.STARTER)
        space.apply()
        output = json.loads(space.run("output", "-json", "production"))
        wrong += [f"infra/overlay: {what}" for what in outputs_feed_the_overlay(output)]
        cloud_config = output["cloud_config"]
        wrong += [f"cloud-init: {what}" for what in cloud_init.wrong(cloud_config, schema)]
        wrong += [f"cloud-init: not seen: {what}" for what in cloud_init.toothless(cloud_config, schema)]
        wrong += edit_of_cloud_init_replaces_nothing(space)
    for path, old, new, word in INVALID:
        with terraform.workspace(package, "production") as space:
            space.edit(path, old, new)
            wrong += expect_failure(f"{path} with {new!r}", word, space.validate)
    for what in wrong:
        print(f"infra: {what}", file=sys.stderr)
    print(f"infra: {len(teeth.BREAKS)} policies with teeth, {len(REFUSED)} settings and {len(INVALID)} edits refused", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
