"""The figures of `kontor bench cluster`: medians, not means, and every sample beside them."""

from argparse import ArgumentParser

from testnet import bench_cluster
from testnet.bench_cluster import Sample, summarise


def arguments(*words: str):
    parser = ArgumentParser()
    bench_cluster.add_arguments(parser)
    return parser.parse_args(words)


def test_the_summary_holds_medians_and_all_samples():
    samples = [Sample(rate, rate / 10, 1, 2, 3, 4) for rate in (300.0, 100.0, 1000.0)]
    result = summarise(arguments("--envelope", "10"), samples)
    assert result["median"]["orders_per_second"] == 300
    assert [sample["full_p50_ms"] for sample in result["samples"]] == [30, 10, 100]
    assert result["orders_per_envelope"] == 10 and result["nodes"] == 4


def test_defaults_are_those_of_the_documented_figure():
    args = arguments()
    assert (args.nodes, args.envelope, args.json) == (4, 1000, False)
