"""Runs jobs into folders, each distinct job once; what has finished with the same settings is not repeated."""

import json
import re
import shutil
import sys
import time

from comparison.measuring import read_metrics
from comparison.switchyard import RunFailed, train


def identity(job):
    """Two jobs with the same identity give the same run: everything but the name."""
    return {"ranks": job.ranks, "config": re.sub(r'^name: .*\n', "", job.resolved.config, flags=re.MULTILINE)}


class Runner:
    """Beside the folder of each run lies NAME.json, with what it was begun with, and NAME.out, with what it printed."""

    def __init__(self, folder, repeat, num_jobs):
        self.folder, self.repeat, self.num_jobs = folder, repeat, num_jobs
        self.done = []  # (identity, name or None where it failed)
        self.failures = {}
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, job):
        """The name of the run that holds this job's result, or None where it failed."""
        for known, name in self.done:
            if known == identity(job):
                self.say(job, f"the same job as {name}")
                return name
        name = job.name if self.has_finished(job) or self.train(job) else None
        self.done.append((identity(job), name))
        return name

    def say(self, job, text):
        print(f"{job.name}: {text}", flush=True)

    def begun_with(self, job):
        stamp = self.folder / f"{job.name}.json"
        return json.loads(stamp.read_text()) if stamp.is_file() else None

    def has_finished(self, job):
        if self.repeat or self.begun_with(job) != identity(job):
            return False
        metrics = self.folder / job.name / "metrics.jsonl"
        finished = metrics.is_file() and any(r["step"] == job.overrides["training.steps"] for r in read_metrics(metrics)[1])
        if finished:
            self.say(job, "has finished before with these settings")
        return finished

    def train(self, job):
        self.make_room(job)
        (self.folder / f"{job.name}.json").write_text(json.dumps(identity(job)))
        self.say(job, f"training (job {len(self.done) + 1} of at most {self.num_jobs})")
        start = time.monotonic()
        try:
            train(job.preset, job.overrides, job.ranks, self.folder / job.name, self.folder / f"{job.name}.out")
        except RunFailed as failure:
            self.failures[job.name] = str(failure)
            self.say(job, f"FAILED: {failure}")
            return False
        self.say(job, f"done in {time.monotonic() - start:.0f} s")
        return True

    def make_room(self, job):
        folder = self.folder / job.name
        if folder.exists() and self.begun_with(job) is None:
            sys.exit(f"{folder} was not made by this script; give another folder with --runs, or remove it")
        shutil.rmtree(folder, ignore_errors=True)
