"""What members say to each other: `version u8 | msgpack` of one of the packets below.

Every packet names its sender with its own present state (`me`), so whoever hears from a restarted, moved or refuting
member knows the newest at first hand, and carries news about others. Over UDP it fits a datagram that no usual network
splits; over a link only `Sync` may be longer.

      Ping ------------------> target      Ask ------> helper -- Ping --> target
      <------------------ Ack                 <-- Ack or Nack -- <-- Ack --

An update is (node, incarnation, state, address). Only the member itself makes incarnations; 0 means that it was never
heard of, so its address is the document's and travels in no packet.
"""

from __future__ import annotations

import enum
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from ringwise.core.topology import MEMBERS_MAX, NODE_ID_BYTES, NodeId

VERSION = 1
DATAGRAM_BYTES_MAX = 1_400  # below the 1,500 of Ethernet, with room for tunnels
SYNC_BYTES_MAX = 512 * 1024  # 1,024 members with the longest of host names
HOST_BYTES_MAX = 253  # a DNS name; so an update is below 320 bytes, and three fit into any datagram
INCARNATION_MAX = 1 << 53  # wall-clock milliseconds for 285,000 years

Id = Annotated[bytes, Meta(min_length=NODE_ID_BYTES, max_length=NODE_ID_BYTES)]
Host = Annotated[str, Meta(max_length=HOST_BYTES_MAX)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Number = Annotated[int, Meta(ge=0, lt=1 << 32)]


class Address(msgspec.Struct, array_like=True, frozen=True, order=True):
    host: Host
    peer_port: Port
    port: Port
    http_port: Port
    cluster_port: Port


class State(enum.IntEnum):
    """In one incarnation the greater state wins; a newer incarnation beats them all."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class Update(msgspec.Struct, array_like=True, frozen=True):
    node: Id
    incarnation: Annotated[int, Meta(ge=0, le=INCARNATION_MAX)]
    state: State
    address: Address | None  # None exactly at incarnation 0
    # The accuser, of a suspicion: confirmations are counted by it.
    by: Annotated[bytes, Meta(max_length=NODE_ID_BYTES)] = b""


Updates = Annotated[list[Update], Meta(max_length=MEMBERS_MAX)]


class Ping(msgspec.Struct, array_like=True, frozen=True, tag=1):
    me: Update
    updates: Updates
    number: Number
    target: Id  # whoever is at an old address of the target must not answer for it
    reliable: bool = False  # came over the link, and the answer goes back over it


class Ack(msgspec.Struct, array_like=True, frozen=True, tag=2):
    me: Update
    updates: Updates
    number: Number
    target: Id  # the member that answered: the sender, or whom it was asked about


class Ask(msgspec.Struct, array_like=True, frozen=True, tag=3):
    me: Update
    updates: Updates
    number: Number
    target: Id


class Nack(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """The helper is there, the target has not answered it yet: the asker's own network is not to blame (Lifeguard)."""

    me: Update
    updates: Updates
    number: Number
    target: Id


class Tell(msgspec.Struct, array_like=True, frozen=True, tag=5):
    me: Update
    updates: Updates


class Sync(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """Everything the sender knows; answered with the same (push-pull)."""

    me: Update
    updates: Updates
    answer: bool


Packet = Ping | Ack | Ask | Nack | Tell | Sync


class Outgoing(NamedTuple):
    to: NodeId
    address: Address | None
    payload: bytes
    reliable: bool  # over the TCP link of that peer; else a UDP datagram


class BadPacket(Exception):
    """The bytes are no packet of this version."""


def encode(packet: Packet) -> bytes:
    return _PREFIX + _encoder.encode(packet)


def decode(payload: bytes) -> Packet:
    if len(payload) > SYNC_BYTES_MAX or payload[:1] != _PREFIX:
        raise BadPacket(f"{len(payload)} bytes that do not begin with version {VERSION}")
    try:
        packet = _decoder.decode(memoryview(payload)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadPacket(f"no packet: {error}") from error
    if packet.me.state not in (State.ALIVE, State.LEFT) or not sound(packet.me):
        raise BadPacket("nobody says of itself that it is suspect or dead, or where it is not")
    return packet


def sound(update: Update) -> bool:
    """Whether incarnation and address go together, and the host can be a host."""
    if update.address is None:
        return update.incarnation == 0
    return update.incarnation > 0 and update.address.host.isascii()


def size(update: Update) -> int:
    return len(_encoder.encode(update))


_PREFIX = bytes([VERSION])
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Packet] = msgspec.msgpack.Decoder(Packet)
