"""A client connection without its socket: bytes in, commands to the node, replies out in the order of the requests.

    receive(data) -> parser -> [ SET  GET  DEL  GET ] -> node.put / get / update  (one Row: a reply slot for each)
                                  +OK  ...  ...  $1   <- stored / found / updated, in any order, in this turn or later
    flush()       -> write(+OK)  the ready prefix, one write a turn; the rest follows when its turn comes

Replies are filled into slots as results arrive, and leave in order (B2). The hot path, plain `SET` and `GET`, creates
nothing for an operation: the batch's one row is the sink, the index says which slot (bench/session.py measures it).

Three things make a connection wait, and then what it sends next stays in the backlog, and its socket is not read:
* B2: a command on a key with an unfinished multi-phase operation (DEL, SET ... GET) of this connection;
* a barrier: WAIT, and what changes how replies look (HELLO, RESET), wait until everything before is answered;
* the window: so many operations may be unanswered at once; and none is begun while the client does not read.
Each of them ends with a reply, so `flush` is where the backlog is taken up again; through `later`, since what it begins
belongs to a new turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ringwise.core.errors import Failure
from ringwise.core.levels import Level
from ringwise.server.call import Call, CommandError, Node
from ringwise.server.clients import Clients
from ringwise.server.commands import TABLE
from ringwise.server.others import unknown_command
from ringwise.server.row import Row
from ringwise.server.transaction import Queue, misfit, queue_up
from ringwise.wire.replies import NULL, error
from ringwise.wire.resp import Limits, Request, RequestParser

# A value too long by less is read and refused by name; by more, the connection is closed.
VALUE_SLACK_BYTES = 1024 * 1024
# Unanswered operations of a connection: as many as keep a pipeline busy; and few until its replies have proved small,
# since 1,000 requests of 20 bytes may ask for 1,000 values of a megabyte.
WINDOW_MIN = 32
WINDOW_MAX = 1024
FLUSH_BYTES_HIGH = 1024 * 1024
# Writes that WAIT can account for; a connection that has sent more between two WAITs gets the lower bound.
WRITTEN_MAX = 64


class Session:
    """One client connection.

    `write` and `close` act on the connection (close after what was written is sent, `abort` at once).
    `later` runs a callback as an input of
    a coming turn, with the node told the time before and its turn ended after. The shell calls `receive`, `flush` (through
    the node's `dirty`), `pause_writing` and `resume_writing` as the client reads too slowly and catches up, and `closed`.
    """

    table = TABLE

    def __init__(
        self,
        node: Node,
        write: Callable[[bytes], None],
        close: Callable[[], None],
        *,
        later: Callable[[Callable[[], None]], object],
        pause_reading: Callable[[], None],
        resume_reading: Callable[[], None],
        clients: Clients,
        address: str = "",
        abort: Callable[[], None] | None = None,
        first_only: bool = False,
    ) -> None:
        self.node = self._home = node  # with the bucket that is selected
        self.now = node.now
        self.clients = clients
        self.address = address
        # It came in on the cluster port, from a client that asks every node and adds up: SCAN, KEYS, DBSIZE and RANDOMKEY
        # tell it only of the slots whose first live owner this node is (core/preference.py).
        self.first_only = first_only
        self.id = clients.enter(self)
        self.since_ms = node.now.wall_ms
        self.seen_ms = node.now.wall_ms
        self.last_command = b""
        self.is_dirty = False  # in node.dirty
        self.closing = False  # closes once everything is answered
        self.written: deque[bytes] = deque(maxlen=WRITTEN_MAX + 2)  # keys written since the last WAIT (waiting.py)
        self.library: dict[str, str] = {}
        self.reset()
        config = node.config
        self._key_max = config.key_bytes_max
        self._value_max = config.value_bytes_max
        self._parser = RequestParser(Limits(bulk_bytes_max=config.value_bytes_max + VALUE_SLACK_BYTES))
        self._write = write
        self._close = close
        self._abort = abort or close
        self._later = later
        self._pause_reading = pause_reading
        self._resume_reading = resume_reading
        self._rows: deque[Row] = deque()
        self._open = 0  # slots in rows
        self._window = WINDOW_MIN
        self._backlog: deque[Request] = deque()
        self._updating: set[bytes] = set()  # keys with an unfinished multi-phase operation
        self._paused = False  # the client does not read
        self._held = False  # its socket is not read
        self._waking = False
        self._gone = False

    def reset(self) -> None:
        """As a new connection: what HELLO, SELECT, CLIENT SETNAME and RW.CONSISTENCY have set."""
        self.node.space.watchers.discard(self._set_level)
        self._home.space.watchers.add(self._set_level)
        self.node = self._home
        self.protocol = 2
        self.null = NULL[2]
        self.client_name = b""
        self.queue: Queue | None = None  # of commands since MULTI
        self._default_level = Level.parse(self.node.config.default_level.encode())
        self._own_level: Level | None = None  # by RW.CONSISTENCY
        self.moved = False  # some of the writes since the last WAIT are in other buckets
        self.level = self.node.space.level or self._default_level
        self.write_levels = [self.level]  # of the writes that WAIT has to account for

    def set_protocol(self, protocol: int) -> None:
        self.protocol = protocol
        self.null = NULL[protocol]

    def set_level(self, level: Level) -> None:
        self._own_level = level
        self._set_level()

    def _set_level(self) -> None:
        """R2: what the connection has asked for, or else the bucket's rules, or else the node's default."""
        self.level = self._own_level or self.node.space.level or self._default_level
        self._note_level(self.level)

    def _note_level(self, level: Level) -> None:
        if level not in self.write_levels:
            self.write_levels.append(level)

    def select(self, node: Node) -> None:
        """Goes on with another bucket. Writes to the one before are accounted for by what their own replies said (WAIT)."""
        if node is not self.node:
            self.node.space.watchers.discard(self._set_level)
            node.space.watchers.add(self._set_level)
            self.node = node
            self.moved = self.moved or bool(self.written)
            self.written.clear()
            self._set_level()

    def wrote(self, key: bytes, level: Level) -> None:
        """Notes a write for WAIT."""
        self.written.append(key)
        self._note_level(level)

    def wrote_elsewhere(self, level: Level) -> None:
        """A write to another bucket than that of the connection: WAIT counts it by what its own reply said."""
        self.moved = True
        self._note_level(level)

    def busy(self) -> bool:
        """Whether anything is still to be answered."""
        return bool(self._rows or self._backlog)

    # What the shell calls.

    def receive(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.closing:
            return
        requests = self._parser.feed(data)
        if self._backlog or self._updating or self._paused or len(requests) > self._window - self._open:
            self._backlog.extend(requests)
            self._drain()
        elif requests:
            self._run(requests)
            if self.queue is not None:
                self._drain()
        if self._parser.error or self._backlog:
            self._settle()

    def flush(self) -> None:
        """Writes the replies that are ready and have nothing unanswered before them."""
        if self._gone:
            return
        self.is_dirty = False
        rows = self._rows
        if len(rows) == 1 and None not in rows[0].replies:
            replies = rows.pop().replies
            self._open -= len(replies)
            data = b"".join(replies)  # type: ignore[arg-type]
        else:
            data = self._ready_prefix()
        if data:
            self._write(data)
        if self._backlog:
            self._widen(len(data))
            self._wake()
        elif self.closing and not rows:
            self._close()

    def _ready_prefix(self) -> bytes:
        rows = self._rows
        parts: list[bytes] = []
        while rows:
            replies = rows[0].replies
            if None in replies:
                ready = replies.index(None)
                parts.append(b"".join(replies[:ready]))  # type: ignore[arg-type]
                replies[:ready] = [b""] * ready
                break
            parts.append(b"".join(replies))  # type: ignore[arg-type]
            rows.popleft()
            self._open -= len(replies)
        return b"".join(parts)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._backlog:
            self._wake()

    def closed(self) -> None:
        """The connection is gone; what is still under way is finished by the node and answered to nobody."""
        self.clients.leave(self)
        self.node.space.watchers.discard(self._set_level)
        self._rows.clear()
        self._backlog.clear()
        self.closing = self._gone = True
        self.is_dirty = True  # never again in node.dirty

    # What commands call.

    def begin_update(self, keys: list[bytes]) -> None:
        """B2: commands on these keys wait until end_update; on b"", which is no key, all commands wait."""
        self._updating.update(keys)

    def end_update(self, keys: list[bytes]) -> None:
        self._updating.difference_update(keys)

    def updating_any(self, keys: list[bytes]) -> bool:
        """Whether one of these keys has an unfinished multi-phase operation."""
        return any(key in self._updating for key in keys)

    def kill(self) -> None:
        """Ends the connection, whether its client reads or not: CLIENT KILL."""
        self.closing = True
        self._backlog.clear()
        self._later(lambda: None if self._gone else self._abort())

    def unknown(self, arguments: Request) -> str:
        """The error for a command that is not served."""
        return unknown_command(arguments)

    def soon(self, callback: Callable[[], None]) -> None:
        """Runs a callback in a coming turn, after what others have to do; not at all once the connection is gone."""
        self._later(lambda: None if self._gone else callback())

    def run(self, arguments: Request, level: Level, row: Row, index: int) -> None:
        """Any command, through the command table."""
        command = self.table.find(arguments[0])
        try:
            if command is None:
                raise CommandError(unknown_command(arguments))
            if not command.takes(len(arguments)):
                raise CommandError(misfit(self, command.name))
            command.handler(Call(self, arguments, level, row, index))
        except CommandError as refusal:
            row.fill(index, error(str(refusal)))
        except Failure as failure:
            row.fill(index, error(failure.reply()))

    # The path of a batch.

    def _run(self, requests: list[Request]) -> None:
        """Hands commands to the node, in order, until one has to wait; the rest goes (back) to the backlog."""
        row = Row(self, len(requests))
        self._rows.append(row)
        self._open += len(requests)
        if self.queue is not None:
            self._queue(self.queue, requests, row)
            return
        node = self.node
        put, get, written = node.put, node.get, self.written.append
        key_max, value_max = self._key_max, self._value_max
        level = self.level
        index = 0
        for arguments in requests:
            name = arguments[0]
            count = len(arguments)
            if count == 2 and (name == b"GET" or name == b"get"):
                key = arguments[1]
                if 0 < len(key) <= key_max:
                    get(key, level, row, index)
                    index += 1
                    continue
            elif count == 3 and (name == b"SET" or name == b"set"):
                key = arguments[1]
                value = arguments[2]
                if 0 < len(key) <= key_max and len(value) <= value_max:
                    written(key)
                    put(key, value, level, row, index)
                    index += 1
                    continue
            if self._must_wait(arguments, row, index):
                self._put_back(requests, row, index)
                break
            self.run(arguments, level, row, index)
            index += 1
            level = self.level
            if self.node is not node:
                node = self.node
                put, get = node.put, node.get
            if self.closing or self.queue is not None or (self._updating and index < len(requests)):
                self._put_back(requests, row, index)
                break
        clients = self.clients
        clients.commands_total += index
        self.seen_ms = node.now.wall_ms
        self.last_command = name

    def _queue(self, queue: Queue, requests: list[Request], row: Row) -> None:
        """Between MULTI and EXEC."""
        for index, arguments in enumerate(requests):
            self.clients.commands_total += 1
            self.last_command = arguments[0]
            if not queue_up(self, queue, arguments, row, index):
                self.run(arguments, self.level, row, index)
                if self.queue is not queue or self.closing:
                    self._put_back(requests, row, index + 1)
                    break
        self.seen_ms = self.node.now.wall_ms

    def _must_wait(self, arguments: Request, row: Row, index: int) -> bool:
        return (index > 0 or self._rows[0] is not row) and self.table.is_barrier(arguments)

    def _put_back(self, requests: list[Request], row: Row, index: int) -> None:
        self._backlog.extendleft(reversed(requests[index:]))
        self._open -= len(requests) - index
        del row.replies[index:]
        if not row.replies:
            self._rows.pop()

    def _drain(self) -> None:
        """Takes up the backlog, as far as it goes."""
        backlog = self._backlog
        while backlog and not self._paused and not self.closing:
            room = self._window - self._open
            if room <= 0:
                return
            if self._updating:
                keys = self.table.keys_of(backlog[0])
                if b"" in self._updating or self.queue is not None or self.updating_any(keys):
                    return
                room = 1
            before = len(backlog)
            self._run([backlog.popleft() for _ in range(min(room, before))])
            if len(backlog) == before:
                return

    def _settle(self) -> None:
        """After input: refuses what cannot be parsed, and reads on only when nothing is left over."""
        if self.closing:
            self._backlog.clear()
        elif self._parser.error and not self._backlog:
            self.closing = True
            row = Row(self, 1)
            self._rows.append(row)
            self._open += 1
            row.fill(0, error(f"ERR {self._parser.error}"))
        held = bool(self._backlog)
        if held != self._held:
            self._held = held
            (self._pause_reading if held else self._resume_reading)()

    def _wake(self) -> None:
        if not self._waking:
            self._waking = True
            self._later(self._resume)

    def _resume(self) -> None:
        self._waking = False
        self._drain()
        self._settle()

    def _widen(self, flushed_bytes: int) -> None:
        """Fits the window to the size of the replies."""
        if flushed_bytes > FLUSH_BYTES_HIGH:
            self._window = max(WINDOW_MIN, self._window // 4)
        elif self._window < WINDOW_MAX:
            self._window *= 2
