"""Rules of ours for .github that no linter knows, and every script in it through shellcheck: workflows.py FOLDER"""
import os
import subprocess
import sys

import yaml

# What must be signed on for: the only jobs that may have a token of their own.
SIGN_ON = {("image.yml", "build"), ("infra.yml", "plan"), ("infra.yml", "apply"), ("drift.yml", "drift"), ("drift.yml", "images"),
           ("deploy.yml", "copy"), ("image.yml", "staging")}


def steps_of(document):
    if "runs" in document:
        return {"action": document["runs"]["steps"]}
    return {name: job.get("steps", []) for name, job in document["jobs"].items()}


def wrong_workflow(name, document):
    if document.get("permissions") != {}:
        yield "the workflow's own permissions are not {}"
    for job_name, job in document["jobs"].items():
        if "uses" not in job and "timeout-minutes" not in job:
            yield f"{job_name} has no timeout"
        if "permissions" not in job:
            yield f"{job_name} does not say what it may do"
        token = job.get("permissions", {}).get("id-token") == "write"
        if token != ((name, job_name) in SIGN_ON):
            yield f"{job_name} {'has' if token else 'lacks'} a token"
        # A called workflow's jobs are looked at in their own file.
        if token and "environment" not in job and "uses" not in job:
            yield f"{job_name} signs on outside an environment"
        if job.get("permissions", {}).get("contents", "read") != "read":
            yield f"{job_name} may write to this repository"
    # YAML reads the word "on" as true.
    triggers = document.get("on", document.get(True))
    for trigger in ("pull_request_target", "workflow_run"):
        if trigger in triggers:
            yield f"{trigger} gives a stranger's change our rights"


def wrong_steps(document):
    for job_name, steps in steps_of(document).items():
        for step in steps:
            uses = step.get("uses", "")
            if uses and not uses.startswith("./"):
                yield f"{job_name} uses {uses}: no action but our own"
            if "${{" in step.get("run", ""):
                yield f"{job_name}: an expression inside a script: hand it over in env"
            if any(word in str(step.get("with", "")) for word in ("client-secret", "creds")):
                yield f"{job_name} signs on with a secret"
            if "run" in step:
                done = subprocess.run(["shellcheck", "--shell=bash", "--external-sources", "--exclude=SC1091", "-"],
                                      input="set -eo pipefail\n" + step["run"], text=True, capture_output=True, timeout=60)
                if done.returncode:
                    yield f"{job_name}, {step.get('name', 'a step')}: {done.stdout}"


def problems(name, document):
    found = list(wrong_steps(document))
    return found + (list(wrong_workflow(name, document)) if "jobs" in document else [])


def step(document):
    return document["jobs"]["test"]["steps"][-1]


# Changes to ci.yml, each of which must be found.
BREAKS = {
    "an action of somebody else's": lambda d: d["jobs"]["test"]["steps"].append({"uses": "actions/checkout@v4"}),
    "an expression in a script": lambda d: step(d).update(run="echo ${{ github.head_ref }}"),
    "a script that shellcheck refuses": lambda d: step(d).update(run="cd $FOLDER"),
    "a token for a job that signs on nowhere": lambda d: d["jobs"]["test"]["permissions"].update({"id-token": "write"}),
    "a job that may write": lambda d: d["jobs"]["test"]["permissions"].update(contents="write"),
    "no timeout": lambda d: d["jobs"]["test"].pop("timeout-minutes"),
    "rights of the whole workflow": lambda d: d.update(permissions={"contents": "read"}),
    "a stranger's change with our rights": lambda d: d.update(on={"pull_request_target": None}),
}


def main():
    wrong = []
    for what, change in BREAKS.items():
        with open(os.path.join(sys.argv[1], "workflows/ci.yml")) as text:
            document = yaml.safe_load(text)
        change(document)
        if not problems("ci.yml", document):
            wrong.append(f"workflows.py does not see {what}")
    for base, _, files in os.walk(sys.argv[1]):
        for file in sorted(f for f in files if f.endswith(".yml") and f != "zizmor.yml"):
            with open(os.path.join(base, file)) as text:
                document = yaml.safe_load(text)
            wrong += [f"{os.path.join(base, file)}: {what}" for what in problems(file, document)]
    for what in wrong:
        print(what, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
