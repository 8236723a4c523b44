"""Wires in the kernel: each validator in a network namespace of its own, around a router that drops packets.

    node0 ─ veth ┐
    node1 ─ veth ┤ the scenario's own namespace routes between them; clients are here
    node2 ─ veth ┘

The command runs itself again inside a network and a mount namespace of its own (and a user namespace,
unless it is root). Whatever it makes in there, names beginning with `kontor-<pid>-`, is known to nobody
outside and is gone when its last process is, however that ends. A cut is a routing rule that drops what
one node sends to another, so it is silent and has a direction; no packet filter is needed. Delay is
netem's.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from consensus.primitives.errors import ConfigError, LedgerError, ensure
from node.setup import NetworkHomes, create_network
from testnet.chaos.disks import ROOM_BYTES, data_files
from testnet.chaos.run import Ground
from testnet.chaos.scenarios import Scenario
from testnet.chaos.stage import Disk
from testnet.chaos.wires import Wires
from testnet.launcher import Launcher
from testnet.session import for_load

MARK = "KONTOR_NAMESPACES"  # set in the environment of the inner process
TOOLS = ("unshare", "nsenter", "mount", "umount", "ip", "tc")
ROUTER = "10.77.0.254"
PEER_PORT, CLIENT_PORT = 7000, 7100
DISK_MIB = 256
HINT = "run as root, allow users to make namespaces (sysctl user.max_user_namespaces), or use --mode user"


class CommandFailed(LedgerError):
    """A system tool refused; the message holds its words."""


def enter(words: Sequence[str]) -> None:
    """Return if we are inside already; else run `kontor WORDS` there instead of this process.

    Raises `ConfigError` where that is not possible.
    """
    if os.environ.get(MARK):
        return
    prefix = _prefix()
    probe = subprocess.run([*prefix, "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True, text=True)
    if probe.returncode:
        raise ConfigError(f"kernel mode is not permitted here ({_last_line(probe.stderr)}): {HINT}")
    command = [*prefix, sys.executable, "-P", "-m", "ops.cli", *words]
    os.execvpe(command[0], command, {**os.environ, MARK: "1"})


def has_netem() -> bool:
    """Whether this kernel can delay packets. Call it inside."""
    made = _try("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
    if made:
        _run("tc", "qdisc", "del", "dev", "lo", "root")
    return made


class KernelGround:
    """Namespaces, veth pairs and routes of one network. Made by `open_kernel_ground`."""

    mode = "kernel"

    def __init__(self, scenario: Scenario) -> None:
        self._nodes = range(scenario.nodes)
        self._fills_disk = scenario.fills_disk
        self._wires = RoutedWires([f"kontor-{os.getpid()}-n{node}" for node in self._nodes])
        self.wires: Wires = self._wires
        self._disk = SmallFileSystem()
        self.disk: Disk = self._disk

    def create(self, root: Path) -> NetworkHomes:
        """Every node listens on its own address; where the disk fills up, data lies on a file system each."""
        addresses = [address_of(node) for node in self._nodes]
        homes = create_network(
            root,
            len(self._nodes),
            host=addresses,
            peer_port=PEER_PORT,
            client_port=CLIENT_PORT,
            metrics_port=None,
            adjust=for_load,
        )
        if self._fills_disk:
            for home in homes.nodes:
                self._disk.mount(home.data)
        return homes

    def command(self, node: int) -> tuple[str, ...]:
        """Run a node in its namespace."""
        return ("nsenter", f"--net=/run/netns/{self._wires.names[node]}", "--")

    def open(self) -> None:
        """Make everything."""
        self._wires.open()

    def close(self) -> None:
        """Remove everything."""
        self._disk.unmount()
        self._wires.close()


@asynccontextmanager
async def open_kernel_ground(scenario: Scenario) -> AsyncIterator[Ground]:
    """Namespaces for one scenario, removed at the end. Only inside: see `enter`."""
    ensure(bool(os.environ.get(MARK)), "namespaces are made only inside a namespace of our own")
    ground = KernelGround(scenario)
    try:
        ground.open()
        yield ground
    finally:
        ground.close()


class RoutedWires:
    """Implements `wires.Wires` with routing rules and netem."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._held: set[tuple[int, int]] = set()
        self._shaped: set[int] = set()

    def open(self) -> None:
        """Namespaces, veth pairs, addresses, routes."""
        _run("mount", "-t", "tmpfs", "tmpfs", "/run")
        Path("/run/netns").mkdir()
        _run("ip", "link", "set", "lo", "up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for node, name in enumerate(self.names):
            address, port = address_of(node), _port(node)
            _run("ip", "netns", "add", name)
            _run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "addr", "add", f"{ROUTER}/32", "dev", port)
            _run("ip", "link", "set", port, "up")
            _run("ip", "route", "add", f"{address}/32", "dev", port)
            _run("ip", "-n", name, "link", "set", "lo", "up")
            _run("ip", "-n", name, "addr", "add", f"{address}/32", "dev", "eth0")
            _run("ip", "-n", name, "link", "set", "eth0", "up")
            _run("ip", "-n", name, "route", "add", f"{ROUTER}/32", "dev", "eth0")
            _run("ip", "-n", name, "route", "add", "default", "via", ROUTER)

    def close(self) -> None:
        """Remove what `open` made, and whatever is held."""
        for source, target in sorted(self._held):
            _try("ip", "rule", "del", *_rule(source, target))
        for node, name in enumerate(self.names):
            _try("ip", "link", "del", _port(node))
            _try("ip", "netns", "del", name)
        _try("umount", "/run")

    def hold(self, source: int, target: int) -> None:
        """Drop what `source` sends to `target`."""
        if (source, target) not in self._held:
            _run("ip", "rule", "add", *_rule(source, target))
            self._held.add((source, target))

    def release(self, source: int, target: int) -> None:
        """Undo `hold`."""
        if (source, target) in self._held:
            _run("ip", "rule", "del", *_rule(source, target))
            self._held.discard((source, target))

    def shape(self, source: int, target: int, delay_ms: int, jitter_ms: int, kib_per_second: int) -> None:
        """Delay and limit all that `source` sends, to clients too; zeros undo it."""
        if source in self._shaped:
            _run("tc", "-n", self.names[source], "qdisc", "del", "dev", "eth0", "root")
            self._shaped.discard(source)
        if delay_ms or jitter_ms or kib_per_second:
            limit = ["rate", f"{8 * kib_per_second}kibit"] if kib_per_second else []
            delay = ["delay", f"{delay_ms}ms", f"{jitter_ms}ms"]
            _run(
                "tc", "-n", self.names[source], "qdisc", "add", "dev", "eth0", "root", "netem", *delay, *limit
            )
            self._shaped.add(source)

    def reset(self, one: int, other: int) -> None:
        """Nothing: the kernel gives connections up by itself."""


class SmallFileSystem:
    """A tmpfs under each node's data: full means ENOSPC, from a file system."""

    def __init__(self) -> None:
        self._mounted: list[Path] = []

    def mount(self, data: Path) -> None:
        """Put a roomy one under `data`."""
        data.mkdir(exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(data))
        self._mounted.append(data)

    def unmount(self) -> None:
        """Remove all; what they held is gone."""
        for data in self._mounted:
            _try("umount", str(data))
        self._mounted.clear()

    def fill(self, node: int, launcher: Launcher) -> None:
        """Shrink it to what is used and `ROOM_BYTES`."""
        home = launcher.homes.nodes[node]
        used = sum(512 * path.stat().st_blocks for path in data_files(home))
        _run("mount", "-o", f"remount,size={(used + ROOM_BYTES) // 1024}k", str(home.data))

    def free(self, node: int, launcher: Launcher) -> None:
        """As roomy as before."""
        _run("mount", "-o", f"remount,size={DISK_MIB}m", str(launcher.homes.nodes[node].data))


def address_of(node: int) -> str:
    """Where a node lives, in our namespaces."""
    return f"10.77.0.{node + 1}"


def _port(node: int) -> str:
    return f"n{node}"


def _rule(source: int, target: int) -> tuple[str, ...]:
    return ("iif", _port(source), "to", f"{address_of(target)}/32", "blackhole")


def _prefix() -> list[str]:
    """`unshare` and what it is to make. Raises `ConfigError` where it cannot be."""
    if sys.platform != "linux":
        raise ConfigError(f"kernel mode needs Linux's network namespaces, and this is {sys.platform}: {HINT}")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise ConfigError(
            f"kernel mode needs {', '.join(missing)}: install util-linux and iproute2, or use --mode user"
        )
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", "--mount"]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CommandFailed(f"`{' '.join(command)}` failed: {_last_line(done.stderr)}")


def _try(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
