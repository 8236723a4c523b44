"""The launcher with stand-ins for nodes: readiness, deaths noticed in words, nothing left running."""

import os
import socket

import pytest
import trio

from consensus.primitives.errors import LedgerError
from node.setup import create_network
from testnet.launcher import Launcher, NodeFailed, Surroundings, pick_ports

STUBBORN = "trap '' TERM; while :; do read line || sleep 0.05; done"


class Deaf:
    """A client whose nodes never answer."""

    async def status(self, node: int) -> None:
        raise LedgerError(f"node {node} does not answer")


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    """A launcher whose nodes run the shell script in `script`, a list of one."""
    made = Launcher(create_network(tmp_path / "net", 4), Deaf())  # type: ignore[arg-type]
    script = tmp_path / "node.sh"
    script.write_text("#!/bin/sh\nsleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr("testnet.launcher.sys.executable", str(script))
    made.script = script  # type: ignore[attr-defined]
    return made


def plays(launcher, body: str) -> None:
    launcher.script.write_text(f"#!/bin/sh\n{body}\n")


def run(main) -> None:
    async def bounded() -> None:
        with trio.fail_after(30):
            await main()

    trio.run(bounded)


def test_a_node_that_dies_at_start_is_reported_with_its_last_words(launcher):
    plays(launcher, "echo 'kontor: the disk is full'; exit 3")

    async def main() -> None:
        await launcher.start(1)
        with pytest.raises(NodeFailed, match=r"node 1 stopped with status 3(.|\n)*the disk is full"):
            await launcher.wait_ready()

    run(main)


def test_a_node_runs_in_the_surroundings_it_was_given(launcher):
    """The command goes in front, and the environment is that node's alone."""
    plays(launcher, "echo $FAULT; exit 0")
    launcher._surroundings = Surroundings(
        lambda node: ["env", f"FAULT=before-{node}"] if node == 1 else [],
        lambda node: {"FAULT": "beside"},
    )

    async def main() -> None:
        await launcher.start(0, 1)
        for node in (0, 1):
            await launcher._processes[node].wait()
        assert launcher.console(0).read_text() == "beside\n"
        assert launcher.console(1).read_text() == "before-1\n"

    run(main)


def test_a_paused_node_stops_cleanly(launcher):
    """SIGTERM waits in a stopped process until it goes on."""
    plays(launcher, "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")

    async def main() -> None:
        await launcher.start(1)
        while not launcher.console(1).read_text():
            await trio.sleep(0.01)
        launcher.pause(1)
        assert await launcher.stop(seconds=10.0) == {1: 0}

    run(main)


def test_a_node_that_died_before_anybody_waited_is_reported_too(launcher):
    plays(launcher, "exit 3")

    async def main() -> None:
        await launcher.start(1)
        await launcher._processes[1].wait()
        with pytest.raises(NodeFailed, match="node 1 stopped with status 3"):
            await launcher.wait_ready()

    run(main)


def test_waiting_ends_when_nodes_never_answer(launcher):
    async def main() -> None:
        await launcher.start(0)
        with pytest.raises(NodeFailed, match=r"not ready after 0 s.*console\.log"):
            await launcher.wait_ready(seconds=0.2)
        await launcher.stop()

    run(main)


def test_killed_nodes_are_no_longer_living_and_can_start_again(launcher):
    async def main() -> None:
        await launcher.start()
        assert launcher.living() == [0, 1, 2, 3]
        first = launcher.pid(2)
        await launcher.kill(2)
        assert launcher.living() == [0, 1, 3]
        await launcher.start(2)
        assert launcher.living() == [0, 1, 2, 3] and launcher.pid(2) != first
        await launcher.stop()
        assert launcher.living() == []

    run(main)


def test_starting_a_living_node_does_nothing(launcher):
    async def main() -> None:
        await launcher.start(0)
        first = launcher.pid(0)
        await launcher.start(0)
        assert launcher.pid(0) == first
        await launcher.stop()

    run(main)


def test_a_node_that_ignores_sigterm_is_killed(launcher):
    plays(launcher, STUBBORN)

    async def main() -> None:
        await launcher.start(0)
        await trio.sleep(0.2)  # the shell must have set its trap
        exits = await launcher.stop(seconds=0.3)
        assert exits == {0: -9}
        with pytest.raises(ProcessLookupError):
            os.killpg(launcher.pid(0), 0)

    run(main)


def test_ports_in_use_are_passed_over():
    base = pick_ports(4)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as listeners do
        taken.bind(("127.0.0.1", base + 101))
        taken.listen()
        assert pick_ports(4) != base
