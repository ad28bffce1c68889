"""The report: the machine, how it was measured, and a table for each case."""

import datetime
import re
import shlex
from pathlib import Path

from comparison.markdown import number, percent, processor, table
from peers.contenders import BARE_GEMMS, SWITCHYARD
from peers.rounds import Result

ISA_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "bf16", "i8mm", "sve")

BUSY = " - CAUTION: other programs were running, which falsifies all times"


def instruction_sets() -> str:
    """Which of those that matter to products of matrices the processor has, and which of bf16 it has not."""
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, flags=re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    has_bf16 = flags & {"avx512_bf16", "amx_bf16", "bf16"}
    return ", ".join(flag for flag in ISA_FLAGS if flag in flags) + ("" if has_bf16 else " (no instructions for bf16)")


def versions_of(results: list) -> str:
    found = {}
    for result in results:
        for figures in result.figures.values():
            found |= figures.versions
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items())) or "none could run"


def circumstances(results: list, options, arguments: list) -> str:
    facts = {
        "command": f"`{shlex.join(['scripts/bench_peers', *arguments])}`", "date": datetime.date.today().isoformat(),
        "processor": processor(), "instruction sets": instruction_sets(), "peers": versions_of(results),
        "rounds": f"{options.rounds} of {options.repetitions} repetitions, fewer where these take more than "
                  f"{options.seconds:g} s",
        "load average": f"{options.load:.1f} before the start" + (BUSY if options.load > 0.5 else ""),
    }
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


METHOD = """\
Every contender computes in its turn, round after round, while the others wait. Peers are processes that stay alive and
do a repetition to warm up in each round; Switchyard is started for each round and first computes as many repetitions as
they have behind them, because kernels are compiled for each number of rows when it is first seen. Peers get new random
tokens, and so other loads of the experts, at every repetition; these are made outside of the timed part. *min* is of
all repetitions, *median* the median over rounds of each round's median. *Of the bare GEMMs* is the time of `torch.mm`
alone, in the same rounds, for the same products of matrices with even rows, over this contender's time.
*Switchyard / this* says how many times as fast Switchyard is: the median over rounds of the ratio of both medians. More
than 1: Switchyard is faster."""


def milliseconds(seconds: float) -> str:
    return number(1000 * seconds, "{:,.1f}" if seconds < 10 else "{:,.0f}")


def row(result: Result, name: str) -> list:
    figures = result.figures[name]
    if not figures.medians:
        return [name] + ["-"] * (5 + (result.case.kind == "step"))
    over = None if name in (SWITCHYARD.name, BARE_GEMMS.name) else result.switchyard_over(name)
    cells = [name, number(result.case.tokens() / figures.median(), "{:,.0f}"), milliseconds(figures.fewest),
             milliseconds(figures.median()), percent(result.share_of_gemms(name)), number(over, "{:.2f}")]
    return cells + ([number(figures.peak_memory / 1e6, "{:,.0f}")] if result.case.kind == "step" else [])


def remarks(result: Result, options) -> list:
    """What the table does not say by itself."""
    lines = []
    for contender in result.case.contenders:
        figures = result.figures[contender.name]
        if figures.failure:
            ran = f"gave up after {len(figures.medians)} rounds" if figures.medians else "did not run"
            lines.append(f"{contender.name} {ran}: {figures.failure.rstrip('.')}.")
        elif figures.repetitions < options.repetitions:
            lines.append(f"{contender.name} is so slow that a round has {figures.repetitions} of its repetitions.")
    own = result.figures[SWITCHYARD.name]
    if own.limit_ratio:
        lines.append(f"Switchyard's own measurement, in its last round: {percent(own.limit_ratio)} of its bare GEMMs.")
    if own.tokens and not 0.75 < own.tokens / result.case.tokens() < 1.33:
        lines.append(f"CAUTION: Switchyard's tokens a second stand for {own.tokens:,.0f} tokens a repetition, "
                     f"not {result.case.tokens():,}: its times cannot be compared.")
    return [f"- {line}" for line in lines]


def section(result: Result, options) -> str:
    headings = ["contender", "tokens/s", "min ms", "median ms", "of the bare GEMMs", "Switchyard / this"]
    headings += ["peak memory (MB)"] if result.case.kind == "step" else []
    sizes = result.case.sizes.text()
    text = [f"## {result.case.title()}", sizes[0].upper() + sizes[1:] + ".",
            table(headings, [row(result, contender.name) for contender in result.case.contenders])]
    notes = remarks(result, options)
    return "\n\n".join(text + (["\n".join(notes)] if notes else []))


def contender_notes(results: list) -> str:
    """Each contender once for layers and once for steps."""
    notes = {}
    for result in results:
        for contender in result.case.contenders:
            if contender.note:
                notes[(result.case.kind, contender.name, contender.note)] = None
    return "\n".join(f"- {kind}, {name}: {note}." for kind, name, note in notes)


def write_report(results: list, options, arguments: list) -> str:
    quick = ["**Tiny sizes (`--quick`): this tests the script and says nothing about speed.**"] if options.quick else []
    parts = ["# Switchyard beside other frameworks", *quick, circumstances(results, options, arguments), METHOD,
             *(section(result, options) for result in results), "## The contenders",
             "- Switchyard: dropless; the rows `uniform` of `switchyard bench moe_layer` and `step` of "
             "`switchyard bench step`.\n" + contender_notes(results)]
    return "\n\n".join(parts) + "\n"
