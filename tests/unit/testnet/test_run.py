"""The verdict of a run: every way in which ledgers and promises can differ is found."""

from dataclasses import replace

import pytest

from node.views import StatusView
from testnet.audit import Audit
from testnet.load import Tally
from testnet.replacement import Replaced
from testnet.run import RunPlan, judge

GOOD = [
    Audit(node, 9, b"s" * 32, b"j" * 32, True, executed={b"a": 1, b"b": 1}, orders=20, fills=3, rejected=2)
    for node in range(4)
]
STATUS = StatusView(0, 1, 9, 9, 9, 1, b"", 0, b"", 3, "", 20, 3, 2, view_changes=1)


def verdict(audits=GOOD, plan=RunPlan(), acknowledged=(b"a", b"b"), **tally):  # noqa: B008  # frozen
    told = Tally(acknowledged=dict.fromkeys(acknowledged, 9), **tally)
    return judge(plan, told, audits, {0: STATUS}, None)


def with_third(**changes):
    return [*GOOD[:3], replace(GOOD[3], **changes)]


def test_equal_ledgers_that_hold_every_promise_are_good():
    result = verdict()
    assert result.is_good and result.faults == []
    fields = result.to_json()
    documented = (
        "nodes orders_sent orders_committed fills rejected seconds orders_per_second latency_ms height"
        " view_changes state_roots journal_root agreement conserved"
    )
    assert set(documented.split()) <= fields.keys()
    assert fields["agreement"] is True and fields["conserved"] is True
    assert fields["state_roots"] == {str(node): (b"s" * 32).hex() for node in range(4)}
    assert (fields["height"], fields["view_changes"], fields["orders_committed"]) == (9, 1, 20)


@pytest.mark.parametrize("change", [{"state_root": b"x" * 32}, {"journal_root": b"x" * 32}, {"height": 8}])
def test_one_ledger_that_differs_is_found(change):
    result = verdict(with_third(**change))
    assert not result.is_good and "disagree" in result.faults[0]
    assert result.to_json()["agreement"] is False


def test_value_that_is_not_conserved_is_found():
    result = verdict(with_third(conserved=False, problem="USD: value created"))
    assert result.faults == ["node 3: USD: value created"]
    assert result.to_json()["conserved"] is False


def test_an_acknowledged_envelope_that_one_ledger_lacks_is_found():
    result = verdict(with_third(executed={b"a": 1}))
    assert "1 acknowledged envelopes are missing" in result.faults[0]


def test_an_envelope_that_took_effect_twice_is_found():
    result = verdict(with_third(executed={b"a": 1, b"b": 2}))
    assert "took effect twice" in result.faults[0]


def test_other_fills_than_the_flow_expects_are_found():
    assert verdict(plan=RunPlan(fills_expected=3)).is_good
    assert "3 fills where the flow expects 4" in verdict(plan=RunPlan(fills_expected=4)).faults


def test_refused_envelopes_and_silence_are_no_success():
    assert not verdict(refused={"UNKNOWN_KEY": 1}).is_good
    assert verdict(acknowledged=()).faults == ["no envelope was acknowledged"]


def test_a_replaced_validator_is_told_of():
    result = verdict()
    assert result.to_json()["replaced"] is None
    result.replaced = Replaced(3, 4, 1, 160, 3.5, 4.5, 80.0)
    assert result.to_json()["replaced"] == {
        "old": 3,
        "new": 4,
        "epoch": 1,
        "boundary": 160,
        "seconds": 3.5,
        "seconds_to_vote": 4.5,
        "longest_wait_ms": 80.0,
    }


def test_a_ledger_that_began_with_a_fetched_state_answers_for_the_blocks_it_has():
    late = with_third(executed={}, base=9)
    assert verdict(late).is_good
    assert "acknowledged envelopes are missing" in verdict(with_third(executed={}, base=8)).faults[0]
