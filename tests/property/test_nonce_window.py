"""The nonce window against a set of all nonces ever used."""

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.accounts.nonces import check_nonce, use_nonce
from engine.genesis import Capacity
from engine.layout import NONCE_WINDOW
from engine.records import Code
from engine.state import State
from tests.helpers.slow_nonces import SlowNonces

# Steps relative to the highest nonce so far: near it, around the window's end, far ahead.
STEPS = st.one_of(
    st.integers(-5, 5),
    st.integers(-NONCE_WINDOW - 3, -NONCE_WINDOW + 3),
    st.integers(NONCE_WINDOW - 3, NONCE_WINDOW + 3),
    st.integers(-NONCE_WINDOW, NONCE_WINDOW),
    st.integers(0, 2**40),
)


def make_state(keys: int) -> State:
    state = State(Capacity(keys=keys))
    for key in range(keys):
        state.add_key(bytes([key]) * 32)
    return state


@given(st.lists(STEPS, max_size=200), st.integers(0, 2**62))
@settings(max_examples=150, deadline=None)
def test_every_nonce_counts_once_and_only_within_the_window(steps, start):
    state, twin = make_state(1), SlowNonces()
    nonce_highest = start
    for step in steps:
        nonce = min(max(nonce_highest + step, 0), 2**63 - 1)
        code = check_nonce(state, 0, nonce)
        assert code == twin.check(nonce)
        if code == Code.OK:
            use_nonce(state, 0, nonce)
            twin.used.add(nonce)
            nonce_highest = max(nonce_highest, nonce)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3000)), max_size=200))
@settings(max_examples=50, deadline=None)
def test_keys_do_not_share_windows(uses):
    state, twins = make_state(3), [SlowNonces() for _ in range(3)]
    for key, nonce in uses:
        code = check_nonce(state, key, nonce)
        assert code == twins[key].check(nonce)
        if code == Code.OK:
            use_nonce(state, key, nonce)
            twins[key].used.add(nonce)
    assert state.keys.columns["envelopes"].tolist()[:3] == [len(twin.used) for twin in twins]
