"""Make the directories of a whole network, or the keys of one node, on one machine."""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from consensus.primitives.crypto import Ed25519Signer
from consensus.primitives.errors import ConfigError
from node.config import Config, Home, NodeSettings, PeerSettings, TelemetrySettings, write_config
from node.keys import TlsIdentity, load_certificate, load_signer, new_seed, new_tls_identity, write_seed
from node.network import Address, Capacity, Network, Rules, Validator, load_network, render_network
from node.signer.opening import begin_record


@dataclass(frozen=True)
class NodeKeys:
    """One node's secrets, not on disk yet."""

    node_id: int
    seed: bytes = field(repr=False)
    tls: TlsIdentity

    def validator(self, peer: Address, client: Address) -> Validator:
        """The node's public entry for the network file."""
        return Validator(
            self.node_id, Ed25519Signer(self.seed).public_key, self.tls.certificate, peer, client
        )

    def write(self, home: Home) -> None:
        """Write them into `home`, and begin the signing record. Refuses to overwrite."""
        write_seed(home.consensus_seed, self.seed)
        begin_record(home, Ed25519Signer(self.seed).public_key)
        self.tls.write(home.tls_key, home.tls_certificate)


def new_node_keys(node_id: int) -> NodeKeys:
    """Fresh keys; nothing is written."""
    return NodeKeys(node_id, new_seed(), new_tls_identity(f"node{node_id}.kontor"))


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
    addresses = [
        (Address(own, peer), Address(own, client)) for own, (peer, client) in zip(hosts, pairs, strict=True)
    ]
    # Everything that can be refused is refused before the first write: a second try finds nothing there.
    metrics = (
        [Address("127.0.0.1", metrics_port + index) for index in range(n)] if metrics_port is not None else []
    )
    _check_addresses([*itertools.chain(*addresses), *metrics])
    admin_seed, keys = new_seed(), [new_node_keys(index) for index in range(n)]
    admin = Ed25519Signer(admin_seed).public_key
    validators = tuple(own.validator(*pair) for own, pair in zip(keys, addresses, strict=True))
    network = Network(name, validators, (admin,), rules or Rules(), capacity or Capacity())
    listens = [str(address) for address in metrics] or [""] * n
    configs = [
        adjust(Config(node=NodeSettings(id=index), telemetry=TelemetrySettings(metrics_listen=listen)))
        for index, listen in enumerate(listens)
    ]
    for home, own in zip(homes.nodes, keys, strict=True):
        own.write(home)
    write_seed(homes.admin_seed, admin_seed)
    for path in (homes.network_file, *[home.network for home in homes.nodes]):
        write_network(path, network)
    for home, config in zip(homes.nodes, configs, strict=True):
        write_config(home.config, config)
    return homes


def _check_addresses(addresses: list[Address]) -> None:
    """Raise `ConfigError` unless all are possible and no two are the same."""
    for address in addresses:
        if not 1 <= address.port <= 65535:
            raise ConfigError(f"a node would listen on {address}; a port lies between 1 and 65535")
    for address, count in Counter(addresses).items():
        if count > 1:
            raise ConfigError(
                f"{address} would be listened on {count} times: choose ports further apart, or other hosts"
            )


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
    keys = new_node_keys(node_id)
    keys.write(home)
    return keys.validator(peer, client)


def create_joiner(
    home: Home,
    network: Network,
    peer: Address,
    client: Address,
    adjust: Callable[[Config], Config] = lambda config: config,
    known: tuple[str, ...] = (),
) -> Validator:
    """A home for a network that runs already; return the entry that an admin adds. Its id is still open.

    `known` are client addresses of nodes to ask where few founders are left.
    """
    settings = NodeSettings(joins=True, peer_listen=str(peer), client_listen=str(client))
    if home.config.exists():
        raise ConfigError(f"{home.config} exists: edit it, or choose another --home")
    write_network(home.network, network)
    validator = create_node_keys(home, 0, peer, client)
    write_config(home.config, adjust(Config(node=settings, peers=PeerSettings(known=known))))
    return validator


def write_network(path: Path, network: Network) -> None:
    """Write a new network file, whole or not at all. Refuses to overwrite."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise ConfigError(f"{path} exists: choose another directory")
    partial = path.with_suffix(".partial")
    partial.write_text(render_network(network), "utf-8")
    os.replace(partial, path)


def check_node_identity(home: Home, network: Network, node_id: int, public_key: bytes | None = None) -> None:
    """Raise `ConfigError` unless the keys in `home` are those of validator `node_id`.

    `public_key` is that of a signer outside the home; without it the seed must be there.
    """
    if node_id >= len(network.validators):
        raise ConfigError(
            f"{home.config}: 'node.id' is {node_id}, but {home.network} lists only"
            f" {len(network.validators)} validators: correct the id"
        )
    validator = network.validators[node_id]
    own = load_signer(home.consensus_seed).public_key if public_key is None else public_key
    if own != validator.consensus_key:
        where = home.consensus_seed if home.consensus_seed.exists() else "what the signer holds"
        raise ConfigError(
            f"{where} is not the key of validator {node_id} in {home.network}: correct 'node.id' in"
            f" {home.config} (where the ledger gave the id, set 'joins = true'), or use the network file that"
            " this key belongs to"
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
