"""Commands about the connection itself: greeting, names, levels of consistency. None of them asks the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringwise import __version__
from ringwise.core.levels import Level
from ringwise.server.arguments import SYNTAX, integer_of
from ringwise.server.call import Call, CommandError, shown
from ringwise.server.session_info import client_line
from ringwise.server.table import wrong_arity
from ringwise.wire.replies import OK, Simple, Verbatim
from ringwise.wire.resp import Request

if TYPE_CHECKING:
    from ringwise.server.session import Session

REDIS_VERSION = "7.2.0"  # the version whose clients find here what they expect
NO_USERS = "ERR AUTH was sent, but this node has no users: connect without a password"
NAME_BYTES_MAX = 256


def ping(call: Call) -> None:
    if len(call.arguments) > 2:
        raise CommandError(wrong_arity("ping"))
    call.answer(call.arguments[1] if len(call.arguments) == 2 else Simple("PONG"))


def echo(call: Call) -> None:
    call.answer(call.arguments[1])


def quit_(call: Call) -> None:
    call.session.closing = True
    call.reply(OK)


def reset(call: Call) -> None:
    call.session.reset()
    call.answer(Simple("RESET"))


def auth(call: Call) -> None:
    if len(call.arguments) > 3:
        raise CommandError(SYNTAX)
    raise CommandError(NO_USERS)


def readonly(call: Call) -> None:
    """Any node answers for any key, so there is nothing to switch."""
    call.reply(OK)


def hello(call: Call) -> None:
    session = call.session
    protocol = session.protocol
    options = iter(call.arguments[2:])
    if len(call.arguments) > 1:
        protocol = integer_of(call.arguments[1], "ERR Protocol version is not an integer or out of range")
        if protocol not in (2, 3):
            raise CommandError("NOPROTO unsupported protocol version")
    name = session.client_name
    for option in options:
        argument = next(options, None)
        if option.upper() == b"SETNAME" and argument is not None:
            name = checked_name(argument)
        elif option.upper() == b"AUTH" and argument is not None and next(options, None) is not None:
            raise CommandError(NO_USERS)
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{shown(option)}'")
    session.client_name = name
    session.set_protocol(protocol)
    call.answer(
        {
            "server": "redis",
            "version": REDIS_VERSION,
            "proto": protocol,
            "id": session.id,
            "mode": "cluster",
            "role": "master",
            "modules": [],
            "ringwise": __version__,
        }
    )


def checked_name(name: bytes) -> bytes:
    if len(name) > NAME_BYTES_MAX:
        raise CommandError(f"ERR a client name has at most {NAME_BYTES_MAX} bytes")
    if not all(0x21 <= byte <= 0x7E for byte in name):
        raise CommandError("ERR Client names cannot contain spaces, newlines or special characters.")
    return name


def client_id(call: Call) -> None:
    call.answer(call.session.id)


def client_getname(call: Call) -> None:
    call.answer(call.session.client_name or None)


def client_setname(call: Call) -> None:
    call.session.client_name = checked_name(call.arguments[2])
    call.reply(OK)


def client_setinfo(call: Call) -> None:
    option = call.arguments[2].lower()
    if option not in (b"lib-name", b"lib-ver"):
        raise CommandError(f"ERR Unrecognized option '{shown(call.arguments[2])}'")
    text = call.arguments[3]
    if len(text) > NAME_BYTES_MAX or not all(0x21 <= byte <= 0x7E for byte in text):
        raise CommandError(f"ERR {option.decode()} cannot contain spaces, newlines or special characters.")
    call.session.library[option.decode()] = text.decode("ascii")
    call.reply(OK)


def client_info(call: Call) -> None:
    call.answer(Verbatim(client_line(call.session) + "\n"))


def client_list(call: Call) -> None:
    sessions = call.session.clients.sessions
    options = call.arguments[2:]
    if not options:
        wanted = list(sessions)
    elif options[0].upper() == b"ID" and len(options) > 1:
        wanted = [integer_of(text, "ERR Invalid client ID") for text in options[1:]]
    elif len(options) == 2 and options[0].upper() == b"TYPE" and options[1].lower() in _CLIENT_TYPES:
        wanted = list(sessions) if options[1].lower() == b"normal" else []
    elif len(options) == 2 and options[0].upper() == b"TYPE":
        raise CommandError(f"ERR Unknown client type '{shown(options[1])}'")
    else:
        raise CommandError(SYNTAX)
    lines = [client_line(sessions[number]) + "\n" for number in wanted if number in sessions]
    call.answer(Verbatim("".join(lines)))


def client_kill(call: Call) -> None:
    """By address, the old form, or by filters, all of which must fit; one is killed though it does not read its replies."""
    sessions, own = call.session.clients.sessions, call.session
    if len(call.arguments) == 3:
        address = call.arguments[2].decode("latin-1")
        wanted = [each for each in sessions.values() if each.address == address]
        if not wanted:
            raise CommandError("ERR No such client")
    else:
        wanted = _filtered(call)
    for session in wanted:
        if session is own:
            session.closing = True
        else:
            session.kill()
    call.answer(Simple("OK") if len(call.arguments) == 3 else len(wanted))


def _filtered(call: Call) -> list[Session]:
    own, now_ms = call.session, call.node.now.wall_ms
    wanted = list(own.clients.sessions.values())
    skip_own = True
    options = call.arguments[2:]
    if len(options) % 2:
        raise CommandError(SYNTAX)
    for option, text in zip(options[::2], options[1::2], strict=True):
        match option.upper():
            case b"ID":
                number = integer_of(text, "ERR client-id should be greater than 0")
                if number < 1:
                    raise CommandError("ERR client-id should be greater than 0")
                wanted = [each for each in wanted if each.id == number]
            case b"ADDR":
                wanted = [each for each in wanted if each.address == text.decode("latin-1")]
            case b"LADDR":
                wanted = []  # it is not known which of a node's addresses a client has come to
            case b"TYPE":
                if text.lower() not in _CLIENT_TYPES:
                    raise CommandError(f"ERR Unknown client type '{shown(text)}'")
                wanted = wanted if text.lower() == b"normal" else []
            case b"USER":
                if text != b"default":
                    raise CommandError(f"ERR No such user '{shown(text)}'")
            case b"MAXAGE":
                age_ms = integer_of(text) * 1000
                wanted = [each for each in wanted if now_ms - each.since_ms >= age_ms]
            case b"SKIPME" if text.lower() in (b"yes", b"no"):
                skip_own = text.lower() == b"yes"
            case _:
                raise CommandError(SYNTAX)
    return [each for each in wanted if each is not own or not skip_own]


_CLIENT_TYPES = (b"normal", b"master", b"replica", b"slave", b"pubsub")


def client_switch(call: Call) -> None:
    """NO-EVICT and NO-TOUCH: no client is ever evicted here, and reads touch nothing."""
    if call.arguments[2].upper() not in (b"ON", b"OFF"):
        raise CommandError(SYNTAX)
    call.reply(OK)


def client_reply(call: Call) -> None:
    """Every command is answered: a client that counts replies must be able to rely on it."""
    if call.arguments[2].upper() == b"ON":
        call.reply(OK)
    elif call.arguments[2].upper() in (b"OFF", b"SKIP"):
        raise CommandError(
            "ERR CLIENT REPLY OFF and SKIP are not served: without replies nobody learns what was not written"
        )
    else:
        raise CommandError(SYNTAX)


def client_unpause(call: Call) -> None:
    """Nobody is paused."""
    call.reply(OK)


def client_getredir(call: Call) -> None:
    """-1: keys are not tracked for this connection."""
    call.answer(-1)


def client_trackinginfo(call: Call) -> None:
    call.answer({"flags": {"off"}, "redirect": -1, "prefixes": []})


def client_tracking(call: Call) -> None:
    if call.arguments[2].upper() == b"OFF":
        call.reply(OK)
    elif call.arguments[2].upper() == b"ON":
        raise CommandError("ERR client-side caching is not served: no node sees all the writes of a key")
    else:
        raise CommandError(SYNTAX)


def rw_consistency(call: Call) -> None:
    if len(call.arguments) > 2:
        raise CommandError(wrong_arity("rw.consistency"))
    if len(call.arguments) == 1:
        call.answer(call.session.level.name)
        return
    call.session.set_level(_level_of(call.session, call.arguments[1]))
    call.reply(OK)


def _level_of(session: Session, text: bytes) -> Level:
    """A level that this cluster can keep once it has all its members; raises ImpossibleLevel, which names N."""
    level = Level.parse(text)
    document = session.node.topology.document
    level.check(session.node.config.replicas if document is None else document.replicas)
    return level


def rw_at(call: Call) -> None:
    """RW.AT level COMMAND ...: this command only, since pools hand connections from one caller to the next."""
    level, inner = parts_of_at(call.session, call.arguments)
    call.session.run(inner, level, call.row, call.index)


def parts_of_at(session: Session, arguments: Request) -> tuple[Level, Request]:
    """The level and the command of RW.AT, which may be an unknown one; raises CommandError or Failure."""
    level = _level_of(session, arguments[1])
    inner = arguments[2:]
    command = session.table.find(inner[0])
    on_keys = command is not None and (
        any((*command.keys, command.find_keys)) or command.all_keys or bool(command.keys_of(inner))
    )
    if command is not None and (command.name == "rw.at" or not on_keys):
        raise CommandError(f"ERR RW.AT takes a command on keys, and {command.name.upper()} is none")
    return level, inner


def rw_dev(call: Call) -> None:
    """Cuts this node off from the others, or joins it to them again: to watch a partition, on a trial cluster only."""
    partition = call.session.clients.partition
    if partition is None:
        raise CommandError("ERR RW.DEV is served only by nodes that 'ringwise dev' has started")
    match [argument.upper() for argument in call.arguments[1:]]:
        case [b"HEAL"]:
            direction = ""
        case [b"PARTITION"]:
            direction = "both"
        case [b"PARTITION", (b"BOTH" | b"IN" | b"OUT") as named]:
            direction = named.decode().lower()
        case _:
            raise CommandError("ERR RW.DEV takes PARTITION [BOTH | IN | OUT] or HEAL")
    call.session.clients.cut_off = direction
    partition(direction)
    call.reply(OK)
