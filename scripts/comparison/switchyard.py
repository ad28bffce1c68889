"""The program, as scripts call it: what it resolves a configuration to, and training and evaluating with it."""

import json
import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class Refused(Exception):
    """The configuration is not valid; the message has a line a fault."""


class RunFailed(Exception):
    pass


@dataclass(frozen=True)
class Resolved:
    """A configuration with every default written out."""

    config: str
    total_parameters: int
    active_parameters: int

    def setting(self, key, default=None):
        return parse_settings(self.config).get(key, default)

    def section(self, name):
        found = re.search(rf"^{name}:\n((?: .*\n)*)", self.config, flags=re.MULTILINE)
        return found[1] if found else ""

    def num_experts(self):
        return int(self.setting("model.moe.num_experts", 0))

    def sources(self):
        return re.findall(r'^ +- name: "(.*)"$', self.config, flags=re.MULTILINE)


def parse_settings(config):
    """{"model.moe.top_k": "2", ...} of a resolved configuration, which has one key a line. Entries of lists are left out."""
    settings, path = {}, []
    for line in config.splitlines():
        found = re.match(r"( *)(\w+):(?: (.+))?$", line)
        if not found:
            continue
        path[len(found[1]) // 2:] = [found[2]]
        if found[3]:
            settings[".".join(path)] = found[3].strip('"')
    return settings


def binary():
    return os.environ.get("SWITCHYARD", str(ROOT / "build" / "release" / "switchyard"))


def as_arguments(overrides):
    return [f"{key}={value}" for key, value in overrides.items()]


def check(preset, overrides, ranks):
    if not os.access(binary(), os.X_OK):
        raise Refused(f"no binary at {binary()}; build it with scripts/build.sh, or set SWITCHYARD")
    command = [binary(), "check", str(preset), "--json", "--ranks", str(ranks), *as_arguments(overrides)]
    result = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if result.returncode:
        raise Refused(result.stderr.strip() or f"`{shlex.join(command)}` ended with exit code {result.returncode}")
    answer = json.loads(result.stdout)
    return Resolved(answer["config"], answer["parameters"]["total"], answer["parameters"]["active"])


def train(preset, overrides, ranks, folder, output):
    """Trains into `folder`, with what the run prints in the file `output`."""
    command = [str(ROOT / "scripts" / "train.sh"), str(preset), "-n", str(ranks), "--run", str(folder), *as_arguments(overrides)]
    with output.open("w") as file, subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()  # after the terminal's own signal: the second one ends the job at once
            process.wait()
            raise
    if code:
        raise RunFailed(f"exit code {code}: {reason_in(output.read_text(errors='replace').splitlines())}")


def reason_in(lines):
    """Our own message, which mpirun surrounds with many lines of its own."""
    ours = [line for line in lines if line.startswith(("[rank ", "switchyard: "))]
    return (ours or lines or ["it printed nothing"])[-1].rstrip(".")


def evaluate(folder):
    result = subprocess.run([binary(), "eval", str(folder), "--json"], cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(result.stdout)


def usable_cpus():
    return int(subprocess.run([ROOT / "scripts" / "usable_cpus.sh"], text=True, stdout=subprocess.PIPE, check=True).stdout)
