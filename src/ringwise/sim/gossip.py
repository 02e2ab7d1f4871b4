"""What the membership protocol does at scale: `python -m ringwise.sim.gossip --nodes 10,100,1000 --seeds 5`.

For each size and seed: a quiet time, in which traffic is counted; then one node is killed, and the time is taken until
all others call it dead; then, in a cluster of its own, processes pause for up to two seconds at random, and whoever
is called dead is a false death. The protocol is the real one (`core/gossip`); only clock and network are made.
"""

from __future__ import annotations

import gc
import statistics
from typing import NamedTuple

import click

from ringwise.core.gossip.packets import State
from ringwise.core.gossip.presets import PRESETS, Preset
from ringwise.sim.gossip_network import GENERATION, GossipNetwork

PAUSE_MS_MAX = 2_000.0
PAUSES_A_MINUTE = 1.0  # of each node: far more than any that should be in a cluster
BETWEEN_PAUSES_MS = 3_000.0  # of one node; two pauses in a row would be one longer than two seconds
COLUMNS = {
    "nodes": "{:,}",
    "detection s, median": "{:.1f}",
    "max": "{:.1f}",
    "in rounds, median": "{:.1f}",
    "max rounds": "{:.1f}",
    "datagrams/s a node": "{:.1f}",
    "bytes/s a node": "{:,.0f}",
    "pauses": "{:,}",
    "refuted": "{:,}",
    "false deaths": "{}",
}


class Detection(NamedTuple):
    seconds: float
    rounds: float  # probe intervals
    datagrams: float  # a node a second, in quiet
    bytes: float
    false_deaths: int


def detect(nodes: int, seed: int, preset: Preset, loss: float, quiet_ms: float) -> Detection:
    """A quiet time, then the death of one node."""
    net = GossipNetwork(nodes, seed, preset, loss=loss)
    net.run(quiet_ms)
    node_seconds = nodes * quiet_ms / 1000
    datagrams, sent_bytes = net.datagrams, net.sent_bytes + net.reliable_bytes
    victim = net.ids[net.rng.randrange(nodes)]
    net.kill(victim)
    began_ms = net.now_ms
    if not net.run(10 * 60_000, until=lambda: net.all_think(victim, State.DEAD)):
        raise AssertionError(f"seed {seed}: not everybody knows of the death after ten minutes")
    took_ms = net.now_ms - began_ms
    false_deaths = len({seen.change.node for seen in net.deaths()} - {victim})
    return Detection(
        took_ms / 1000,
        took_ms / preset.probe_interval_ms,
        datagrams / node_seconds,
        sent_bytes / node_seconds,
        false_deaths,
    )


class Disturbance(NamedTuple):
    pauses: int
    refuted: int  # suspicions that their suspect answered
    false_deaths: int


def disturb(nodes: int, seed: int, preset: Preset, loss: float, run_ms: float) -> Disturbance:
    """Processes pause at random, for up to two seconds, and nothing dies."""
    net = GossipNetwork(nodes, seed, preset, loss=loss)
    ready_ms = dict.fromkeys(net.ids, 0.0)
    pauses = 0

    def pause() -> None:
        nonlocal pauses
        node = net.ids[net.rng.randrange(nodes)]
        if net.now_ms >= ready_ms[node]:
            took_ms = net.rng.uniform(0, PAUSE_MS_MAX)
            ready_ms[node] = net.now_ms + took_ms + BETWEEN_PAUSES_MS
            net.pause(node, took_ms)
            pauses += 1
        net.at(net.now_ms + net.rng.expovariate(PAUSES_A_MINUTE * nodes / 60_000), pause)

    net.at(0.0, pause)
    net.run(run_ms)
    refuted = sum(member.incarnation(node) - GENERATION for node, member in net.members.items())
    return Disturbance(pauses, refuted, len({seen.change.node for seen in net.deaths()}))


def row(nodes: int, seeds: int, preset: Preset, loss: float, quiet_ms: float, run_ms: float) -> list[str]:
    """One line of the table."""
    found = [detect(nodes, seed, preset, loss, quiet_ms) for seed in range(seeds)]
    shaken = [disturb(nodes, seed, preset, loss, run_ms) for seed in range(seeds)]
    figures = (
        nodes,
        statistics.median(one.seconds for one in found),
        max(one.seconds for one in found),
        statistics.median(one.rounds for one in found),
        max(one.rounds for one in found),
        statistics.mean(one.datagrams for one in found),
        statistics.mean(one.bytes for one in found),
        sum(one.pauses for one in shaken),
        sum(one.refuted for one in shaken),
        sum(one.false_deaths for one in shaken) + sum(one.false_deaths for one in found),
    )
    return [form.format(figure) for form, figure in zip(COLUMNS.values(), figures, strict=True)]


@click.command()
@click.option("--nodes", default="10,100", help="Sizes of cluster, with commas between.")
@click.option("--seeds", default=5, help="Runs of each size.")
@click.option("--preset", default="lan", type=click.Choice(list(PRESETS)))
@click.option("--loss", default=0.0, help="Share of datagrams lost.")
@click.option("--quiet", default=10.0, help="Seconds in which traffic is counted before the node is killed.")
@click.option("--pauses", default=20.0, help="Seconds of random pauses.")
def main(nodes: str, seeds: int, preset: str, loss: float, quiet: float, pauses: float) -> None:
    """The membership protocol at scale, as a table."""
    gc.disable()  # millions of small objects, hardly a cycle among them: looking for some takes a third of the time
    click.echo("| " + " | ".join(COLUMNS) + " |")
    click.echo("|" + " ---: |" * len(COLUMNS))
    for size in nodes.split(","):
        figures = row(int(size), seeds, PRESETS[preset], loss, quiet * 1000, pauses * 1000)
        click.echo("| " + " | ".join(figures) + " |")


if __name__ == "__main__":
    main()
