"""One contender, in the Python of .venv-peers: worker.py SPEC, as JSON; scripts/bench_peers starts a process a rank.

It says in a line of JSON that it is ready, or why it cannot run. Then every line "run K" of stdin computes K
repetitions on new inputs and is answered with their seconds. It ends with stdin, and with the process that started it.
"""

import ctypes
import importlib.metadata
import json
import os
import resource
import signal
import sys
import time
import warnings

PACKAGES = ("torch", "transformers", "deepspeed")


def die_with_parent():
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except AttributeError:
        pass  # not Linux


def own_stdout():
    """What frameworks print goes to stderr; the answers have stdout for themselves."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def versions():
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def prepare(spec):
    import torch

    from workloads import WORKLOADS

    torch.set_num_threads(spec["threads"])
    torch.manual_seed(1234)
    torch.distributed.init_process_group("gloo", init_method="file://" + spec["meeting"], rank=spec["rank"],
                                         world_size=spec["ranks"])
    generator = torch.Generator().manual_seed(1234 + spec["rank"])
    return WORKLOADS[spec["workload"]](spec, generator)


def run(workload, repetitions):
    """Seconds of each. All ranks begin together."""
    from torch import distributed

    seconds = []
    for _ in range(repetitions):
        inputs = workload.inputs()
        distributed.barrier()
        start = time.perf_counter()
        workload.compute(inputs)
        seconds.append(time.perf_counter() - start)
        del inputs
    return seconds


def peak_memory():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def describe(error):
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"[:300]


def main():
    die_with_parent()
    answers, spec = own_stdout(), json.loads(sys.argv[1])
    warnings.simplefilter("ignore")

    def answer(**fields):
        print(json.dumps(fields), file=answers, flush=True)

    try:
        workload = prepare(spec)
        answer(ready=True, versions=versions())
        for line in sys.stdin:
            seconds = run(workload, int(line.split()[1]))
            answer(seconds=seconds, peak_memory=peak_memory())
    except Exception as error:  # of whatever kind: the others go on
        answer(error=describe(error))
        raise
    finally:
        sys.stderr.flush()


if __name__ == "__main__":
    try:
        main()
    except (Exception, KeyboardInterrupt):
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # without the farewells of gloo, which wait for ranks that are gone
