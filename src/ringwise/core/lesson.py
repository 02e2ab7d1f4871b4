"""What a refusal for the topology's sake is answered with (T5): who is behind gets the document, who is ahead is asked for it."""

from __future__ import annotations

from collections.abc import Container

from ringwise.core.agreement import Known, Learn
from ringwise.core.messages import BEHIND, STALE, encode
from ringwise.core.peers import Link, Peers
from ringwise.core.topology import Topology


def teach(peers: Peers, topology: Topology, link: Link, reasons: Container[int]) -> None:
    """`reasons`: why the peer at the other end has refused something; others than these two are nobody's lesson."""
    if BEHIND in reasons and topology.document is not None:
        peers.post(link, encode(Learn(topology.document.encode())))
    if STALE in reasons:
        peers.post(link, encode(Known(topology.epoch, False)))  # it answers with its document
