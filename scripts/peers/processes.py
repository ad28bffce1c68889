"""The processes of a comparison: peers stay alive between rounds, Switchyard is started for each. All end with it."""

import itertools
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from peers.contenders import Case, Contender

HERE = Path(__file__).resolve().parent
STEP_CONFIG = HERE / "step.yaml"
FIRST_ANSWER_SECONDS = 300
MPIRUN_SECONDS = 10  # in which it ends its ranks
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
meetings = itertools.count()


class Failed(Exception):
    """A contender cannot run; the message says why."""


def environment(threads: int, **more: str) -> dict:
    fixed = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo",
             "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **fixed, **more}


def end(process: subprocess.Popen, patience: float = 0) -> None:
    """The process and what it has started. mpirun needs the patience, to end its ranks itself."""
    try:
        if patience:
            process.terminate()
            process.wait(patience)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


class Rank:
    """One process of a peer."""

    def __init__(self, command: list, env: dict, log: Path):
        self.log, self.buffer = log, b""
        with log.open("w") as errors:
            self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=errors, start_new_session=True)

    def fileno(self) -> int:
        """Of its answers, for select()."""
        return self.process.stdout.fileno()

    def ask(self, repetitions: int) -> None:
        try:
            self.process.stdin.write(f"run {repetitions}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says why

    def read(self) -> dict | None:
        """None while the answer is not complete."""
        text = os.read(self.fileno(), 65536)
        if not text:
            raise Failed(self.last_words())
        self.buffer += text
        if not text.endswith(b"\n"):
            return None
        answer, self.buffer = json.loads(self.buffer), b""
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def last_words(self) -> str:
        code = self.process.wait()
        lines = self.log.read_text(errors="replace").strip().splitlines()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"it ended with {how}" + (f": {lines[-1][:300]}" if lines else "")


class Peer:
    """A contender that lives in workers, one for each rank."""

    def __init__(self, python: Path, case: Case, contender: Contender, folder: Path):
        meeting = folder / f"meeting{next(meetings)}"
        self.ranks, self.peak_memory, self.versions = [], 0, {}
        for rank in range(case.ranks):
            spec = {**case.spec(contender), "rank": rank, "meeting": str(meeting)}
            env = environment(case.threads, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(case.ranks),
                              LOCAL_SIZE=str(case.ranks))
            command = [str(python), str(HERE / "worker.py"), json.dumps(spec)]
            self.ranks.append(Rank(command, env, Path(f"{meeting}.rank{rank}.log")))

    def answers(self, limit: float) -> list:
        """Of all ranks, in their order. The first that fails says why: the others fail because of it."""
        deadline, found = time.monotonic() + limit, {}
        while len(found) < len(self.ranks):
            waiting = [rank for rank in self.ranks if rank not in found]
            ready = select.select(waiting, [], [], max(0, deadline - time.monotonic()))[0]
            if not ready:
                raise Failed("it did not answer in time")
            for rank in ready:
                answer = rank.read()
                if answer is not None:
                    found[rank] = answer
        return [found[rank] for rank in self.ranks]

    def wait_until_ready(self) -> None:
        self.versions = self.answers(FIRST_ANSWER_SECONDS)[0]["versions"]

    def run(self, repetitions: int, limit: float) -> list:
        """Seconds of each repetition, of the slowest rank."""
        for rank in self.ranks:
            rank.ask(repetitions)
        answers = self.answers(limit)
        self.peak_memory = max(answer["peak_memory"] for answer in answers)
        return [max(times) for times in zip(*(answer["seconds"] for answer in answers))]

    def round(self, repetitions: int, budget: float, limit: float) -> list:
        """A repetition to warm up, then as many as the budget of seconds allows; if none, the first counts."""
        first = self.run(1, limit)
        affordable = int((budget - first[0]) / first[0])
        return self.run(min(repetitions, affordable), limit) if affordable >= 1 else first

    def close(self) -> None:
        for rank in self.ranks:
            end(rank.process)


class Switchyard:
    """A contender that is started for each round, and first computes as many repetitions as the peers have behind them."""

    def __init__(self, binary: Path, case: Case):
        self.binary, self.case, self.process, self.done = binary, case, None, 0
        self.peak_memory, self.versions, self.limit_ratio, self.tokens = 0, {}, None, None

    def wait_until_ready(self) -> None:
        if not os.access(self.binary, os.X_OK):
            raise Failed(f"no binary at {self.binary}; build it with scripts/build.sh, or name one with --switchyard")
        if self.case.ranks > 1 and not shutil.which("mpirun"):
            raise Failed("no command mpirun (package openmpi-bin)")

    def command(self, repetitions: int) -> list:
        case, sizes = self.case, self.case.sizes
        launcher = ["mpirun", "-n", str(case.ranks), "--bind-to", "none"] if case.ranks > 1 else []
        if case.kind == "layer":
            job = ["moe_layer", f"experts={sizes.experts}", f"top_k={sizes.top_k}", f"d_model={sizes.d_model}",
                   f"expert_ffn={sizes.ffn}", f"tokens={sizes.tokens * case.ranks}", f"dtype={case.dtype}"]
            job += [f"parallel.expert={case.ranks}"] if case.ranks > 1 else []
        else:
            job = ["step", str(STEP_CONFIG), *sizes.overrides(), f"training.precision={case.dtype}"]
            job += [f"training.threads={case.threads}"]
        runs = ["--warmup", str(self.done + 1), "--repetitions", str(repetitions)]
        return [*launcher, str(self.binary), "bench", *job, *runs, "--json"]

    def round(self, repetitions: int, _: float, limit: float) -> list:
        env = environment(self.case.threads, **(AS_ROOT if os.geteuid() == 0 else {}))
        with tempfile.TemporaryFile("w+") as errors:
            self.process = subprocess.Popen(self.command(repetitions), env=env, text=True, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
            try:
                output, _ = self.process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                raise Failed("it did not answer in time") from None
            finally:
                self.close()
            errors.seek(0)
            if self.process.returncode:
                raise Failed(self.last_words(errors.read().splitlines()))
        self.done += 1 + repetitions
        return self.read(output)

    def last_words(self, lines: list) -> str:
        """Our own message, which mpirun surrounds with many lines of its own."""
        ours = [line for line in lines if line.startswith(("[rank ", "switchyard: "))]
        spoken = ours or [line for line in lines if line.strip()]
        return f"exit code {self.process.returncode}" + (f": {spoken[-1][:300]}" if spoken else "")

    def read(self, output: str) -> list:
        """[min, median] seconds of the row that is compared."""
        wanted = "uniform" if self.case.kind == "layer" else "step"
        try:
            answer = json.loads(output)
            row = next(row for row in answer["rows"] if row["name"] == wanted)
            times = [row["milliseconds"][key] / 1000 for key in ("min", "median")]
        except (ValueError, KeyError, TypeError, StopIteration):
            raise Failed(f"its answer has no times of a row `{wanted}`") from None
        self.peak_memory, self.limit_ratio = answer.get("peak_rss_bytes") or 0, row.get("ratio_to_limit")
        if row.get("tokens_per_second"):
            self.tokens = statistics.mean(times) * row["tokens_per_second"]
        return times

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            end(self.process, MPIRUN_SECONDS)
