"""A leaderboard that counts every point: game servers on all nodes add to the same scores at the same time.

Scores are added to, not overwritten, so two servers that give a player points at once both count. A point whose request
was not answered may have been counted or not; who needs to know for certain keeps a counter for each player
(`increment_once` in docs/client.md) and puts its value on the board.

    .venv/bin/python examples/leaderboard.py
"""

import random
import sys
from concurrent.futures import ThreadPoolExecutor

from ringwise import Client
from ringwise.client import UnknownOutcome

NODES = sys.argv[1:] or ["127.0.0.1:7379", "127.0.0.1:7380", "127.0.0.1:7381"]
KEY = "example:leaderboard"
PLAYERS = ["ada", "ben", "eve", "kim", "zoe"]


def game_server(number: int) -> tuple[dict[str, int], int]:
    """Gives 200 points away; who got how many, and how many may have been lost."""
    dice = random.Random(number)
    given = dict.fromkeys(PLAYERS, 0)
    unknown = 0
    with Client(NODES[number:] + NODES[:number]) as kv:  # each server has another node first
        board = kv.leaderboard(KEY)
        for _ in range(200):
            player = dice.choices(PLAYERS, [5, 4, 3, 2, 1])[0]
            try:
                board.increment(player, 1)
                given[player] += 1
            except UnknownOutcome:
                unknown += 1
    return given, unknown


def show(kv: Client) -> None:
    for place, (player, score) in enumerate(kv.leaderboard(KEY).top(3), start=1):
        print(f"  {place}. {player.decode():5} {score:.0f}")


def main() -> None:
    with Client(NODES) as kv:
        board = kv.leaderboard(KEY)
        kv.delete(KEY)
        board.put(dict.fromkeys(PLAYERS, 0))
        totals = dict.fromkeys(PLAYERS, 0)
        unknown = 0
        for turn in ("first", "second"):
            with ThreadPoolExecutor(3) as servers:
                for given, lost in servers.map(game_server, range(3)):
                    unknown += lost
                    for player, points in given.items():
                        totals[player] += points
            print(f"after the {turn} turn, of {sum(totals.values())} points:")
            show(kv)
            if turn == "first":
                print(
                    "\nNow kill a node (`kill -9` a pid that `make up` printed), or don't. Then press Enter.",
                    flush=True,
                )
                sys.stdin.readline()
        print("ada is at rank", board.rank("ada"), "with", board.score("ada"), "points")
        counted = sum(score for _, score in board.ranked(0, -1))
        print(f"{counted:.0f} points counted, {sum(totals.values())} acknowledged, {unknown} unknown")
        assert 0 <= counted - sum(totals.values()) <= unknown


if __name__ == "__main__":
    main()
