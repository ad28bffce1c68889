"""Rounds in which every contender computes in its turn, while the others wait."""

import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from peers.contenders import BARE_GEMMS, SWITCHYARD, Case
from peers.processes import Failed, Peer, Switchyard


@dataclass
class Figures:
    """Of one contender, in seconds a repetition."""

    medians: list = field(default_factory=list)  # one a round
    fewest: float = float("inf")
    repetitions: int = 0  # of the last round
    peak_memory: int = 0
    failure: str = ""
    versions: dict = field(default_factory=dict)
    limit_ratio: float | None = None  # Switchyard's own
    tokens: float | None = None  # as Switchyard counts them

    def median(self) -> float:
        return statistics.median(self.medians)


def ratio(above: Figures, below: Figures) -> float | None:
    """Of the times, round by round; the median of the rounds that both have."""
    pairs = list(zip(above.medians, below.medians))
    return statistics.median(a / b for a, b in pairs) if pairs else None


@dataclass
class Result:
    case: Case
    figures: dict  # of Figures by the contender's name

    def share_of_gemms(self, name: str) -> float | None:
        return ratio(self.figures[BARE_GEMMS.name], self.figures[name])

    def switchyard_over(self, name: str) -> float | None:
        """How many times as fast as this one Switchyard is."""
        return ratio(self.figures[name], self.figures[SWITCHYARD.name])


def say(text: str) -> None:
    print(f"bench_peers: {text}", file=sys.stderr, flush=True)


class Comparison:
    """One case, from the start of its processes to their end."""

    def __init__(self, case: Case, options, folder: Path):
        self.case, self.options, self.folder, self.live = case, options, folder, {}
        self.figures = {contender.name: Figures(failure=contender.absence) for contender in case.contenders}

    def start(self) -> None:
        for contender in self.case.contenders:
            if contender.absence:
                continue
            is_peer = contender.spec
            self.live[contender.name] = (Peer(self.options.python, self.case, contender, self.folder) if is_peer
                                         else Switchyard(self.options.switchyard, self.case))
        for name in list(self.live):
            self.attempt(name, self.get_ready)

    def attempt(self, name: str, action) -> None:
        """What fails is left out from here on."""
        try:
            action(name)
        except Failed as failure:
            self.figures[name].failure = str(failure)
            say(f"{self.case.title()}: {name} cannot run: {failure}")
            self.live.pop(name).close()

    def get_ready(self, name: str) -> None:
        self.live[name].wait_until_ready()
        self.figures[name].versions = self.live[name].versions

    def take_turn(self, name: str) -> None:
        contender, figures = self.live[name], self.figures[name]
        seconds = contender.round(self.options.repetitions, self.options.seconds, self.options.timeout)
        is_pair = isinstance(contender, Switchyard)  # of min and median
        figures.medians.append(seconds[1] if is_pair else statistics.median(seconds))
        figures.fewest = min(figures.fewest, *seconds)
        figures.repetitions = self.options.repetitions if is_pair else len(seconds)
        figures.peak_memory = max(figures.peak_memory, contender.peak_memory)
        if is_pair:
            figures.limit_ratio, figures.tokens = contender.limit_ratio, contender.tokens

    def run(self) -> Result:
        try:
            self.start()
            for number in range(self.options.rounds):
                say(f"{self.case.title()}: round {number + 1} of {self.options.rounds}")
                for name in list(self.live):
                    self.attempt(name, self.take_turn)
        finally:
            for contender in self.live.values():
                contender.close()
        return Result(self.case, self.figures)


def compare(cases: list, options) -> list:
    with tempfile.TemporaryDirectory(prefix="bench_peers.") as folder:
        return [Comparison(case, options, Path(folder)).run() for case in cases]
