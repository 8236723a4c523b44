"""One run of a local network, from directories to a working load: what `up`, `run` and the benches share."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from consensus.primitives.crypto import Signer
from consensus.primitives.errors import ConfigError
from node.client import Client, open_client
from node.config import Config
from node.keys import load_signer
from node.setup import NetworkHomes, create_network, find_network
from node.storage import HomeLock
from node.warm import warm_kernels
from testnet.launcher import Launcher, Surroundings, launch, pick_ports
from testnet.load import Pace, Tally, run_load
from testnet.sources import Places, Source
from testnet.venue import desk_seeds, open_venue

Report = Callable[[str], None]
LOCAL_DIR = Path(".kontor") / "testnet"
LOAD_OPERATIONS_PER_SECOND = 1 << 30  # a load generator's key is not a stranger's


@dataclass(frozen=True)
class Session:
    """A running network with a venue and desks that can trade on it."""

    launcher: Launcher
    source: Source
    places: Places
    desks: list[tuple[Client, Signer]]

    async def load(self, pace: Pace, tally: Tally) -> None:
        """Send the source's orders; see `run_load`."""
        await run_load(self.desks, self.source, self.places, pace, tally)


def open_network(root: Path, nodes: int) -> NetworkHomes:
    """The network under `root`: the one that is there, or a new one of `nodes` nodes."""
    if (root / "network.toml").exists():
        homes = find_network(root)
        if len(homes.nodes) != nodes:
            raise ConfigError(
                f"{root} holds a network of {len(homes.nodes)} nodes, not {nodes}:"
                f" use --nodes {len(homes.nodes)}, or another --dir"
            )
        return homes
    base = pick_ports(nodes)
    return create_network(
        root,
        nodes,
        peer_port=base,
        client_port=base + 100,
        metrics_port=base + 200,
        adjust=for_load,
    )


@asynccontextmanager
async def run_session(
    homes: NetworkHomes, source: Source, report: Report, surroundings: Surroundings | None = None
) -> AsyncIterator[Session]:
    """Warm the kernels once, start every node, list and fund the source's world, connect its desks."""
    await trio.to_thread.run_sync(warm_kernels, report)
    await trio.to_thread.run_sync(source.warm)
    async with AsyncExitStack() as stack:
        launcher = await stack.enter_async_context(run_nodes(homes, report, surroundings))
        async with open_client(launcher.network, homes.admin_seed) as venue:
            places = await open_venue(venue, source.world, homes.root, source.desks, report)
        desks: list[tuple[Client, Signer]] = []
        for number, path in enumerate(desk_seeds(homes.root, source.desks)):
            signer = load_signer(path)
            client = await stack.enter_async_context(
                open_client(launcher.network, signer, prefer=number % launcher.count)
            )
            desks.append((client, signer))
        yield Session(launcher, source, places, desks)


@asynccontextmanager
async def run_nodes(
    homes: NetworkHomes, report: Report, surroundings: Surroundings | None = None
) -> AsyncIterator[Launcher]:
    """Every node started and ready; stopped at the end. One launcher at a time may run a network."""
    with HomeLock(homes.root, "stop that network first, or use another --dir"):
        async with launch(homes, surroundings) as launcher:
            report(f"starting {launcher.count} nodes of chain {launcher.network.chain_id.hex()[:16]}")
            await launcher.start()
            await launcher.wait_ready()
            yield launcher


def for_load(config: Config) -> Config:
    """A node's settings with no limit on what one key may send."""
    return replace(
        config, admission=replace(config.admission, key_operations_per_second=LOAD_OPERATIONS_PER_SECOND)
    )
