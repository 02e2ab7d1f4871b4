"""Where a node's time goes under load: `py-spy` samples it from outside while `redis-benchmark` loads it.

Nothing runs inside the node, so the hot path is measured as it is. `py-spy` is no dependency of the project: install it
once (`.venv/bin/pip install py-spy`) and run this as a user who may trace the node (root, or the same user with
`kernel.yama.ptrace_scope` 0). Three tables: by file, by function (its own samples), by function with everything it
calls. Samples are of the one thread that runs the event loop, and only while it runs.

    python -m bench.profile_node --port 7379 --test set -P 16 [--native] [--node-port 7380] [--flame FILE.svg]
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from bench import report, servers
from bench.servers import BenchmarkError

STOP_SECONDS_MAX = 10
SAMPLES_PER_SECOND = 500


def py_spy() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise BenchmarkError(f"py-spy is not installed: {Path(sys.executable).with_name('pip')} install py-spy")
    return found


def load_forever(given: argparse.Namespace) -> subprocess.Popen[bytes]:
    arguments = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(given.port), "-t", given.test, "-l", "-q"]
    arguments += ["-n", "1000000", "-r", str(given.keys), "-d", str(given.value_bytes), "-P", str(given.pipeline)]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def sample(pid: int, given: argparse.Namespace, output: Path, form: str) -> None:
    arguments = [py_spy(), "record", "--pid", str(pid), "--duration", str(given.seconds), "--format", form]
    arguments += ["--rate", str(SAMPLES_PER_SECOND), "--output", str(output), *(["--native"] if given.native else [])]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if ended.returncode or not output.exists():
        raise BenchmarkError(f"py-spy failed: {ended.stderr.strip()[-600:]}")


def tables(stacks: str) -> dict[str, Counter[str]]:
    """From lines `outermost;…;innermost count`, a frame being `function (file:line)`."""
    made: dict[str, Counter[str]] = {"by file": Counter(), "own time": Counter(), "with all it calls": Counter()}
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        # Lines of one function are one entry; the line that matters is found with --flame.
        frames = [frame.rpartition(":")[0] + ")" if ":" in frame else frame for frame in stack.split(";")]
        made["by file"][frames[-1].rpartition(" (")[2].rstrip(")")] += int(count)
        made["own time"][frames[-1]] += int(count)
        for frame in sorted(set(frames)):  # once a sample, recursion or not
            made["with all it calls"][frame] += int(count)
    return made


def profile(given: argparse.Namespace) -> None:
    node_port = given.node_port or given.port
    pids = servers.pids_listening([node_port])
    if len(pids) != 1:
        raise BenchmarkError(f"port {node_port} is served by processes {pids}, not by one")
    load = load_forever(given)
    try:
        with tempfile.TemporaryDirectory() as directory:
            stacks = Path(directory) / "stacks"
            before = servers.cpu_seconds(pids)
            sample(pids[0], given, stacks, "raw")
            busy = (servers.cpu_seconds(pids) - before) / given.seconds
            made = tables(stacks.read_text())
        if given.flame:
            sample(pids[0], given, given.flame, "flamegraph")
        if load.poll() is not None:
            raise BenchmarkError("redis-benchmark ended early: is the server up and without errors?")
    finally:
        load.terminate()
        load.wait(STOP_SECONDS_MAX)
    total = sum(made["own time"].values())
    for title, counts in made.items():
        body = [[name, f"{count / total:.1%}"] for name, count in counts.most_common(given.top)]
        report.show_table(f"{title}, process {pids[0]}, {busy:.0%} of one core", (title, "share"), body)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile_node", description="Where a node's time goes")
    parser.add_argument("--port", type=int, required=True, help="client port the load goes to")
    parser.add_argument("--node-port", type=int, help="client port of the node to sample, if another: a replica")
    parser.add_argument("--test", choices=("set", "get"), default="set")
    parser.add_argument("-P", "--pipeline", type=int, default=1)
    parser.add_argument("-r", "--keys", type=int, default=1_000_000)
    parser.add_argument("-d", "--value-bytes", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("--native", action="store_true", help="frames of C extensions too (slower sampling)")
    parser.add_argument("--flame", type=Path, help="write a flame graph, from a second sampling")
    given = parser.parse_args()
    return servers.run_to_the_end(lambda: profile(given))


if __name__ == "__main__":
    sys.exit(main())
