"""The bench command runs, and its JSON has what scripts read."""

import argparse
import json

from testnet import bench_engine


def run(capsys, *arguments: str) -> tuple[int, str]:
    """Exit code and standard output."""
    parser = argparse.ArgumentParser()
    bench_engine.add_arguments(parser)
    code = bench_engine.run_command(parser.parse_args(arguments))
    return code, capsys.readouterr().out


def test_json_has_one_entry_per_scenario_and_block_size(capsys):
    code, out = run(
        capsys, "--scenario", "base", "--batch", "200", "--batch", "500", "--repeat", "2", "--json"
    )
    figures = json.loads(out)["figures"]
    assert code == 0
    assert [(item["scenario"], item["batch"]) for item in figures] == [("base", 200), ("base", 500)]
    assert all(item["matching_ns"] > 0 and item["machine_ns"] > 0 for item in figures)


def test_table_names_the_scenario(capsys):
    code, out = run(capsys, "--scenario", "take", "--batch", "200", "--repeat", "1")
    assert code == 0
    assert "take" in out


def test_nonsense_counts_are_refused(capsys):
    assert run(capsys, "--repeat", "0")[0] == 2
