"""What the runs amount to: medians, ratios pair by pair, the targets; for the terminal, as Markdown and as JSON."""

import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

OTHERS_SHARE_MAX = 0.05  # past this the figures tell about the neighbours

Say = Callable[[str], None]
_progress = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    _progress.print(text, style="dim")


@dataclass(frozen=True)
class Target:
    """A ratio the project has promised: `system` over `against`, both in the same pair of `workload`."""

    title: str
    workload: str
    system: str
    against: str
    must: float
    aim: float


TARGETS = (
    Target(
        "SET at quorum / Redis SET + WAIT 1, same generator", "gen_wait", "ringwise_quorum", "redis_replicas", 1.0, 1.5
    ),
    Target(
        "SET at quorum, pipeline 16 / Redis with 2 replicas", "set_p16", "ringwise_quorum", "redis_replicas", 0.7, 1.2
    ),
    Target(
        "GET at quorum, pipeline 16 / Redis with 2 replicas", "get_p16", "ringwise_quorum", "redis_replicas", 0.7, 1.2
    ),
    Target("GET at quorum / Redis alone", "get", "ringwise_quorum", "redis", 0.5, 0.8),
    Target("GET at one / Redis alone", "get", "ringwise_one", "redis", 0.7, 1.0),
)


@dataclass(frozen=True)
class Report:
    machine: dict[str, str]
    pairs: int
    systems: dict[str, str]
    workloads: dict[str, dict[str, Any]]
    idle_cpu_share: dict[str, float]
    runs: list[dict[str, Any]]

    def runs_of(self, workload: str, system: str) -> list[dict[str, Any]]:
        return [run for run in self.runs if run["workload"] == workload and run["system"] == system]

    def median(self, workload: str, system: str, name: str) -> float:
        return median(float(run[name]) for run in self.runs_of(workload, system))

    def ratio(self, workload: str, system: str, against: str) -> float | None:
        """Median over the pairs of the ratio inside each pair; None where one of the two was not measured."""
        other = {run["pair"]: run["rps"] for run in self.runs_of(workload, against)}
        ratios = [run["rps"] / other[run["pair"]] for run in self.runs_of(workload, system) if run["pair"] in other]
        return median(ratios) if ratios else None


def machine() -> dict[str, str]:
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    cores = sum(line.startswith("processor") for line in _lines("/proc/cpuinfo"))
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": f"{cores} × {cpu}",
        "memory": f"{memory / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "redis": _first_line("redis-server", "--version").partition(" sha")[0].rpartition("v=")[2],
        "commit": _first_line("git", "rev-parse", "--short", "HEAD"),
    }


def machine_text(machine: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _first_line(*arguments: str) -> str:
    try:
        return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.partition("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # an installed package has no commit


def _ratio_text(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


HEADINGS = (
    "load",
    "system",
    "ops/s",
    "p50 ms",
    "p99 ms",
    "÷ Redis",
    "÷ Redis, 2 replicas",
    "CPU s/M ops",
    "memory MB",
    "failed",
)


def rows(report: Report) -> list[list[str]]:
    made = []
    for key, workload in report.workloads.items():
        for number, system in enumerate(s for s in report.systems if report.runs_of(key, s)):
            title = report.systems[system] + (" + WAIT 1" if system in workload["waits"] else "")
            against_redis = report.ratio(key, system, "redis") if system != "redis" else None
            against_replicas = report.ratio(key, system, "redis_replicas") if system.startswith("ringwise") else None
            made.append(
                [
                    str(workload["title"]) if number == 0 else "",
                    title,
                    f"{report.median(key, system, 'rps'):,.0f}",
                    f"{report.median(key, system, 'p50_ms'):.2f}",
                    f"{report.median(key, system, 'p99_ms'):.2f}",
                    _ratio_text(against_redis),
                    _ratio_text(against_replicas),
                    f"{report.median(key, system, 'cpu_seconds_per_million'):.1f}",
                    f"{report.median(key, system, 'rss_bytes') / 1e6:,.0f}",
                    str(sum(run["failures"] for run in report.runs_of(key, system)) or ""),
                ]
            )
    return made


TARGET_HEADINGS = ("target", "measured", "at least", "aim", "")


def target_rows(report: Report) -> list[list[str]]:
    made = []
    for target in TARGETS:
        ratio = report.ratio(target.workload, target.system, target.against)
        if ratio is not None:
            verdict = "missed" if ratio < target.must else "held" if ratio < target.aim else "aim reached"
            made.append([target.title, f"{ratio:.2f}", f"{target.must:.1f}", f"{target.aim:.1f}", verdict])
    return made


def notes(report: Report) -> list[str]:
    idle = ", ".join(f"{report.systems[key]} {share:.1%}" for key, share in report.idle_cpu_share.items())
    shares = [float(run["others_share"]) for run in report.runs]
    failed = sorted({run["first_failure"] for run in report.runs if run["first_failure"]})
    return [
        machine_text(report.machine),
        "Redis alone keeps nothing on disk; with two replicas it appends to a file, synced every second, and "
        "replicates asynchronously, except where WAIT 1 is named.",
        f"Median of {report.pairs} interleaved pairs; a ratio is taken inside a pair. 50 connections; load generator "
        "and servers share the machine. Memory is the sum of the resident sets of the system's servers, CPU is theirs "
        "for a million operations, until they are quiet again.",
        f"CPU of one core while idle, all servers of the system: {idle}.",
        f"CPU of the machine taken by processes that have no part in this: median {median(shares):.1%}, at most "
        f"{max(shares):.1%}." + (" NOT A QUIET MACHINE: measure again." if median(shares) > OTHERS_SHARE_MAX else ""),
        *(f"First failure: {text}" for text in failed),
    ]


def show_table(title: str, headings: Sequence[str], body: list[list[str]], left: int = 1) -> None:
    """A row with an empty first cell continues the one above; the first `left` columns are text."""
    table = Table(title=title, min_width=len(title))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left else "right")
    for row in body:
        if row[0] and left > 1 and table.row_count:
            table.add_section()
        table.add_row(*row)
    _output().print(table)


def show_notes(texts: list[str]) -> None:
    for text in texts:
        _output().print(text, highlight=False)


def _output() -> Console:
    return Console(width=None if sys.stdout.isatty() else 150)


def show(report: Report) -> None:
    show_table("Ringwise beside Redis", HEADINGS, rows(report), left=2)
    targets = target_rows(report)
    if targets:
        show_table("Targets", TARGET_HEADINGS, targets)
    show_notes(notes(report))


def markdown_table(headings: Sequence[str], body: list[list[str]]) -> str:
    lines: list[Sequence[str]] = [headings, ["---"] * len(headings), *body]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def as_markdown(report: Report) -> str:
    parts = [markdown_table(HEADINGS, rows(report))]
    targets = target_rows(report)
    if targets:
        parts.append(markdown_table(TARGET_HEADINGS, targets))
    parts += [note + "\n" for note in notes(report)]
    return "\n".join(parts)


def as_json(report: Report) -> dict[str, Any]:
    medians = [dict(zip(HEADINGS[1:], row[1:], strict=True)) for row in rows(report)]
    return {
        "machine": report.machine,
        "pairs": report.pairs,
        "systems": report.systems,
        "workloads": report.workloads,
        "idle_cpu_share": report.idle_cpu_share,
        "medians": medians,
        "targets": [dict(zip((*TARGET_HEADINGS[:-1], "verdict"), row, strict=True)) for row in target_rows(report)],
        "runs": report.runs,
    }
