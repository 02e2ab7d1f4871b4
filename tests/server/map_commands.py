"""Random commands on hashes and sorted sets, for the comparisons with a real redis-server.

Scores are such as a double has exactly, and few enough bits apart that sums are exact too: of others Redis 7.0 writes seventeen
digits, and sums depend on the order. No weight makes -0 of a score, which Redis forgets the sign of where a sorted set is small.
"""

from __future__ import annotations

import random

HASHES = [b"h", b"{h}1", b"a"]
FIELDS = [b"f", b"i", b"1", b"", b"two words", b"\xff\x00", b"f" * 100]
REAL = b"r"  # a field of decimal numbers; it and `two words` get no great ones, whose sums Redis rounds
WHOLE = [
    b"1",
    b"-1",
    b"10",
    b"0",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1.5",
    b"x",
    b"",
    b" 1",
    b"+1",
    b"01",
]
REALS = [b"0.5", b"-0.25", b"1e3", b"3", b"1.0", b"x", b"", b"nan", b" 1", b"-7.125"]
CONTENTS = [b"", b"5", b"-3", b"text", b"\r\n", b"x" * 300]

SORTED_SETS = [b"z", b"{z}1", b"{z}2", b"s", b"a"]
LEX_SETS = [b"l", b"{l}1"]  # all scores are 0: by the bytes of members there is a range only then
MEMBERS = [b"a", b"b", b"c", b"d", b"", b"10", b"\xff\x00", b"m" * 100]
SCORES = [b"1", b"2", b"3", b"-1", b"0.5", b"-2.25", b"1000000", b"inf", b"-inf", b"+inf", b"1e3", b"0", b"0x10"]
NO_SCORES = [b"x", b"", b"nan", b"1 ", b" 1", b"1e400", b"1_0"]
ENDS = [
    b"-inf",
    b"+inf",
    b"inf",
    b"(1",
    b"1",
    b"2",
    b"(2.5",
    b"0.5",
    b"(inf",
    b"x",
    b"(",
    b"",
    b" 1",
    b"(x",
    b"nan",
    b"1e400",
]
LEX_ENDS = [b"-", b"+", b"[a", b"(a", b"[c", b"(b", b"[", b"(", b"x", b"", b"-x", b"[\xff"]
RANKS = [b"0", b"-1", b"1", b"2", b"-2", b"-100", b"100", b"x", b"", b"9223372036854775807", b"-9223372036854775808"]
COUNTS = [b"0", b"1", b"2", b"-1", b"100", b"x"]


def random_hash_command(rng: random.Random) -> list[bytes]:
    key, field, value = rng.choice(HASHES), rng.choice(FIELDS), rng.choice(CONTENTS)
    pairs = [part for _ in range(rng.randint(1, 3)) for part in (rng.choice(FIELDS), rng.choice(CONTENTS))]
    fields = rng.choices(FIELDS, k=rng.randint(1, 3))
    command = rng.choice(
        [
            [b"HSET", key, *pairs], [b"HSET", key, *pairs], [b"hset", key, field, value], [b"HMSET", key, *pairs],
            [b"HSET", key, *pairs, b"odd"], [b"HMSET", key, *pairs, b"odd"], [b"HGET", key, field], [b"HGET", key, REAL],
            [b"HMGET", key, *fields], [b"HDEL", key, *fields], [b"HDEL", key, *fields], [b"HDEL", key, *FIELDS, REAL],
            [b"HEXISTS", key, field], [b"HLEN", key], [b"HSTRLEN", key, field],
            [b"HINCRBY", key, rng.choice([b"f", b"1", b""]), rng.choice(WHOLE)], [b"HINCRBY", key, b"i", rng.choice(WHOLE)],
            [b"HINCRBYFLOAT", key, REAL, rng.choice(REALS)], [b"HINCRBY", key, REAL, b"2"],
            [b"HINCRBYFLOAT", key, b"two words", rng.choice(REALS)], [b"HSET", key, REAL, b"1.5"],
            [b"HSET", key, b"i", b"7"], [b"DEL", key], [b"TYPE", key], [b"EXISTS", key], [b"PERSIST", key],
            [b"GET", key], [b"SADD", key, b"m"], [b"INCR", key], [b"SET", key, b"1"], [b"EXPIRE", key, b"1000000"],
            [b"PEXPIREAT", key, b"1"], [b"ZADD", key, b"1", b"m"], [b"APPEND", key, b"x"], [b"SUNION", key, b"absent"],
        ]
    )  # fmt: skip
    return command[: rng.randint(1, len(command))] if rng.random() < 0.05 else command


def random_unordered_hash_command(rng: random.Random) -> list[bytes]:
    """What two servers answer in different orders, or by chance."""
    key = rng.choice(HASHES)
    return rng.choice(
        [
            [b"HGETALL", key], [b"HGETALL", key], [b"HKEYS", key], [b"HVALS", key],
            [b"HSCAN", key, b"0", b"COUNT", b"1000"], [b"HSCAN", key, b"0", b"COUNT", b"1000", b"MATCH", b"f*"],
            [b"HSCAN", key, b"x"], [b"HSCAN", key, b"0", b"COUNT", b"0"], [b"HSCAN", key, b"0", b"x"],
            [b"HRANDFIELD", key, b"0"], [b"HRANDFIELD", key, b"100"], [b"HRANDFIELD", key, b"-7"],
            [b"HRANDFIELD", key, b"100", b"WITHVALUES"], [b"HRANDFIELD", key, b"-3", b"withvalues"],
            [b"HRANDFIELD", key, b"x"], [b"HRANDFIELD", key, b"1", b"1"], [b"HRANDFIELD", b"absent"],
            [b"HRANDFIELD", key, b"1", b"WITHVALUES", b"x"], [b"HRANDFIELD", b"absent", b"2", b"WITHVALUES"],
        ]
    )  # fmt: skip


def _score(rng: random.Random) -> bytes:
    return rng.choice(NO_SCORES if rng.random() < 0.05 else SCORES)


def random_sorted_command(rng: random.Random) -> list[bytes]:
    kind = rng.random()
    if kind < 0.4:
        command = _random_write(rng)
    elif kind < 0.75:
        command = _random_range(rng)
    else:
        command = _random_combination(rng)
    return command[: rng.randint(1, len(command))] if rng.random() < 0.05 else command


def _random_write(rng: random.Random) -> list[bytes]:
    key, member = rng.choice(SORTED_SETS), rng.choice(MEMBERS)
    pairs = [part for _ in range(rng.randint(1, 4)) for part in (_score(rng), rng.choice(MEMBERS))]
    options = rng.sample([b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR", b"ch"], k=rng.choice((0, 1, 1, 2, 2, 3)))
    return rng.choice(
        [
            [b"ZADD", key, *pairs], [b"ZADD", key, *pairs], [b"ZADD", key, *options, *pairs], [b"ZADD", key, *options, *pairs],
            [b"ZADD", key, *options, _score(rng), member], [b"ZADD", key, b"INCR", *options, _score(rng), member],
            [b"ZADD", key, b"1"], [b"ZADD", key, *pairs, b"1"], [b"ZADD", key, b"NX", b"CH"],
            [b"ZINCRBY", key, _score(rng), member], [b"ZINCRBY", key, _score(rng), member],
            [b"ZREM", key, member, rng.choice(MEMBERS)], [b"ZREM", key, *MEMBERS], [b"ZPOPMIN", key], [b"ZPOPMAX", key],
            [b"ZPOPMIN", key, rng.choice(COUNTS)], [b"ZPOPMAX", key, rng.choice(COUNTS)], [b"ZPOPMIN", key, b"1", b"1"],
            [b"ZREMRANGEBYRANK", key, rng.choice(RANKS), rng.choice(RANKS)],
            [b"ZREMRANGEBYSCORE", key, rng.choice(ENDS), rng.choice(ENDS)],
            [b"ZREMRANGEBYLEX", rng.choice(LEX_SETS), rng.choice(LEX_ENDS), rng.choice(LEX_ENDS)],
            [b"ZADD", rng.choice(LEX_SETS), b"0", member, b"0", rng.choice(MEMBERS)],
            [b"DEL", key], [b"TYPE", key], [b"GET", key], [b"SADD", key, member], [b"HSET", key, b"f", b"1"],
            [b"EXPIRE", key, b"1000000"], [b"PEXPIREAT", key, b"1"], [b"EXISTS", key], [b"SET", key, b"1"],
        ]
    )  # fmt: skip


def _random_range(rng: random.Random) -> list[bytes]:
    key, member = rng.choice(SORTED_SETS), rng.choice(MEMBERS)
    rank, score, lex = (rng.choices(ends, k=2) for ends in (RANKS, ENDS, LEX_ENDS))
    options = rng.sample(
        [b"REV", b"WITHSCORES", b"withscores", b"LIMIT", b"BYSCORE", b"BYLEX"], k=rng.choice((0, 1, 2, 3))
    )
    limit = [b"LIMIT", rng.choice(RANKS), rng.choice(COUNTS)]
    words = [word for option in options for word in (limit if option == b"LIMIT" else [option])]
    ends = lex if b"BYLEX" in options else score if b"BYSCORE" in options else rank
    other = rng.choice(LEX_SETS)
    key = other if b"BYLEX" in options else key
    older = [b"WITHSCORES"] * rng.randrange(2) + (limit if rng.random() < 0.3 else [])
    return rng.choice(
        [
            [b"ZRANGE", key, *ends, *words], [b"ZRANGE", key, *ends, *words], [b"ZRANGE", key, *ends, *words],
            [b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"], [b"ZRANGE", key, b"-inf", b"+inf", b"BYSCORE", *limit],
            [b"ZRANGESTORE", rng.choice(SORTED_SETS), key, *ends, *words],
            [b"ZREVRANGE", key, *rank, *older[:1]], [b"ZRANGEBYSCORE", key, *score, *older],
            [b"ZREVRANGEBYSCORE", key, *score, *older], [b"ZRANGEBYLEX", other, *lex, *older],
            [b"ZREVRANGEBYLEX", other, *lex, *older], [b"ZCOUNT", key, *score], [b"ZLEXCOUNT", other, *lex],
            [b"ZRANK", key, member], [b"ZREVRANK", key, member], [b"ZSCORE", key, member], [b"ZCARD", key],
            [b"ZMSCORE", key, member, rng.choice(MEMBERS)], [b"ZREVRANGE", key, b"0", b"-1", b"REV"],
        ]
    )  # fmt: skip


def _random_combination(rng: random.Random) -> list[bytes]:
    target, keys = rng.choice(SORTED_SETS), rng.choices([*SORTED_SETS, b"absent"], k=rng.randint(1, 3))
    count = rng.choice([b"%d" % len(keys)] * 12 + [b"0", b"x", b"9", b"-1"])
    words: list[bytes] = []
    if rng.random() < 0.4:
        words += [b"WEIGHTS", *rng.choices([b"1", b"2", b"3", b"0.5", b"inf"], k=len(keys))]
    if rng.random() < 0.4:
        words += [b"AGGREGATE", rng.choice([b"SUM", b"MIN", b"max", b"x"])]
    if rng.random() < 0.4:
        words.append(b"WITHSCORES")
    if rng.random() < 0.05:
        words = rng.choice([[b"WEIGHTS", b"x"] * len(keys), [b"WEIGHTS"], [b"AGGREGATE"], [b"x"]])
    return rng.choice(
        [
            [b"ZUNION", count, *keys, *words], [b"ZINTER", count, *keys, *words], [b"ZDIFF", count, *keys, *words[-1:]],
            [b"ZUNIONSTORE", target, count, *keys, *words], [b"ZINTERSTORE", target, count, *keys, *words],
            [b"ZDIFFSTORE", target, count, *keys], [b"ZUNIONSTORE", target, count, *keys],
            [b"ZINTERCARD", count, *keys], [b"ZINTERCARD", count, *keys, b"LIMIT", rng.choice(COUNTS)],
            [b"ZINTERCARD", count, *keys, b"LIMIT"], [b"ZINTERCARD", count, *keys, b"x", b"1"],
        ]
    )  # fmt: skip


def random_unordered_sorted_command(rng: random.Random) -> list[bytes]:
    """What two servers answer in different orders, or by chance."""
    key = rng.choice(SORTED_SETS)
    return rng.choice(
        [
            [b"ZSCAN", key, b"0", b"COUNT", b"1000"], [b"ZSCAN", key, b"0", b"COUNT", b"1000", b"MATCH", b"[abm]*"],
            [b"ZSCAN", key, b"x"], [b"ZSCAN", key, b"0", b"COUNT", b"0"], [b"ZSCAN", key, b"0", b"x"],
            [b"ZRANDMEMBER", key, b"0"], [b"ZRANDMEMBER", key, b"100"], [b"ZRANDMEMBER", key, b"-7"],
            [b"ZRANDMEMBER", key, b"100", b"WITHSCORES"], [b"ZRANDMEMBER", key, b"-3", b"withscores"],
            [b"ZRANDMEMBER", key, b"x"], [b"ZRANDMEMBER", key, b"1", b"1"], [b"ZRANDMEMBER", b"absent"],
            [b"ZRANDMEMBER", b"absent", b"2", b"WITHSCORES"],
        ]
    )  # fmt: skip
