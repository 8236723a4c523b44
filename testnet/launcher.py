"""Real `kontor start` processes of one local network: start, watch, kill, restart, stop.

Every node gets a process group of its own, so that a Ctrl-C at the terminal reaches only the
launcher, which then stops the nodes in order. They also stop when the launcher is killed, since
their standard input ends then. What a node prints goes to `node<i>/console.log`.
"""

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import PIPE, STDOUT

import trio

from consensus.primitives.crypto import Ed25519Signer
from consensus.primitives.errors import LedgerError, StorageError
from node.client import Client, open_client
from node.config import Home
from node.keys import new_seed
from node.setup import NetworkHomes
from node.views import StatusView

Report = Callable[[str], None]
STOP_SECONDS = 20.0  # for a clean stop; then SIGKILL
POLL_SECONDS = 0.05
START_SECONDS = 120.0  # the kernels are compiled before, by whoever launches
LOG_TAIL_LINES = 12
PORT_FIRST, PORT_LAST, PORT_STEP = 17_000, 32_000, 300  # below what systems hand out by themselves
LAUNCHED_ENVIRONMENT = {"PYTHONUNBUFFERED": "1"}


class NodeFailed(LedgerError):
    """A node stopped by itself; the message holds the end of what it printed."""


@dataclass(frozen=True)
class Surroundings:
    """What a node's process runs in, other than this machine as it is."""

    command: Callable[[int], Sequence[str]] = lambda node: ()  # in front of a node's own command
    environment: Callable[[int], Mapping[str, str]] = lambda node: {}  # beside ours


class Launcher:
    """The processes of one network. Use `launch` to make sure that they end."""

    def __init__(self, homes: NetworkHomes, client: Client, surroundings: Surroundings | None = None) -> None:
        self.homes = homes
        self._surroundings = surroundings or Surroundings()
        self.network = homes.network
        self._client = client
        self._processes: dict[int, trio.Process] = {}

    @property
    def count(self) -> int:
        """How many nodes the network has."""
        return len(self.homes.nodes)

    def living(self) -> list[int]:
        """Ids of the nodes whose processes run."""
        return [node for node, process in sorted(self._processes.items()) if process.returncode is None]

    def pid(self, node: int) -> int:
        """Process id of a node that was started."""
        return self._processes[node].pid

    def adopt(self, home: Home) -> int:
        """One more home, for a validator to come; returns the number that `start` takes. As long as no other
        validator is added, it is the id that the ledger gives it."""
        self.homes = replace(self.homes, nodes=(*self.homes.nodes, home))
        return self.count - 1

    async def follow(self) -> None:
        """Learn how validators changed, so that newcomers can be asked."""
        await self._client.sync_epochs()

    async def start(self, *nodes: int) -> None:
        """Start nodes (all of them by default); does not wait until they are ready."""
        for node in nodes or range(self.count):
            await self._spawn(node)

    async def wait_ready(self, nodes: Iterable[int] | None = None, seconds: float = START_SECONDS) -> None:
        """Wait until these nodes (default: all that were started) answer and see each other."""
        wanted = sorted(self._processes if nodes is None else nodes)
        with trio.move_on_after(seconds):
            while True:
                self.check_alive(wanted)
                statuses = await self.statuses(wanted)
                if all(item and item.peers_connected >= len(wanted) - 1 for item in statuses.values()):
                    return
                await trio.sleep(POLL_SECONDS)
        raise NodeFailed(
            f"nodes {wanted} were not ready after {seconds:.0f} s: look at console.log and node.log"
            f" under {self.homes.root}"
        )

    async def statuses(self, nodes: Iterable[int] | None = None) -> dict[int, StatusView | None]:
        """What nodes (default: all that live) say of themselves; None if one does not answer."""
        answers: dict[int, StatusView | None] = {}

        async def ask(node: int) -> None:
            try:
                answers[node] = await self._client.status(node)
            except LedgerError:
                answers[node] = None

        async with trio.open_nursery() as nursery:
            for node in self.living() if nodes is None else nodes:
                nursery.start_soon(ask, node)
        return dict(sorted(answers.items()))

    def check_alive(self, nodes: Iterable[int]) -> None:
        """Raise `NodeFailed` if one of these nodes has stopped."""
        for node in nodes:
            process = self._processes[node]
            if process.returncode is not None:
                raise NodeFailed(
                    f"node {node} stopped with status {process.returncode}. It printed last:\n"
                    + _tail(self.console(node))
                )

    async def kill(self, node: int) -> None:
        """SIGKILL: no goodbye, as in a crash. Returns when the process is gone."""
        process = self._processes[node]
        _signal_group(process, signal.SIGKILL)
        await process.wait()

    def pause(self, node: int) -> None:
        """SIGSTOP: the process keeps its sockets, and does nothing."""
        _signal_group(self._processes[node], signal.SIGSTOP)

    def resume(self, node: int) -> None:
        """SIGCONT."""
        _signal_group(self._processes[node], signal.SIGCONT)

    async def stop(self, *nodes: int, seconds: float = STOP_SECONDS) -> dict[int, int]:
        """SIGTERM to nodes (all that live by default), SIGKILL to those that linger; their exit statuses."""
        wanted = [node for node in self.living() if not nodes or node in nodes]
        stopped = {node: self._processes[node] for node in wanted}
        for process in stopped.values():
            _signal_group(process, signal.SIGTERM)
            _signal_group(process, signal.SIGCONT)  # a paused one, too
        with trio.move_on_after(seconds):
            for process in stopped.values():
                await process.wait()
        for node in wanted:
            await self.kill(node)
        return {node: process.returncode or 0 for node, process in stopped.items()}

    def console(self, node: int) -> Path:
        """The file with what a node printed."""
        return self.homes.nodes[node].root / "console.log"

    async def _spawn(self, node: int) -> None:
        if node in self.living():
            return
        before = self._processes.get(node)
        if before is not None and before.stdin is not None:
            await before.stdin.aclose()
        # -P: the project is found where it is installed, whatever the working directory holds.
        command = [
            *self._surroundings.command(node),
            sys.executable,
            "-P",
            "-m",
            "ops.cli",
            "start",
            "--until-stdin-closes",
        ]
        command += ["--home", str(self.homes.nodes[node].root)]
        with self.console(node).open("ab") as console:
            self._processes[node] = await trio.lowlevel.open_process(
                command,
                stdin=PIPE,  # never written to: it closes when this process dies, however it dies
                stdout=console,
                stderr=STDOUT,
                start_new_session=True,
                env={**os.environ, **LAUNCHED_ENVIRONMENT, **self._surroundings.environment(node)},
            )


@asynccontextmanager
async def launch(homes: NetworkHomes, surroundings: Surroundings | None = None) -> AsyncIterator[Launcher]:
    """A launcher whose nodes are stopped at the end, whatever happens. Starts none by itself."""
    async with open_client(homes.network, Ed25519Signer(new_seed())) as client:
        launcher = Launcher(homes, client, surroundings)
        try:
            yield launcher
        finally:
            with trio.CancelScope(shield=True):
                await launcher.stop()


def pick_ports(nodes: int, host: str = "127.0.0.1") -> int:
    """A first port such that three blocks of `nodes` ports, 100 apart, are free now.

    Each process begins to look elsewhere: two that start at once must not find the same ports free.
    """
    bases = range(PORT_FIRST, PORT_LAST, PORT_STEP)
    first = os.getpid() % len(bases)
    for base in [*bases[first:], *bases[:first]]:
        if all(_is_free(host, base + 100 * block + node) for block in range(3) for node in range(nodes)):
            return base
    raise StorageError(f"no free ports on {host} between {PORT_FIRST} and {PORT_LAST}: stop other networks")


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _signal_group(process: trio.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return  # it ended between the two lines


def _tail(path: Path) -> str:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return "    (nothing)"
    return "\n".join("    " + line for line in lines[-LOG_TAIL_LINES:]) or "    (nothing)"
