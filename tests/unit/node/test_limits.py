"""Token buckets: bursts pass, floods do not, and time pays back."""

from node.limits import Bucket, Buckets


def test_a_burst_passes_and_then_the_rate_counts():
    bucket = Bucket(per_second=10, burst=20, tokens=20, filled_at_s=0)
    assert bucket.take(20, 0)
    assert not bucket.take(1, 0)
    assert not bucket.take(6, 0.5)
    assert bucket.take(5, 0.5)


def test_what_exceeds_the_burst_passes_when_full_and_is_paid_off_before_the_next():
    bucket = Bucket(per_second=10, burst=20, tokens=20, filled_at_s=0)
    assert bucket.take(50, 0)
    assert not bucket.take(1, 3.0)
    assert bucket.take(1, 3.1)


def test_a_clock_that_steps_back_gives_nothing_and_takes_nothing():
    bucket = Bucket(per_second=10, burst=20, tokens=0, filled_at_s=100)
    assert not bucket.take(1, 50)
    assert bucket.take(1, 50.2)


def test_names_do_not_share_and_the_oldest_is_forgotten():
    buckets = Buckets(per_second=1, burst=1, names_max=2)
    assert buckets.take(b"a", 1, 0) and buckets.take(b"b", 1, 0)
    assert not buckets.take(b"a", 1, 0)
    assert buckets.take(b"c", 1, 0)  # forgets b, which was used longest ago
    assert not buckets.take(b"a", 1, 0)
    assert buckets.take(b"b", 1, 0)


def test_a_name_whose_bucket_is_full_again_takes_no_room():
    buckets = Buckets(per_second=1, burst=10)
    for number in range(1000):
        assert buckets.take(b"%d" % number, 5, 0)
    assert len(buckets) == 1000
    for number in range(500):
        assert buckets.take(b"later %d" % number, 5, 5)
    assert len(buckets) == 500


def test_an_emptied_bucket_is_not_forgotten_before_it_has_filled():
    buckets = Buckets(per_second=1, burst=10)
    assert buckets.take(b"greedy", 60, 0)  # ten and a debt of fifty
    for now_s in (1, 30, 59):
        assert buckets.take(b"other %d" % now_s, 1, now_s)
        assert not buckets.take(b"greedy", 10, now_s)
