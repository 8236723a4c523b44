"""Whatever is changed in a proof, a light client believes the validators' own words only."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.light import LightClient, Unproven
from consensus.messages import Epochs
from consensus.proofs import CheckpointCert
from consensus.simulator.mutation import mutate
from tests.unit.consensus.test_light import CHAIN, GENESIS, KEYS, TO_FIRST, TO_SECOND


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_a_mutated_epoch_proof_is_refused(seed: int, is_second: bool) -> None:
    light = LightClient(CHAIN, GENESIS, KEYS)
    honest = [TO_FIRST, TO_SECOND] if is_second else [TO_FIRST]
    for proof in honest[:-1]:
        light.advance(proof)
    before = light.epoch
    bent = mutate(Epochs((honest[-1],)), Random(seed))
    if not isinstance(bent, Epochs) or bent.proofs[0] == honest[-1]:
        return
    try:
        light.advance(bent.proofs[0])
    except Unproven:
        assert light.epoch == before
    else:
        assert light.epoch in (before, honest[-1].epoch)
        assert light.epoch == before or bent.proofs[0].cert.result_digest == honest[-1].cert.result_digest


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_a_mutated_checkpoint_is_refused(seed: int) -> None:
    light = LightClient(CHAIN, GENESIS, KEYS)
    bent = mutate(TO_FIRST.cert, Random(seed))
    if not isinstance(bent, CheckpointCert) or bent == TO_FIRST.cert:
        return
    try:
        light.verify_checkpoint(bent)
    except Unproven:
        return
    raise AssertionError(f"believes {bent}")
