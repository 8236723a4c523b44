"""The simulator's application: what a liar may not make of a change of validators."""

import pytest

from consensus.simulator.app import REMOVED, is_well_formed, make_change, make_payload

KEY = bytes(range(32))


@pytest.mark.parametrize("changes", [[], [(3, KEY)], [(3, REMOVED), (9, KEY)]])
def test_a_change_with_any_byte_changed_counts_for_nothing(changes):
    payload = make_change(7, *changes)
    assert is_well_formed(payload)
    for place in range(len(payload)):
        changed = payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]
        assert not is_well_formed(changed)


def test_a_payload_is_well_formed_and_a_cut_one_is_not():
    payload = make_payload(7, 3)
    assert is_well_formed(payload)
    assert not is_well_formed(payload[:-1]) and not is_well_formed(payload + b"0")
