"""Terraform, or OpenTofu, on a copy of infra/, offline, with provider.py in the provider's place."""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
INFRA = os.path.dirname(HERE)
SECONDS = 300
PROGRAM = os.environ.get("TERRAFORM", "terraform")
# Read after an environment's own settings, which it replaces. A file that is read by itself counts for apply as it did for plan.
VALUES = "zz-check.auto.tfvars.json"


class Failed(Exception):
    """Terraform said no; str() is what it said."""


class Workspace:
    """A copy of infra/ in which one environment is planned; files of it may be changed."""

    def __init__(self, folder, environment, env):
        self.root = os.path.join(folder, "infra")
        self.folder = os.path.join(self.root, "environments", environment)
        self.env = env
        with open(os.path.join(self.folder, "offline_override.tf"), "w") as file:
            file.write('terraform {\n  backend "local" {}\n}\n')

    def run(self, *arguments):
        done = subprocess.run([PROGRAM, *arguments], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode != 0:
            raise Failed(done.stderr or done.stdout)
        return done.stdout

    def validate(self):
        self.run("init", "-no-color", "-input=false")
        self.run("validate", "-no-color")

    def plan(self, settings, *more):
        """What would be made, as Terraform's JSON."""
        with open(os.path.join(self.folder, VALUES), "w") as file:
            json.dump({"settings": settings}, file)
        self.run("plan", "-no-color", "-input=false", "-lock=false", "-out=check.plan", *more)
        return json.loads(self.run("show", "-json", "check.plan"))

    def apply(self):
        self.run("apply", "-no-color", "-input=false", "-lock=false", "check.plan")

    def edit(self, path, old, new):
        path = os.path.join(self.root, path)
        with open(path) as file:
            text = file.read()
        if old not in text:
            raise AssertionError(f"{path} has no {old!r} any more: this test needs another place to break")
        with open(path, "w") as file:
            file.write(text.replace(old, new, 1))


@contextlib.contextmanager
def workspace(package, environment):
    with tempfile.TemporaryDirectory() as folder:
        ignore = shutil.ignore_patterns(".terraform*", "check", "__pycache__")
        shutil.copytree(INFRA, os.path.join(folder, "infra"), ignore=ignore)
        command = [sys.executable, os.path.join(HERE, "provider.py"), package, os.path.join(folder, "infra"), os.path.join(folder, "socket")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as provider:
            try:
                line = provider.stdout.readline()
                if not line:
                    raise Failed("the provider's stand-in did not start, see above")
                env = {**os.environ, "TF_REATTACH_PROVIDERS": line.strip(), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
                # A configuration of the machine's own must not decide what this finds.
                env["TF_CLI_CONFIG_FILE"] = os.path.join(folder, "terraformrc")
                open(env["TF_CLI_CONFIG_FILE"], "w").close()
                yield Workspace(folder, environment, env)
            finally:
                provider.terminate()
                provider.wait(timeout=10)
