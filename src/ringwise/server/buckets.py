"""RW.BUCKET LIST | SHOW name | CREATE name … | SET name … | DROP name, SELECT, FLUSHDB, FLUSHALL: buckets and their rules (T2).

The connection holds a view of the node on the bucket that it has selected (core/view.py), so no other command knows of buckets.
"""

from __future__ import annotations

from functools import partial

from ringwise.core import buckets
from ringwise.core.agreement import Change
from ringwise.core.buckets import Settings
from ringwise.core.errors import Failure, NoSuchBucket, NotReady, Refused
from ringwise.core.topology import NUMBERED, BucketRules, ChangeRefused, Document
from ringwise.server.arguments import SYNTAX, integer_of
from ringwise.server.call import Call, CommandError, shown
from ringwise.wire.replies import OK, Value

INT_MAX = 2**31 - 1  # Redis's words, which name its own limits
_ALL = [b""]  # no key is empty: whatever comes next on the connection waits (B2)


def select(call: Call) -> None:
    """SELECT: a number from 0 to 15, as in Redis, or a name."""
    label = call.arguments[1].decode("utf-8", "replace")
    if not buckets.is_name(label):
        number = integer_of(call.arguments[1])
        if not -INT_MAX - 1 <= number <= INT_MAX:
            raise CommandError(f"ERR value is out of range, value must between {-INT_MAX - 1} and {INT_MAX}")
        if not 0 <= number < NUMBERED:
            raise CommandError("ERR DB index is out of range")
    node = call.node.select(label)
    if node is None:
        raise NoSuchBucket(shown(call.arguments[1]))
    call.session.select(node)
    call.reply(OK)


def rw_bucket(call: Call) -> None:
    action, *words = call.arguments[1:]
    document = call.node.topology.document
    if document is None:
        raise NotReady("this node is in no cluster yet")
    match action.upper(), words:
        case b"LIST", []:
            call.answer([described(rules) for rules in document.in_force()])
        case b"SHOW", [name]:
            call.answer(described(_named(document, name)))
        case b"CREATE", [name, *options]:
            label, settings = shown(name), _settings(options)
            _check_function(call, settings)
            _change(call, lambda before: buckets.create(before, label, settings), label)
        case b"SET", [name, *options] if options:
            label, settings = shown(name), _settings(options)
            _check_function(call, settings)
            _change(call, lambda before: buckets.change(before, label, settings), label)
        case b"DROP", [name]:
            label = shown(name)
            _change(call, lambda before: buckets.drop(before, label), None)
        case _:
            raise CommandError(SYNTAX)


def _named(document: Document, name: bytes) -> BucketRules:
    rules = buckets.find(document, name.decode("utf-8", "replace"))
    if rules is None:
        raise NoSuchBucket(shown(name))
    return rules


def _settings(options: list[bytes]) -> Settings:
    if len(options) % 2:
        raise CommandError(SYNTAX)
    wanted: dict[str, str | int] = {}
    for option, text in zip(options[::2], options[1::2], strict=True):
        match option.upper():
            case b"N":
                wanted["n"] = integer_of(text)
            case b"TTL":
                wanted["ttl_s"] = integer_of(text)
            case (b"R" | b"W") as which:
                wanted[which.decode().lower()] = "" if text.lower() == b"default" else shown(text.lower())
            case (b"POLICY" | b"ENGINE") as which:
                wanted[which.decode().lower()] = shown(text)
            case _:
                raise CommandError(SYNTAX)
    return Settings(**wanted)  # type: ignore[arg-type]


def _check_function(call: Call, settings: Settings) -> None:
    """Other nodes may lack it, too, and then keep siblings; but this one can tell at once."""
    policy, names = settings.policy or "", call.node.merging.names
    name = policy.removeprefix(buckets.MERGE)
    if name != policy and name not in names:
        there = ", ".join(names) if names else "none"
        raise CommandError(
            f"ERR this node has no merge function {name}: install a package with an entry point of that name in group "
            f"ringwise.merge on every node, and restart them; there are: {there}"
        )


def _change(call: Call, change: Change, label: str | None) -> None:
    """Answers with the rules that are then in force, or OK where the bucket is no more."""

    def done(result: Document | Failure) -> None:
        if isinstance(result, Failure):
            call.fail(result)
        elif label is None:
            call.reply(OK)
        else:
            rules = buckets.find(result, label)
            if rules is None:
                call.fail(NoSuchBucket(label))  # dropped by somebody else, at once
            else:
                call.answer(described(rules))

    document = call.node.topology.document
    assert document is not None
    try:
        change(document)  # what is refused needs no majority to be told so
    except ChangeRefused as refusal:
        raise Refused(refusal.reason) from refusal
    call.begin_update(_ALL)
    call.node.change_buckets(change, done)


def described(rules: BucketRules) -> dict[bytes | str, Value]:
    return {
        "bucket": buckets.label_of(rules),
        "number": rules.number,
        "n": rules.n,
        "r": rules.r or "default",
        "w": rules.w or "default",
        "policy": rules.policy,
        "ttl": rules.ttl_s,
        "engine": rules.engine,
        "flushes": rules.incarnation - 1,
    }


def flushdb(call: Call) -> None:
    """All keys of the selected bucket are gone at once; their space comes back in the background, whatever was asked for."""
    _check_flush(call)
    call.begin_update(_ALL)
    call.node.flush(partial(_flushed, call))


def flushall(call: Call) -> None:
    """The same for every bucket."""
    _check_flush(call)
    call.begin_update(_ALL)
    call.node.flush_all(partial(_flushed, call))


def _check_flush(call: Call) -> None:
    options = call.arguments[1:]
    if len(options) > 1 or (options and options[0].upper() not in (b"ASYNC", b"SYNC")):
        raise CommandError(SYNTAX)


def _flushed(call: Call, failure: Failure | None) -> None:
    if failure is not None:
        call.fail(failure)
    else:
        call.reply(OK)
