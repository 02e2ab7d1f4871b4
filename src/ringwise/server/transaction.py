"""MULTI, EXEC, DISCARD: a batch of commands in order, on one connection. No isolation, and no all-or-nothing.

Clients send them because their libraries do by default (redis-py's `pipeline()`). What a store without a leader can promise is
kept: the commands are run in their order, each as if it had been sent alone, and answered together. Commands of other connections
may come between them, and one that fails does not undo the others; so WATCH, which promises that nothing came between, is
refused. A node can be told to refuse MULTI as well (`--no-multi`), for those who would rather know.

As in Redis, a command that cannot even be queued (unknown, wrong number of arguments) makes EXEC refuse the whole batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringwise.core.errors import Failure
from ringwise.core.versions import value_of
from ringwise.server.call import Call, CommandError
from ringwise.server.connection import parts_of_at
from ringwise.server.row import Row
from ringwise.server.table import CommandTable, subcommand_of, wrong_arity
from ringwise.wire.replies import OK, bulk, error
from ringwise.wire.resp import Request

if TYPE_CHECKING:
    from ringwise.server.session import Session

# The replies of a batch are built in memory, together; ten thousand is far more than pipelines that people write.
COMMANDS_MAX = 10_000
BYTES_MAX = 32 * 1024 * 1024  # as one request may have
# As MGET (strings.py): past it a reply is an error in its place, since writes before it cannot be undone.
REPLY_BYTES_MAX = 64 * 1024 * 1024
# Commands of a batch under way at once: their values are in memory before it is known how large they are.
UNDER_WAY_MAX = 256
TOO_LONG = error(f"ERR the replies of this batch have more than {REPLY_BYTES_MAX} bytes; ask for less at once")

QUEUED = b"+QUEUED\r\n"
ABORTED = "EXECABORT Transaction discarded because of previous errors."
SWITCHED_OFF = (
    "ERR MULTI is switched off on this node (rw.multi no): batches here are neither isolated nor all-or-nothing"
)
EXEC_SWITCHED_OFF = (
    "ERR EXEC without MULTI, which is switched off on this node (rw.multi no): what was sent between the two was run, command by "
    "command; with redis-py, call pipeline(transaction=False)"
)
NO_WATCH = (
    "ERR WATCH is not served: it promises that no write comes in between, which needs linearizable keys; "
    "read with RW.GET and write with its CONTEXT to replace exactly what was seen"
)
# Run at once also between MULTI and EXEC.
IMMEDIATE = frozenset(("exec", "discard", "multi", "watch", "quit", "reset"))


class Queue:
    """The commands since MULTI."""

    __slots__ = ("_bytes", "commands", "failed")

    def __init__(self) -> None:
        self.commands: list[Request] = []
        self.failed = False
        self._bytes = 0

    def add(self, arguments: Request) -> None:
        """Raises CommandError where there is no room."""
        self._bytes += sum(map(len, arguments))
        if len(self.commands) >= COMMANDS_MAX or self._bytes > BYTES_MAX:
            raise CommandError(
                f"ERR a MULTI takes at most {COMMANDS_MAX} commands and {BYTES_MAX} bytes; send several, or pipeline without it"
            )
        self.commands.append(arguments)


def queue_up(session: Session, queue: Queue, arguments: Request, row: Row, index: int) -> bool:
    """Queues a command and answers so; False where it is one that runs at once."""
    command = session.table.find(arguments[0])
    if command is not None and command.name in IMMEDIATE:
        return False
    try:
        _check(session, arguments)
        queue.add(arguments)
    except CommandError as refusal:
        queue.failed = True
        row.fill(index, error(str(refusal)))
    except Failure as failure:
        queue.failed = True
        row.fill(index, error(failure.reply()))
    else:
        row.fill(index, QUEUED)
    return True


def _check(session: Session, arguments: Request) -> None:
    """Raises CommandError or Failure where it is plain now that the command could not be run."""
    command = session.table.find(arguments[0])
    if command is None:
        raise CommandError(session.unknown(arguments))
    if not command.takes(len(arguments)):
        raise CommandError(misfit(session, command.name))
    if command.subcommands and len(arguments) > 1:
        subcommand_of(command.name, CommandTable(command.subcommands), arguments)
    if command.name == "hello":  # the reply of a batch is of one protocol
        raise CommandError(f"ERR {command.name.upper()} inside MULTI is not allowed")
    if command.name == "rw.at":
        _check(session, parts_of_at(session, arguments)[1])


def misfit(session: Session, name: str) -> str:
    """The error for a wrong number of arguments, which spoils the batch that is being queued; EXEC's own ends it."""
    if name == "exec":
        session.queue = None
        return "EXECABORT Transaction discarded because of: " + wrong_arity(name).removeprefix("ERR ")
    if session.queue is not None:
        session.queue.failed = True
    return wrong_arity(name)


def multi(call: Call) -> None:
    if not call.session.clients.multi:
        raise CommandError(SWITCHED_OFF)
    if call.session.queue is not None:
        raise CommandError("ERR MULTI calls can not be nested")
    call.session.queue = Queue()
    call.reply(OK)


def discard(call: Call) -> None:
    if call.session.queue is None:
        raise CommandError("ERR DISCARD without MULTI")
    call.session.queue = None
    call.reply(OK)


def watch(call: Call) -> None:
    if call.session.queue is not None:
        raise CommandError("ERR WATCH inside MULTI is not allowed")
    raise CommandError(NO_WATCH)


def unwatch(call: Call) -> None:
    """Nothing is watched, so nothing is left to do."""
    call.reply(OK)


def exec_(call: Call) -> None:
    session = call.session
    queue, session.queue = session.queue, None
    if queue is None:
        # Libraries that send a whole batch at once show this error rather than MULTI's.
        raise CommandError("ERR EXEC without MULTI" if session.clients.multi else EXEC_SWITCHED_OFF)
    if queue.failed:
        raise CommandError(ABORTED)
    Batch(call, queue.commands).go_on()


class Batch(Row):
    """The reply slots of a batch; it runs each command when those before it on the same keys are answered (B2)."""

    __slots__ = ("_alone", "_call", "_commands", "_going", "_left", "_next", "_room")

    def __init__(self, call: Call, commands: list[Request]) -> None:
        super().__init__(call.session, len(commands))
        self._call = call
        self._commands = commands
        self._next = 0
        self._left = len(commands)
        self._room = REPLY_BYTES_MAX
        self._going = False
        self._alone = False  # the command run last is one that others wait for (barrier)
        call.begin_update([b""])  # later commands of this connection wait for all of it

    def go_on(self) -> None:
        """Runs what need not wait."""
        if self._going:
            return
        self._going = True
        session = self.session
        while self._next < len(self._commands):
            arguments = self._commands[self._next]
            alone = session.table.is_barrier(arguments)
            under_way = self._next - len(self._commands) + self._left
            if under_way >= UNDER_WAY_MAX or (under_way and (alone or self._alone)):
                break
            if session.updating_any(session.table.keys_of(arguments)):
                break
            self._alone = alone
            self._next += 1
            session.run(arguments, session.level, self, self._next - 1)
        self._going = False
        if not self._left:
            self._call.reply(b"*%d\r\n" % len(self.replies) + b"".join(self.replies))  # type: ignore[arg-type]

    def fill(self, index: int, reply: bytes) -> None:
        self._room -= len(reply)
        # A short one stands as it is: it may tell what became of a write.
        self.replies[index] = reply if self._room >= 0 or len(reply) <= len(TOO_LONG) else TOO_LONG
        self._left -= 1
        self.session.begin_update([b""])  # a command of the batch that had to be alone has just ended that
        self.go_on()

    def stood_in(self, index: int) -> None:
        """Plain commands have no place to tell it; INFO counts it."""

    def stored(self, index: int, record: bytes) -> None:
        self.fill(index, OK)

    def found(self, index: int, record: bytes) -> None:
        try:
            value = value_of(record, self.session.now.wall_ms) if record else None
        except Failure as wrong:
            self.failed(index, wrong)
            return
        self.fill(index, self.session.null if value is None else bulk(value))

    def failed(self, index: int, error_: Failure) -> None:
        self.fill(index, error(error_.reply()))
