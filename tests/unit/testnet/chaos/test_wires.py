"""Who belonged to a connected quorum, when; and how long nothing happened while one was connected."""

from testnet.chaos.wires import Conditions, Timeline, longest_wait_s

ALL = {0, 1, 2, 3}


def both_ways(*pairs: tuple[int, int]) -> set[tuple[int, int]]:
    return {*pairs, *((b, a) for a, b in pairs)}


def test_all_nodes_are_connected_while_nothing_is_wrong():
    assert Conditions(3, set(ALL)).connected() == ALL


def test_a_node_cut_off_is_outside_and_the_others_are_not():
    held = both_ways((0, 1), (0, 2), (0, 3))
    assert Conditions(3, set(ALL), held=held).connected() == {1, 2, 3}


def test_a_node_that_is_not_heard_counts_as_cut_off():
    assert Conditions(3, set(ALL), held={(0, 1), (0, 2), (0, 3)}).connected() == {1, 2, 3}
    assert Conditions(3, set(ALL), held={(1, 0), (2, 0), (3, 0)}).connected() == {1, 2, 3}


def test_two_halves_have_no_quorum():
    held = both_ways((0, 2), (0, 3), (1, 2), (1, 3))
    assert Conditions(3, set(ALL), held=held).connected() == frozenset()


def test_one_bad_wire_leaves_everybody_in_some_quorum():
    assert Conditions(3, set(ALL), held=both_ways((0, 1))).connected() == ALL


def test_a_starting_node_is_there_perhaps():
    conditions = Conditions(3, {0, 1}, {2})
    assert conditions.connected() == frozenset()
    assert conditions.connected(with_perhaps=True) == {0, 1, 2}


def test_spans_tell_who_was_surely_stranded_and_when_a_quorum_surely_was_there():
    timeline, conditions = Timeline(), Conditions(3, set(ALL))
    timeline.note(0.0, conditions)
    conditions.held = both_ways((0, 1), (0, 2), (0, 3))
    timeline.note(1.0, conditions)
    conditions.running.discard(3)
    timeline.note(2.0, conditions)  # no quorum
    conditions.perhaps.add(3)
    timeline.note(3.0, conditions)  # perhaps one of 1, 2, 3
    conditions.held = set()
    timeline.note(4.0, conditions)
    assert timeline.with_quorum(9.0) == [(0.0, 2.0), (4.0, 9.0)]
    assert timeline.stranded(0, 9.0) == [(1.0, 4.0)]
    assert timeline.stranded(1, 9.0) == [(2.0, 3.0)]
    assert timeline.stranded(0, 2.5) == [(1.0, 2.5)]


def test_the_longest_wait_counts_only_inside_spans():
    spans = [(0.0, 10.0), (50.0, 60.0)]
    assert longest_wait_s(spans, [1.0, 2.0, 9.0, 30.0, 51.0, 59.0]) == 8.0
    assert longest_wait_s([(0.0, 10.0)], []) == 10.0
    assert longest_wait_s([(0.0, 10.0)], [7.0]) == 7.0
    assert longest_wait_s([], [1.0]) == 0.0
