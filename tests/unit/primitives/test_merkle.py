"""Inclusion proofs: every leaf proves itself, nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.primitives import merkle
from consensus.primitives.crypto import ZERO_DIGEST
from consensus.primitives.errors import ProtocolError


def _leaves(count: int) -> list[bytes]:
    return [merkle.hash_leaf(i.to_bytes(4, "little")) for i in range(count)]


@pytest.mark.parametrize("count", [*range(1, 20), 64, 65, 100])
def test_every_leaf_proves_itself_and_no_other_place(count):
    leaves = _leaves(count)
    root = merkle.compute_root(leaves)
    for index, leaf in enumerate(leaves):
        path = merkle.prove(leaves, index)
        merkle.verify(root, leaf, index, count, path)
        for other in range(count):
            if other != index:
                with pytest.raises(ProtocolError):
                    merkle.verify(root, leaf, other, count, path)


@given(st.integers(1, 40), st.data())
def test_a_tampered_proof_is_refused(count, data):
    leaves = _leaves(count)
    root = merkle.compute_root(leaves)
    index = data.draw(st.integers(0, count - 1))
    path = list(merkle.prove(leaves, index))
    change = data.draw(st.sampled_from(["leaf", "root", "longer", "shorter", "step"]))
    leaf = leaves[index]
    if change == "leaf":
        leaf = merkle.hash_leaf(b"another")
    elif change == "root":
        root = merkle.hash_leaf(b"another")
    elif change == "longer":
        path.append(ZERO_DIGEST)
    elif not path:
        return
    elif change == "shorter":
        path.pop()
    else:
        path[data.draw(st.integers(0, len(path) - 1))] = ZERO_DIGEST
    with pytest.raises(ProtocolError):
        merkle.verify(root, leaf, index, count, path)


def test_an_inner_node_does_not_pass_as_a_leaf():
    leaves = _leaves(4)
    inner = [merkle.hash_node(leaves[0], leaves[1]), merkle.hash_node(leaves[2], leaves[3])]
    assert merkle.compute_root(leaves) == merkle.compute_root(inner), "the tree is over digests"
    data = leaves[0] + leaves[1]
    assert merkle.hash_leaf(data) != inner[0], "but no bytes hash to an inner node as a leaf"


def test_no_leaves_have_the_zero_root():
    assert merkle.compute_root([]) == ZERO_DIGEST


@pytest.mark.parametrize(("index", "count"), [(-1, 3), (3, 3), (0, 0)])
def test_a_place_outside_the_tree_is_refused(index, count):
    with pytest.raises(ProtocolError, match="malformed"):
        merkle.verify(ZERO_DIGEST, ZERO_DIGEST, index, count, ())


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 64, 65])
def test_a_tree_gives_the_same_root_and_paths(count):
    leaves = _leaves(count)
    tree = merkle.Tree(leaves)
    assert tree.root == merkle.compute_root(leaves)
    assert [tree.path(i) for i in range(count)] == [merkle.prove(leaves, i) for i in range(count)]
    with pytest.raises(IndexError):
        tree.path(count)
