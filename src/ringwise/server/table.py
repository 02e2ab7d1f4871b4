"""What a command is to the table: a name, how many arguments it takes, where its keys stand, who runs it, what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ringwise.server.call import Call, CommandError
from ringwise.server.others import unknown_subcommand
from ringwise.wire.replies import Simple

Handler = Callable[[Call], None]


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the command table (server/commands.py)."""

    name: str
    arity: int  # number of arguments, the name included; -n: at least n
    flags: str
    keys: tuple[int, int, int]  # position of the first key, of the last (-1: the last argument), and step
    handler: Handler
    group: str
    summary: str
    all_keys: bool = False  # is about the whole keyspace, though it names no key
    barrier: bool = False  # waits until everything before it on the connection is answered
    # Where the keys do not stand at fixed places:
    find_keys: Callable[[list[bytes]], list[bytes]] | None = None
    subcommands: tuple[Command, ...] = field(default=())

    def takes(self, count: int) -> bool:
        return count == self.arity if self.arity >= 0 else count >= -self.arity

    def keys_of(self, arguments: list[bytes]) -> list[bytes]:
        if self.find_keys is not None:
            return self.find_keys(arguments)
        if self.subcommands:
            name = arguments[1].lower() if len(arguments) > 1 else b""
            return next((each.keys_of(arguments) for each in self.subcommands if each.name.encode() == name), [])
        first, last, step = self.keys
        if not first:
            return []
        return arguments[first : len(arguments) + last + 1 if last < 0 else last + 1 : step]


class CommandTable:
    """Commands by name, in any letter case."""

    def __init__(self, commands: Iterable[Command]) -> None:
        self.commands = {command.name: command for command in commands}
        # Both usual spellings are found with one look-up.
        self._by_bytes = {name.encode(): command for name, command in self.commands.items()}
        self._by_bytes |= {name.upper().encode(): command for name, command in self.commands.items()}

    def find(self, name: bytes) -> Command | None:
        return self._by_bytes.get(name) or self._by_bytes.get(name.lower())

    def keys_of(self, arguments: list[bytes]) -> list[bytes]:
        """The keys that a command touches; none where it is unknown or makes no sense."""
        command = self.find(arguments[0])
        return command.keys_of(arguments) if command is not None else []

    def is_barrier(self, arguments: Sequence[bytes]) -> bool:
        """Whether a command line waits until everything before it on the connection is answered."""
        command = self.find(arguments[0])
        if command is None or len(arguments) < 2:
            return command is not None and command.barrier
        if command.name == "rw.at":
            inner = arguments[2:]  # another RW.AT in it is refused
            return bool(inner) and inner[0].lower() != b"rw.at" and self.is_barrier(inner)
        name = arguments[1].lower()
        return command.barrier or any(each.barrier for each in command.subcommands if each.name.encode() == name)


def wrong_arity(name: str) -> str:
    return f"ERR wrong number of arguments for '{name}' command"


def with_subcommands(name: str, subcommands: tuple[Command, ...]) -> Handler:
    """A handler that passes on to the subcommand named by the second argument."""
    table = CommandTable(subcommands)

    def run(call: Call) -> None:
        subcommand_of(name, table, call.arguments).handler(call)

    return run


def subcommand_of(name: str, table: CommandTable, arguments: list[bytes]) -> Command:
    """The subcommand that a command line names; raises CommandError where there is none, or the line does not fit it."""
    if arguments[1].lower() == b"help" and len(arguments) == 2:
        return _help(name, table)
    subcommand = table.find(arguments[1])
    if subcommand is None:
        raise CommandError(unknown_subcommand(name, arguments[1]))
    if not subcommand.takes(len(arguments)):
        raise CommandError(wrong_arity(f"{name}|{subcommand.name}"))
    return subcommand


def _help(name: str, table: CommandTable) -> Command:
    """HELP, as Redis lays it out: a line for each subcommand, and what it does, indented."""
    lines = [f"{name.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for subcommand in table.commands.values():
        lines += [subcommand.name.upper(), f"    {subcommand.summary}."]
    lines += ["HELP", "    Print this help."]

    def show(call: Call) -> None:
        call.answer([Simple(line) for line in lines])

    return Command("help", 2, "loading stale", (0, 0, 0), show, "server", "Print this help")
