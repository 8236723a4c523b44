"""The network file: what every node and client of one network must agree on.

`network.toml` names the chain, the validators (consensus key, TLS certificate, addresses), the
venue's admin keys, and the rules that every replica must apply alike. `Network.chain_id` is the
digest of everything in it that gives the ledger its identity: two files with the same id can only
differ in how validators are reached (addresses, TLS certificates), so a validator may move to
another host, or renew its certificate, without leaving its own chain.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import msgpack
from cryptography import x509

from consensus.certificates import new_view_bytes_max
from consensus.primitives.crypto import DIGEST_SIZE, PUBLIC_KEY_SIZE, digest
from consensus.primitives.errors import ConfigError
from consensus.quorum import REPLICAS_MAX, ReplicaSet
from engine import genesis as engine_genesis
from engine.genesis import Genesis, check_plugins
from node.toml import (
    read_settings,
    read_toml,
    refuse_unknown,
    render_settings,
    render_value,
    require,
    setting,
)

FORMAT = 1
FRAME_BYTES_MAX = 64 << 20  # one message between validators; the longest is a new view
ADMIN_KEYS_MAX = 16
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_REMEDY = "copy the file from another validator, or create a network with `kontor testnet init`"


@dataclass(frozen=True)
class Address:
    """Where somebody listens: a host name or IP address, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, key: str) -> Address:
    """Parse `host:port` or `[ipv6]:port`; port 0 means any free port. `key` stands in the error."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host) or not port.isascii() or not port.isdigit():
        raise ConfigError(f"'{key}' is {text!r}; it must be host:port, such as 127.0.0.1:7000 or [::1]:7000")
    if int(port) > 65535:
        raise ConfigError(f"'{key}' has port {port}; a port lies between 0 and 65535")
    return Address(bare, int(port))


@dataclass(frozen=True)
class Rules:
    """What every replica must apply alike, so that it belongs to the chain's identity."""

    window: int = setting(128, "Blocks that may be in flight above the stable checkpoint.", 4, 4096)
    checkpoint_interval: int = setting(32, "Blocks between checkpoints; at most half the window.", 2, 2048)
    block_orders_max: int = setting(65536, "Order operations in one block.", 1, 1 << 20)
    block_bytes_max: int = setting(4 << 20, "Bytes of micro-batches in one block.", 1 << 20, 64 << 20)
    clock_tolerance_ms: int = setting(
        10_000, "How far a proposal's time may lie from a voter's clock, in milliseconds.", 100, 3_600_000
    )
    snapshot_seconds: int = setting(
        5, "The state goes to disk at the first checkpoint of each such interval; 0: at every one.", 0, 3600
    )


@dataclass(frozen=True)
class Capacity:
    """Upper bounds of the replicated tables: what a block asks for beyond them is refused, alike
    everywhere. Tables start small and grow towards them."""

    accounts: int = setting(4_000_000, "Accounts.", 16, 1 << 28)
    assets: int = setting(1024, "Assets.", 2, 65_535)
    balances: int = setting(16_000_000, "Balances: one for each account and asset it held.", 64, 1 << 29)
    markets: int = setting(1024, "Markets.", 1, 32_767)
    levels: int = setting(64_000_000, "Price levels of all markets together.", 1024, 1 << 30)
    orders: int = setting(16_000_000, "Open orders.", 1024, 1 << 29)
    keys: int = setting(4_000_000, "Session keys.", 16, 1 << 28)
    grants: int = setting(8_000_000, "Grants of a key for an account.", 16, 1 << 28)


@dataclass(frozen=True)
class Validator:
    """One replica: its identity in the protocol, and how it is reached."""

    id: int
    consensus_key: bytes  # Ed25519, 32 bytes
    tls_certificate: bytes  # X.509, DER
    peer_address: Address
    client_address: Address


@dataclass(frozen=True)
class Network:
    """Everything in the network file. `validators[i].id == i`."""

    name: str
    validators: tuple[Validator, ...]
    admin_keys: tuple[bytes, ...]
    rules: Rules = Rules()
    capacity: Capacity = Capacity()
    plugins: tuple[str, ...] = ()  # of other packages, as module:Class

    def __post_init__(self) -> None:
        _check_network(self)

    @cached_property
    def chain_id(self) -> bytes:
        """Digest of the chain's identity: name, consensus keys, admin keys, plugins, rules, capacities."""
        content = [
            FORMAT,
            self.name,
            [validator.consensus_key for validator in self.validators],
            list(self.admin_keys),
            list(self.plugins),
            [
                [item.name, getattr(part, item.name)]
                for part in (self.rules, self.capacity)
                for item in fields(part)
            ],
        ]
        return digest("kontor.network", msgpack.packb(content, use_bin_type=True))

    @cached_property
    def genesis(self) -> Genesis:
        """What the state machine starts from."""
        rules = self.rules
        return Genesis(
            self.chain_id,
            self.admin_keys,
            engine_genesis.Capacity(**vars(self.capacity)),
            self.replicas.record,
            rules.checkpoint_interval,
            rules.window,
            self.members_max,
            self.plugins,
        )

    @cached_property
    def members_max(self) -> int:
        """How many validators there may be at a time, so that a new view fits one message."""
        fits = (
            n
            for n in range(REPLICAS_MAX, 0, -1)
            if new_view_bytes_max(_anybody(n), self.rules.window) <= FRAME_BYTES_MAX
        )
        return next(fits, 0)

    def frame_bytes_max_of(self, validators: int) -> int:
        """The longest message between so many validators: a new view, a micro-batch, or the manifest of a
        state."""
        # Imported here: clients read network files, too, and need no engine.
        from engine.tables.manifest import manifest_bytes_max

        state = manifest_bytes_max(self.genesis) + 64
        n = min(max(1, validators), REPLICAS_MAX)
        return max(new_view_bytes_max(_anybody(n), self.rules.window), 2 << 20, state)

    @cached_property
    def replicas(self) -> ReplicaSet:
        """The validators' keys as the protocol sees them."""
        return ReplicaSet.genesis(self.chain_id, tuple(item.consensus_key for item in self.validators))


def load_network(path: Path) -> Network:
    """Read and check a network file. Raises `ConfigError`."""
    return parse_network(read_toml(path, _REMEDY), str(path))


def parse_network(table: Mapping[str, Any], source: str) -> Network:
    """Make a network from a parsed file; `source` stands in errors."""
    known = ("format", "name", "admin_keys", "plugins", "rules", "capacity", "validators")
    refuse_unknown(table, dict.fromkeys(known), source)
    version = require(table, "format", int, source)
    if version != FORMAT:
        raise ConfigError(f"{source}: 'format' is {version}; this version of Kontor reads format {FORMAT}")
    raw_validators = require(table, "validators", list, source)
    validators = [_read_validator(raw, source, index) for index, raw in enumerate(raw_validators)]
    try:
        return Network(
            name=require(table, "name", str, source),
            validators=tuple(validators),
            admin_keys=tuple(
                _read_hex(key, "admin_keys", source) for key in require(table, "admin_keys", list, source)
            ),
            plugins=_read_plugins(table.get("plugins", []), source),
            rules=read_settings(Rules, table.get("rules", {}), source, "rules"),
            capacity=read_settings(Capacity, table.get("capacity", {}), source, "capacity"),
        )
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(source) else f"{source}: {text}") from error


def load_entry(path: Path) -> Validator:
    """The validator whose entry, as `kontor init` prints it, is in a file. Its id counts for nothing, and is
    usually absent: the ledger gives one. Raises `ConfigError`."""
    table = read_toml(path, "it is what `kontor init` printed on the new node")
    refuse_unknown(table, {"validators": None}, str(path))
    entries = require(table, "validators", list, str(path))
    if len(entries) != 1:
        raise ConfigError(f"{path} has {len(entries)} entries; give the one of the new validator")
    entry = {"id": 0, **entries[0]} if isinstance(entries[0], Mapping) else entries[0]
    return _read_validator(entry, str(path), 0)


def render_network(network: Network) -> str:
    """The text of a network file; `parse_network` reads it back to an equal value."""
    keys = ",\n".join(f'    "{key.hex()}"' for key in network.admin_keys)
    parts = [
        "# A Kontor network. Every validator and client holds the same file.\n"
        f"# Chain id: {network.chain_id.hex()}\n"
        f"format = {FORMAT}\nname = {render_value(network.name)}\n"
        "# Ed25519 public keys that may act for the venue (account 0).\n"
        f"admin_keys = [\n{keys},\n]\n"
        "# Plugins of other packages, as module:Class; each must be installed on every node.\n"
        f"plugins = [{', '.join(map(render_value, network.plugins))}]\n",
        render_settings(network.rules, "rules"),
        render_settings(network.capacity, "capacity"),
        *[render_validator(validator) for validator in network.validators],
    ]
    return "\n".join(parts)


def _read_plugins(raw: Any, source: str) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(name, str) for name in raw):
        raise ConfigError(f"{source}: 'plugins' must be a list of texts such as \"package.module:Class\"")
    return tuple(raw)


def _check_network(network: Network) -> None:
    if not _NAME.fullmatch(network.name):
        raise ConfigError(
            f"'name' is {network.name!r}; use 1 to 32 of a-z, 0-9 and '-', not starting with '-'"
        )
    if not 1 <= len(network.validators) <= REPLICAS_MAX:
        raise ConfigError(
            f"'validators' lists {len(network.validators)}; between 1 and {REPLICAS_MAX} are supported"
        )
    if [item.id for item in network.validators] != list(range(len(network.validators))):
        raise ConfigError("'validators' must be listed in order with ids 0, 1, 2, …")
    for what, values in _distinct_parts(network).items():
        if len(set(values)) != len(values):
            raise ConfigError(f"two validators share a {what}; each needs its own")
    if not 1 <= len(network.admin_keys) <= ADMIN_KEYS_MAX or len(set(network.admin_keys)) != len(
        network.admin_keys
    ):
        raise ConfigError(f"'admin_keys' must list between 1 and {ADMIN_KEYS_MAX} distinct keys")
    if network.rules.window < 2 * network.rules.checkpoint_interval:
        raise ConfigError(
            f"'rules.window' is {network.rules.window}; it must be at least twice"
            f" 'rules.checkpoint_interval' ({network.rules.checkpoint_interval})"
        )
    check_plugins(network.plugins)
    window, replicas = network.rules.window, network.replicas
    if new_view_bytes_max(replicas, window) > FRAME_BYTES_MAX:
        allowed = next(w for w in range(window, 0, -1) if new_view_bytes_max(replicas, w) <= FRAME_BYTES_MAX)
        raise ConfigError(
            f"'rules.window' is {window}; a new view of {replicas.n} validators fits one message only"
            f" with a window of at most {allowed}"
        )


def _anybody(n: int) -> ReplicaSet:
    """Any n validators, for what depends on their number only."""
    return ReplicaSet.genesis(
        bytes(DIGEST_SIZE), tuple(index.to_bytes(PUBLIC_KEY_SIZE) for index in range(n))
    )


def _distinct_parts(network: Network) -> dict[str, list[Any]]:
    items = network.validators
    return {
        "consensus_key": [item.consensus_key for item in items],
        "tls_certificate": [item.tls_certificate for item in items],
        "peer_address": [item.peer_address for item in items],
        "client_address": [item.client_address for item in items],
    }


def _read_validator(raw: Any, source: str, index: int) -> Validator:
    section = f"validators[{index}]"
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{source}: {section} must be a table")
    known = [item.name for item in fields(Validator)]
    refuse_unknown(raw, dict.fromkeys(known), source, section)

    def text(name: str) -> str:
        return require(raw, name, str, source, section)

    try:
        certificate = base64.b64decode(text("tls_certificate"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"{source}: '{section}.tls_certificate' is not base64; copy it again") from error
    try:
        x509.load_der_x509_certificate(certificate)
    except ValueError as error:
        raise ConfigError(
            f"{source}: '{section}.tls_certificate' is not an X.509 certificate; copy it again"
        ) from error
    return Validator(
        id=require(raw, "id", int, source, section),
        consensus_key=_read_hex(text("consensus_key"), f"{section}.consensus_key", source),
        tls_certificate=certificate,
        peer_address=_read_address(text("peer_address"), f"{section}.peer_address", source),
        client_address=_read_address(text("client_address"), f"{section}.client_address", source),
    )


def _read_address(text: str, key: str, source: str) -> Address:
    try:
        return parse_address(text, key)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def render_validator(validator: Validator) -> str:
    """The text of a validator's entry in the network file."""
    return f"[[validators]]\nid = {validator.id}\n{_render_fields(validator)}"


def render_entry(validator: Validator) -> str:
    """The text of the entry of a validator that is still to be added; `load_entry` reads it back."""
    head = "# The ledger gives the id, when an admin adds this entry.\n[[validators]]\n"
    return head + _render_fields(validator)


def _render_fields(validator: Validator) -> str:
    return (
        f'consensus_key = "{validator.consensus_key.hex()}"\n'
        f'tls_certificate = "{base64.b64encode(validator.tls_certificate).decode()}"\n'
        f'peer_address = "{validator.peer_address}"\n'
        f'client_address = "{validator.client_address}"\n'
    )


def _read_hex(text: Any, key: str, source: str) -> bytes:
    if not isinstance(text, str) or not re.fullmatch(rf"[0-9a-f]{{{2 * PUBLIC_KEY_SIZE}}}", text):
        raise ConfigError(
            f"{source}: '{key}' is {text!r}; it must be an Ed25519 public key, 64 lower-case hex digits"
        )
    return bytes.fromhex(text)
