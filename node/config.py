"""A node's own settings, `config.toml` in its home, and where everything in a home lies.

Only settings that may differ between nodes stand here; what all must share is in the network file
(`node.network`). Every setting has a default; unknown keys are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from consensus.primitives.errors import ConfigError
from node.network import Address, parse_address
from node.toml import read_settings, read_toml, refuse_unknown, render_settings, setting

VALIDATOR_ID_MAX = 4095  # ids are never given out twice


@dataclass(frozen=True)
class Home:
    """Paths inside a node's directory."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def network(self) -> Path:
        return self.root / "network.toml"

    @property
    def consensus_seed(self) -> Path:
        return self.root / "keys" / "consensus.seed"

    @property
    def signer(self) -> Path:
        return self.root / "signer"

    @property
    def signing_record(self) -> Path:
        return self.signer / "record"

    @property
    def signer_socket(self) -> Path:
        return self.signer / "socket"

    @property
    def tls_key(self) -> Path:
        return self.root / "keys" / "tls.key"

    @property
    def tls_certificate(self) -> Path:
        return self.root / "keys" / "tls.crt"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def ledger(self) -> Path:
        return self.data / "ledger"

    @property
    def validator_id(self) -> Path:
        """The id that the ledger gave to a node which was no founder."""
        return self.data / "validator-id"

    @property
    def known_validators(self) -> Path:
        """Where validators were when this node knew last."""
        return self.data / "known-validators"

    @property
    def log(self) -> Path:
        return self.root / "node.log"


@dataclass(frozen=True)
class NodeSettings:
    """[node]"""

    id: int = setting(0, "This validator's id in network.toml.", 0, VALIDATOR_ID_MAX)
    joins: bool = setting(False, "The ledger gives the id, to whoever has the consensus key; 'id' is unused.")
    peer_listen: str = setting("", "Where validators connect; empty: peer_address from network.toml.")
    client_listen: str = setting("", "Where clients connect; empty: client_address from network.toml.")
    worker_threads: int = setting(4, "Threads for signatures, execution and the disk.", 2, 256)


@dataclass(frozen=True)
class AdmissionSettings:
    """[admission]"""

    batch_ms: int = setting(
        3, "How long envelopes are gathered into a micro-batch, in milliseconds.", 0, 1000
    )
    batch_bytes: int = setting(
        512 << 10, "A micro-batch is sent when it holds this many bytes.", 1024, 1 << 20
    )
    queue_bytes: int = setting(
        64 << 20, "Envelopes waiting for admission; beyond it clients are refused.", 1 << 20
    )
    key_operations_per_second: int = setting(
        2_000_000,
        "Operations of one key in a second; an envelope counts 100, and one for each operation in it.",
        100,
    )
    client_connections: int = setting(512, "Client connections at a time.", 1, 65_536)
    client_connections_per_address: int = setting(256, "Of these, from one address.", 1, 65_536)
    client_queue_bytes: int = setting(
        16 << 20, "Envelopes of one connection under way; beyond it they wait.", 1 << 20
    )
    client_idle_seconds: int = setting(
        300, "A silent client connection is closed after this time.", 5, 86_400
    )


@dataclass(frozen=True)
class PeerSettings:
    """[peers]"""

    queue_bytes: int = setting(64 << 20, "Bytes waiting for one peer; beyond it the link is closed.", 1 << 20)
    pool_bytes: int = setting(256 << 20, "Payloads held for one peer until they are ordered.", 8 << 20)
    state_mib_per_second: int = setting(
        128, "How fast a state is served to one peer, in MiB a second.", 1, 1 << 16
    )
    handshake_seconds: int = setting(5, "A connection that has not said hello by then is closed.", 1, 120)
    reconnect_ms_min: int = setting(50, "First pause before connecting again, in milliseconds.", 1, 60_000)
    reconnect_ms_max: int = setting(2000, "Longest pause before connecting again.", 1, 600_000)
    routes: tuple[str, ...] = setting(
        (), 'Other ways to validators that we dial, behind NAT or a proxy: "2=10.0.0.9:7000".'
    )
    known: tuple[str, ...] = setting(
        (), 'Client addresses of more nodes, where few founders are left to be asked: "10.0.0.9:7100".'
    )


@dataclass(frozen=True)
class ConsensusSettings:
    """[consensus]"""

    request_timeout_ms: int = setting(
        300,
        "A primary silent for longer is complained of; grows with slow rounds, sixfold at most.",
        10,
        600_000,
    )
    view_timeout_ms: int = setting(
        500, "How long a new view may take; doubles with each failure.", 10, 600_000
    )
    in_flight_max: int = setting(4, "Blocks the primary proposes before the first commits.", 1, 64)
    transfer_gap: int = setting(
        2048, "Blocks behind the others from which on the state is fetched instead of blocks.", 1, 1 << 30
    )
    transfer_timeout_ms: int = setting(
        3000, "A peer that serves nothing of a state for so long is passed over.", 10, 600_000
    )


@dataclass(frozen=True)
class SignerSettings:
    """[signer]"""

    socket: str = setting(
        "", "Socket of a `kontor signer` that holds the key; empty: this node signs itself."
    )


@dataclass(frozen=True)
class LedgerSettings:
    """[ledger]"""

    blocks_mib: int = setting(
        65_536, "Largest size of votes, blocks and payloads on disk, in MiB.", 1, 1 << 26
    )
    state_mib: int = setting(16_384, "Largest size of the checkpoint on disk, in MiB.", 1, 1 << 26)
    dump_mib: int = setting(4096, "Most of what is kept of a state that went wrong, in MiB.", 1, 1 << 26)
    history_mib: int = setting(65_536, "Largest size of the history index on disk, in MiB.", 1, 1 << 26)

    resume_after: int = setting(
        0, "Go on beyond this block, at which the network was stopped for an upgrade; 0: stay stopped.", 0
    )


@dataclass(frozen=True)
class TelemetrySettings:
    """[telemetry]"""

    metrics_listen: str = setting("", "Loopback address for Prometheus, such as 127.0.0.1:9100; empty: none.")
    log_level: str = setting("info", "debug, info, warning or error.")
    log_to_stderr: bool = setting(False, "Write the log to standard error instead of node.log.")


@dataclass(frozen=True)
class Config:
    """All of config.toml."""

    node: NodeSettings = field(default_factory=NodeSettings)
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    peers: PeerSettings = field(default_factory=PeerSettings)
    consensus: ConsensusSettings = field(default_factory=ConsensusSettings)
    signer: SignerSettings = field(default_factory=SignerSettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)


_SECTIONS = {
    "node": NodeSettings,
    "admission": AdmissionSettings,
    "peers": PeerSettings,
    "consensus": ConsensusSettings,
    "signer": SignerSettings,
    "ledger": LedgerSettings,
    "telemetry": TelemetrySettings,
}
_LOG_LEVELS = ("debug", "info", "warning", "error")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_home(root: Path) -> None:
    """Raise `ConfigError` unless a node's directory is there."""
    if not root.is_dir():
        raise ConfigError(
            f"{root} does not exist: name the home of a node, the folder that holds its config.toml"
            f" (`kontor init --home {root}` makes a new one)"
        )


def load_config(path: Path) -> Config:
    """Read and check a config file. Raises `ConfigError`."""
    check_home(path.parent)
    table = read_toml(
        path,
        "put it back, or write a new one; a founder's needs 'id = N' under [node], that of a validator which"
        " was added later 'joins = true', 'peer_listen' and 'client_listen', and all else has a default",
    )
    source = str(path)
    refuse_unknown(table, _SECTIONS, source)
    sections: dict[str, Any] = {
        name: read_settings(cls, table.get(name, {}), source, name) for name, cls in _SECTIONS.items()
    }
    config = Config(**sections)
    try:
        _check_config(config)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return config


def render_config(config: Config) -> str:
    """The commented text of a config file; `load_config` reads it back to an equal value."""
    parts = ["# Settings of one Kontor node. Unknown keys are refused.\n"]
    parts += [render_settings(getattr(config, item.name), item.name) for item in fields(config)]
    return "\n".join(parts)


def write_config(path: Path, config: Config) -> None:
    """Write a new config file. Refuses to overwrite."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(render_config(config))
    except FileExistsError as error:
        raise ConfigError(f"{path} exists: edit it, or choose another directory") from error


def parse_routes(routes: tuple[str, ...]) -> dict[int, Address]:
    """Validator id -> where to dial it, from `peers.routes`. Raises `ConfigError`."""
    found: dict[int, Address] = {}
    for text in routes:
        peer, equals, address = text.partition("=")
        if (
            not equals
            or not peer.isascii()
            or not peer.isdigit()
            or len(peer) > 2
            or int(peer) > VALIDATOR_ID_MAX
        ):
            raise ConfigError(
                f"'peers.routes' lists {text!r}; an entry is ID=host:port with a validator's id"
                f" from 0 to {VALIDATOR_ID_MAX}, such as 2=10.0.0.9:7000"
            )
        if int(peer) in found:
            raise ConfigError(f"'peers.routes' lists validator {peer} twice; leave one entry")
        found[int(peer)] = parse_address(address, "peers.routes")
        if found[int(peer)].port == 0:
            raise ConfigError(f"'peers.routes' lists {text!r}; port 0 cannot be dialled")
    return found


def _check_routes(config: Config) -> None:
    for peer in parse_routes(config.peers.routes):
        if peer <= config.node.id:
            raise ConfigError(
                f"'peers.routes' lists validator {peer}, which validator {config.node.id} never dials (the"
                " lower id dials): remove it"
                + ("" if peer == config.node.id else f", or route to {config.node.id} in its config.toml")
            )


def check_hints(addresses: Sequence[str], key: str) -> None:
    """Raise `ConfigError` unless each can be connected to; `key` stands in the error."""
    for text in addresses:
        if parse_address(text, key).port == 0:
            raise ConfigError(f"'{key}' lists {text!r}; port 0 cannot be connected to")


def _check_config(config: Config) -> None:
    check_hints(config.peers.known, "peers.known")
    for key, text in (("peer_listen", config.node.peer_listen), ("client_listen", config.node.client_listen)):
        if text:
            parse_address(text, f"node.{key}")
    if config.telemetry.log_level not in _LOG_LEVELS:
        raise ConfigError(
            f"'telemetry.log_level' is {config.telemetry.log_level!r}; use one of {', '.join(_LOG_LEVELS)}"
        )
    listen = config.telemetry.metrics_listen
    if listen and parse_address(listen, "telemetry.metrics_listen").host not in _LOOPBACK:
        raise ConfigError(
            f"'telemetry.metrics_listen' is {listen!r}; metrics have no password, so listen on 127.0.0.1"
            " and let a local agent forward them"
        )
    if config.peers.reconnect_ms_min > config.peers.reconnect_ms_max:
        raise ConfigError("'peers.reconnect_ms_min' is above 'peers.reconnect_ms_max'; lower it")
    _check_routes(config)
