"""What a ledger starts from: pure data, equal on every node."""

import re
from dataclasses import dataclass, field

from consensus.primitives.crypto import DIGEST_SIZE, PUBLIC_KEY_SIZE
from consensus.primitives.errors import ConfigError
from consensus.proofs import MEMBERS_MAX, Epoch, Member

VENUE_ACCOUNT = 0  # earns the fees; its ADMIN keys run the venue
CLEARING_ACCOUNT = (
    2**31 - 1
)  # nobody's: owner of the balances in which clearing keeps what is between accounts
ADMIN_KEYS_MAX = 64
ROWS_MAX = 2**31 - 1  # row ids are int32
VALIDATORS_MAX = 4096  # that ever were
VALIDATOR_KEYS_MAX = 65_536  # that ever were validators'
EVIDENCE_MAX = 65_536  # convictions
POSITIONS_MAX = 1 << 22  # open at once
COLLATERALS_MAX = 16  # assets that back positions, beside those that they are settled in
POOLS_MAX = 8  # assets that positions are settled in


@dataclass(frozen=True)
class Capacity:
    """The most rows each table may ever hold. Refusals at a limit carry `LIMIT_REACHED`.

    Part of genesis, since a limit that differs between nodes would fork them. Memory is taken as
    rows come, not up front.
    """

    accounts: int = 1 << 23
    assets: int = 1 << 12
    balances: int = 1 << 25
    markets: int = 1 << 12
    levels: int = 1 << 27  # price levels of all markets together; each has a row for bids and one for asks
    orders: int = 1 << 25  # resting at once
    keys: int = 1 << 23
    grants: int = 1 << 24

    def __post_init__(self) -> None:
        for name, rows in vars(self).items():
            if not 1 <= rows <= ROWS_MAX:
                raise ConfigError(f"capacity.{name}={rows} rows; choose 1..{ROWS_MAX}")
        if self.markets > 2**15 - 1 or self.assets > 2**16 - 1:
            raise ConfigError(
                f"capacity.markets={self.markets} may be at most 32767 and capacity.assets={self.assets} "
                "at most 65535: the wire has two bytes for each"
            )


# A ledger without validators of its own, as the engine's tests and benches run it.
_NOBODY = Epoch(0, 1, (Member(0, bytes(PUBLIC_KEY_SIZE)),))


PLUGINS_MAX = 64
_PLUGIN = re.compile(r"[A-Za-z_][\w.]{0,127}:[A-Za-z_]\w{0,63}", re.ASCII)


@dataclass(frozen=True)
class Genesis:
    """Chain identity, the keys that administer the venue, table limits, the first validators, rules.

    `plugins` are those of other packages, as `module:Class`. They get their turn in this order, after this
    package's own.

    Their rules: a checkpoint every `checkpoint_interval` blocks, votes for up to `window` blocks above
    a stable one, and at most `members_max` validators at a time.
    """

    chain_id: bytes
    admin_keys: tuple[bytes, ...]
    capacity: Capacity = field(default_factory=Capacity)
    epoch: Epoch = _NOBODY
    checkpoint_interval: int = 32
    window: int = 128
    members_max: int = MEMBERS_MAX
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.chain_id) != DIGEST_SIZE:
            raise ConfigError(f"chain_id has {len(self.chain_id)} bytes; it is a digest of {DIGEST_SIZE}")
        if not 1 <= len(self.admin_keys) <= ADMIN_KEYS_MAX:
            raise ConfigError(f"{len(self.admin_keys)} admin keys; name 1..{ADMIN_KEYS_MAX}")
        if len(set(self.admin_keys)) != len(self.admin_keys):
            raise ConfigError("an admin key is named twice; name each once")
        for key in self.admin_keys:
            if len(key) != PUBLIC_KEY_SIZE:
                raise ConfigError(
                    f"admin key of {len(key)} bytes; an Ed25519 public key has {PUBLIC_KEY_SIZE}"
                )
        ids = [member.id for member in self.epoch.members]
        if self.epoch.number != 0 or self.epoch.first_seq != 1 or ids != list(range(len(ids))):
            raise ConfigError("a ledger starts in epoch 0 at block 1, with validators 0, 1, 2, …")
        if not len(ids) <= self.members_max <= MEMBERS_MAX:
            raise ConfigError(f"{len(ids)} validators, at most {self.members_max} at a time")
        if not 1 <= self.checkpoint_interval <= self.window:
            raise ConfigError(f"checkpoint interval {self.checkpoint_interval}, window {self.window}")
        check_plugins(self.plugins)


def check_plugins(names: tuple[str, ...]) -> None:
    """`ConfigError` unless these may be plugins of other packages."""
    if len(names) > PLUGINS_MAX or len(set(names)) != len(names):
        raise ConfigError(f"{len(names)} plugins; name up to {PLUGINS_MAX}, each once")
    for name in names:
        if not _PLUGIN.fullmatch(name):
            raise ConfigError(f"{name!r} is no plugin: write package.module:Class")
