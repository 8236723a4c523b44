"""Make the directories of a whole network, or the keys of one node, on one machine."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from consensus.primitives.errors import ConfigError
from node.config import Config, Home, NodeSettings, TelemetrySettings, write_config
from node.keys import load_certificate, load_signer, new_seed, write_seed, write_tls_identity
from node.network import Address, Capacity, Network, Rules, Validator, load_network, render_network


@dataclass(frozen=True)
class NetworkHomes:
    """A network on disk: the shared file, the venue's admin seed, and one home per node."""

    root: Path
    network_file: Path
    admin_seed: Path
    nodes: tuple[Home, ...]

    @property
    def network(self) -> Network:
        """The network as its file says."""
        return load_network(self.network_file)


def create_network(
    out: Path,
    n: int,
    name: str = "local",
    host: str | list[str] = "127.0.0.1",
    peer_port: int = 7000,
    client_port: int = 7100,
    metrics_port: int | None = 7200,
    ports: Sequence[tuple[int, int]] = (),
    rules: Rules | None = None,
    capacity: Capacity | None = None,
    adjust: Callable[[Config], Config] = lambda config: config,
) -> NetworkHomes:
    """Write n node homes, `network.toml` and `admin.seed` under `out`, which must be empty or new.

    Node i listens on peer_port + i and client_port + i of `host` (or of host[i]), or on the (peer, client)
    pair ports[i] if given; `adjust` may change each node's config before it is written.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and keys are never overwritten: choose a new directory")
    hosts = [host] * n if isinstance(host, str) else host
    if len(hosts) != n:
        raise ConfigError(f"{len(hosts)} hosts were given for {n} nodes: give one, or one for each node")
    homes = network_homes(out, n)
    pairs = ports or [(peer_port + index, client_port + index) for index in range(n)]
    validators = [
        create_node_keys(home, index, Address(hosts[index], peer), Address(hosts[index], client))
        for index, (home, (peer, client)) in enumerate(zip(homes.nodes, pairs, strict=True))
    ]
    write_seed(homes.admin_seed, new_seed())
    admin = load_signer(homes.admin_seed).public_key
    network = Network(name, tuple(validators), (admin,), rules or Rules(), capacity or Capacity())
    for path in (homes.network_file, *[home.network for home in homes.nodes]):
        write_network(path, network)
    for index, home in enumerate(homes.nodes):
        metrics = f"127.0.0.1:{metrics_port + index}" if metrics_port is not None else ""
        config = Config(node=NodeSettings(id=index), telemetry=TelemetrySettings(metrics_listen=metrics))
        write_config(home.config, adjust(config))
    return homes


def network_homes(root: Path, n: int) -> NetworkHomes:
    """Where a network's files lie under `root`; touches nothing."""
    nodes = tuple(Home(root / f"node{index}") for index in range(n))
    return NetworkHomes(root, root / "network.toml", root / "admin.seed", nodes)


def find_network(root: Path) -> NetworkHomes:
    """The network that `create_network` wrote under `root`."""
    network = load_network(root / "network.toml")
    return network_homes(root, len(network.validators))


def create_node_keys(home: Home, node_id: int, peer: Address, client: Address) -> Validator:
    """Make one node's keys; return its public entry for the network file."""
    write_seed(home.consensus_seed, new_seed())
    certificate = write_tls_identity(home.tls_key, home.tls_certificate, f"node{node_id}.kontor")
    return Validator(node_id, load_signer(home.consensus_seed).public_key, certificate, peer, client)


def write_network(path: Path, network: Network) -> None:
    """Write a new network file, whole or not at all. Refuses to overwrite."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise ConfigError(f"{path} exists: choose another directory")
    partial = path.with_suffix(".partial")
    partial.write_text(render_network(network), "utf-8")
    os.replace(partial, path)


def check_node_identity(home: Home, network: Network, node_id: int) -> None:
    """Raise `ConfigError` unless the keys in `home` are those of validator `node_id`."""
    if node_id >= len(network.validators):
        raise ConfigError(
            f"{home.config}: 'node.id' is {node_id}, but {home.network} lists only"
            f" {len(network.validators)} validators: correct the id"
        )
    validator = network.validators[node_id]
    if load_signer(home.consensus_seed).public_key != validator.consensus_key:
        raise ConfigError(
            f"{home.consensus_seed} is not the key of validator {node_id} in {home.network}:"
            " correct 'node.id', or use the network file that this key belongs to"
        )
    if load_certificate(home.tls_certificate) != validator.tls_certificate:
        raise ConfigError(
            f"{home.tls_certificate} is not the certificate of validator {node_id} in {home.network}:"
            " give the current network file to every node"
        )


def with_addresses(network: Network, peers: list[Address], clients: list[Address]) -> Network:
    """The same network reached elsewhere: its chain id does not change."""
    moved = [
        replace(item, peer_address=peers[item.id], client_address=clients[item.id])
        for item in network.validators
    ]
    return replace(network, validators=tuple(moved))
