"""A validator that lies once: `python -m tests.helpers.two_faced_node HOME` runs it until it is killed.

With the first prepare that it casts before all, it signs two contradicting ones for a place ahead, past its
record, and sends them over its links. Otherwise it is honest.
"""

import sys
from dataclasses import replace
from pathlib import Path

import trio

from consensus.certificates import PREPARE
from consensus.messages import Message, Prepare
from consensus.primitives.crypto import Ed25519Signer, digest
from consensus.proofs import signing_digest
from consensus.quorum import epoch_of
from node.keys import load_signer
from node.runtime import Node
from node.setup import Home
from node.start import run_node

AHEAD = 16  # blocks: nobody has settled that place before the lie arrives


class TwoFaced:
    """Stands between a node and its links."""

    def __init__(self, key: Ed25519Signer) -> None:
        self._key = key
        self._told = False
        self._honest = Node._broadcast

    def broadcast(self, node: Node, message: Message) -> None:
        """Send what the node says, and the lie with its first prepare that all can hear."""
        self._honest(node, message)
        everybody_listens = node.status().peers_connected == node.network.replicas.n - 1
        if isinstance(message, Prepare) and everybody_listens and not self._told:
            self._told = True
            for face in (b"one", b"other"):
                self._honest(node, self._sign(node.network.chain_id, message, digest("test.face", face)))

    def _sign(self, chain_id: bytes, honest: Prepare, body: bytes) -> Prepare:
        view, seq = honest.view, honest.seq + AHEAD
        message = signing_digest(chain_id, epoch_of(view), PREPARE, view, seq, body)
        return replace(honest, seq=seq, digest=body, signature=self._key.sign(message))


def main(root: Path) -> None:
    """Run the node."""
    liar = TwoFaced(load_signer(Home(root).consensus_seed))
    Node._broadcast = lambda node, message: liar.broadcast(node, message)  # type: ignore[method-assign]
    trio.run(run_node, root)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
