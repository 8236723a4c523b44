"""Versions that must agree before a node does anything: those of its ledger, of its state, of its peers.

    FORMAT            of the ledger: how votes, blocks and payloads lie on disk (`node.ledger`)
    PROTOCOL_VERSION  what validators say to one another, and what they mean by it
    LAYOUT_VERSION    the rows that a state root is made of (`engine.layout`)

Two protocols or layouts on one chain would not agree on its blocks, so nobody passes from one to the
other but all together: at a wedge, which the operators name in `ledger.resume_after`. There a start
takes the new protocol into the ledger, once. A node that was behind when the others passed on cannot
vote its way there: `kontor heal`, under the new version, has it fetch what they have.

The layout is another matter: its root is signed in every checkpoint. A version that changes it has to
bring a conversion of the state, which all run alike at the wedge, and those who come later are served
the next checkpoint, since at the wedge it is the old root that was signed. No version has changed the
layout of a chain that runs, so this one has no conversion: it refuses.
"""

from typing import TYPE_CHECKING, NamedTuple

from consensus.durable import STABLE
from consensus.messages import CODEC
from consensus.primitives.errors import ConfigError
from consensus.proofs import CheckpointCert
from engine.layout import LAYOUT_VERSION

if TYPE_CHECKING:
    from node.ledger import Ledger

PROTOCOL_VERSION = 2


class WrongVersion(ConfigError):
    """Another version of Kontor made this; the message names both versions, and what to do."""


class Versions(NamedTuple):
    """What a ledger is written under."""

    protocol: int
    layout: int


def own_versions() -> Versions:
    """Those of this program."""
    return Versions(PROTOCOL_VERSION, LAYOUT_VERSION)


def check_versions(ledger: "Ledger", resume_after: int) -> None:
    """Raise `WrongVersion` unless this program may go on with a ledger.

    A ledger of another protocol that stands at the wedge `resume_after` is of this one from now on.
    """
    held, own = ledger.versions, own_versions()
    if held.layout != own.layout:
        raise WrongVersion(
            f"{ledger.path} has a state of layout {held.layout}; this version of Kontor has layout"
            f" {own.layout}, and no conversion: start the version that wrote it, or, if the other validators"
            " run this one already, have their state fetched with `kontor heal`"
        )
    if held.protocol == own.protocol:
        return
    if not _stands_at_wedge(ledger, resume_after):
        raise WrongVersion(
            f"{ledger.path} was written under protocol {held.protocol}; this version of Kontor speaks"
            f" {own.protocol}. All validators change it together: start the version that wrote it, stop the"
            " chain with `kontor validator wedge`, and name that block as 'ledger.resume_after' (it is"
            f" {resume_after}) before this version starts. If the others did so already, run `kontor heal`"
        )
    ledger.take_versions(own)


def _stands_at_wedge(ledger: "Ledger", height: int) -> bool:
    """Whether a quorum signed that the chain stops at `height`, and the ledger holds nothing above it."""
    data = ledger.votes().get(STABLE)
    stable = CODEC.decode(data) if data else None
    return (
        isinstance(stable, CheckpointCert)
        and stable.seq == stable.state.boundary == height
        and ledger.committed_after(height) == height
    )
