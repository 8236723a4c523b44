"""Commands: what clients ask for beside orders. Their arguments, bounds and canonical bytes.

On the wire a command is the msgpack array `[name, argument, …]`, and a payload is an array of them.
No argument is an array, so how deep a build of msgpack can read decides nothing.
A payload that is not that, in its one canonical spelling, makes its envelope malformed. A command
with an unknown name or an argument out of bounds is refused alone, with its own code.
"""

import re
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import msgpack

from consensus.primitives.crypto import PUBLIC_KEY_SIZE
from consensus.primitives.errors import ProtocolError
from engine.layout import (
    ADDRESS_BYTES_MAX,
    CERTIFICATE_BYTES_MAX,
    SCOPES_ALL,
    ExclusionRule,
)
from engine.markets.states import MarketStatus
from engine.records import AMOUNT_MAX

COMMANDS_MAX = 4096  # in one envelope
FOREIGN_COMMANDS_FIRST = 1024  # numbers of commands that plugins from elsewhere bring
PRICE_LEVELS_MAX = 1 << 26  # of one market
FEE_E6_MAX = 100_000  # 10 %
DECIMALS_MAX = 18
DAY_MS = 86_400_000
OPEN_ORDERS_MAX = 1 << 24
RATE_MAX = 1_000_000
EXPIRY_NEVER = 2**63 - 1
_NESTED = "a command has an array inside"
_NAME = re.compile(r"[A-Z0-9][A-Z0-9._/-]{0,15}")
_PRINTABLE = re.compile(rf"[!-~]{{1,{ADDRESS_BYTES_MAX}}}")


class Bounds(NamedTuple):
    """An integer argument, or the length of bytes, lies in `low`..`high`."""

    low: int
    high: int


AccountId = Annotated[int, Bounds(0, 2**31 - 1)]
AssetId = Annotated[int, Bounds(0, 2**16 - 1)]
MarketId = Annotated[int, Bounds(0, 2**15 - 1)]
Amount = Annotated[int, Bounds(1, AMOUNT_MAX)]
Fee = Annotated[int, Bounds(0, FEE_E6_MAX)]
ValidatorId = Annotated[int, Bounds(0, 2**31 - 1)]
# Whether these are a certificate and a place to connect to is for nodes to find out, each by itself:
# what a library makes of them today must not decide what the ledger does.
Certificate = Annotated[bytes, Bounds(1, CERTIFICATE_BYTES_MAX)]
HostAndPort = Annotated[str, _PRINTABLE]


class RegisterAsset(NamedTuple):
    """By the venue: a new asset. `issuer` is the account whose ADMIN keys may deposit and withdraw it."""

    name: str
    decimals: Annotated[int, Bounds(0, DECIMALS_MAX)]
    issuer: AccountId


class ListMarket(NamedTuple):
    """By the venue: a new market, open at once. Prices run from 1 to `price_max` ticks."""

    name: str
    base_asset: AssetId
    quote_asset: AssetId
    base_per_lot: Amount
    quote_per_lot_tick: Amount
    price_max: Annotated[int, Bounds(1, PRICE_LEVELS_MAX - 1)]
    qty_max: Amount
    notional_min: Annotated[int, Bounds(0, AMOUNT_MAX)]
    maker_fee_e6: Fee
    taker_fee_e6: Fee


class OpenAccount(NamedTuple):
    """By the venue: a new account. `root_key` gets every scope on it, for good."""

    root_key: bytes


class GrantKey(NamedTuple):
    """By an ADMIN key of `account`: what `public_key` may do for it, replacing what it might do before."""

    account: AccountId
    public_key: bytes
    scopes: Annotated[int, Bounds(1, SCOPES_ALL)]
    expiry_ms: Annotated[int, Bounds(0, EXPIRY_NEVER)]


class RevokeKey(NamedTuple):
    """By an ADMIN key of `account`: `public_key` may do nothing for it any more."""

    account: AccountId
    public_key: bytes


class Deposit(NamedTuple):
    """By the asset's issuer or the venue: value enters the ledger."""

    account: AccountId
    asset: AssetId
    amount: Amount


class Withdraw(NamedTuple):
    """By a TRANSFER key of `account`, the asset's issuer or the venue: value leaves the ledger."""

    account: AccountId
    asset: AssetId
    amount: Amount


class Transfer(NamedTuple):
    """By a TRANSFER key of `source`."""

    source: AccountId
    target: AccountId
    asset: AssetId
    amount: Amount


class SetFees(NamedTuple):
    """By the venue. Holds never include fees, so resting orders need no adjustment."""

    market: MarketId
    maker_fee_e6: Fee
    taker_fee_e6: Fee


class SetMarketStatus(NamedTuple):
    """By the venue: open or close a market. Cancels are always taken."""

    market: MarketId
    status: Annotated[int, Bounds(min(MarketStatus), MarketStatus.DELISTED)]


class CallAuction(NamedTuple):
    """By the venue: orders gather until `ends_ms` of ledger time, trade at one price, and the market goes
    into status `then`."""

    market: MarketId
    ends_ms: Annotated[int, Bounds(1, EXPIRY_NEVER)]
    then: Annotated[int, Bounds(min(MarketStatus), MarketStatus.CANCEL_ONLY)]


class ScheduleAuctions(NamedTuple):
    """By the venue: a call of `call_ms` begins at every ledger time that is `offset_ms` modulo `period_ms`.
    Period 0: no more of them."""

    market: MarketId
    period_ms: Annotated[int, Bounds(0, 366 * DAY_MS)]
    offset_ms: Annotated[int, Bounds(0, 366 * DAY_MS)]
    call_ms: Annotated[int, Bounds(1, DAY_MS)]


class CancelAllAfter(NamedTuple):
    """By a TRADE key of `account`: cancel all its orders when so much ledger time has passed, unless this is
    said again before. 0: never mind."""

    account: AccountId
    timeout_ms: Annotated[int, Bounds(0, DAY_MS)]


class SetAccountLimits(NamedTuple):
    """By the venue: the most open orders of an account, and NEW and REPLACE operations a second (0: any)."""

    account: AccountId
    open_orders_max: Annotated[int, Bounds(0, OPEN_ORDERS_MAX)]
    rate_max: Annotated[int, Bounds(0, RATE_MAX)]


class SetAccountGroup(NamedTuple):
    """By the venue: `account` has the owner of account `group`, so that they never trade with each other. Its
    own number: it stands alone again."""

    account: AccountId
    group: AccountId


class SetCollar(NamedTuple):
    """By the venue: how far from the reference price orders may bid up or ask down. 0: any price."""

    market: MarketId
    collar_bps: Annotated[int, Bounds(0, 10_000)]


class AddValidator(NamedTuple):
    """By the venue: one more validator from the next epoch on, under an id of its own."""

    key: bytes
    certificate: Certificate
    peer: HostAndPort
    client: HostAndPort


class RemoveValidator(NamedTuple):
    """By the venue: a validator votes until the present epoch ends, and its id never again."""

    validator: ValidatorId


class ReplaceValidator(NamedTuple):
    """By the venue: remove one and add another at the same boundary. The other gets a new id."""

    validator: ValidatorId
    key: bytes
    certificate: Certificate
    peer: HostAndPort
    client: HostAndPort


class RotateValidatorKey(NamedTuple):
    """By the venue: a validator signs with `key` from the next epoch on."""

    validator: ValidatorId
    key: bytes


class MoveValidator(NamedTuple):
    """By the venue: a validator is reached there, and shows that certificate, from the next epoch on."""

    validator: ValidatorId
    certificate: Certificate
    peer: HostAndPort
    client: HostAndPort


class Wedge(NamedTuple):
    """By the venue: stop at the first checkpoint from `height` on, for an upgrade. 0: as soon as possible."""

    height: Annotated[int, Bounds(0, 2**62)]


class SetExclusionRule(NamedTuple):
    """By the venue: what happens to validators that evidence convicts."""

    rule: Annotated[int, Bounds(0, max(ExclusionRule))]


class CommandNumber(IntEnum):
    """What stands in the `op` of a COMMAND line. Append only."""

    UNKNOWN = 0
    REGISTER_ASSET = 1
    LIST_MARKET = 2
    OPEN_ACCOUNT = 3
    GRANT_KEY = 4
    REVOKE_KEY = 5
    DEPOSIT = 6
    WITHDRAW = 7
    TRANSFER = 8
    SET_FEES = 9
    SET_MARKET_STATUS = 10
    ADD_VALIDATOR = 11
    REMOVE_VALIDATOR = 12
    REPLACE_VALIDATOR = 13
    ROTATE_VALIDATOR_KEY = 14
    MOVE_VALIDATOR = 15
    WEDGE = 16
    SET_EXCLUSION_RULE = 17
    CONVICT = 18  # nobody's command: the line that accepted evidence leaves
    CANCEL_ALL_AFTER = 20
    SET_ACCOUNT_LIMITS = 21
    SET_COLLAR = 22
    SET_ACCOUNT_GROUP = 23
    CALL_AUCTION = 35
    SCHEDULE_AUCTIONS = 36
    ADD_REPORTER = 40
    REMOVE_REPORTER = 41
    ADD_FEED = 42
    SET_FEED = 43
    SET_FEED_REPORTER = 44
    REPORT_PRICE = 45
    SET_INDEX = 46
    SET_INDEX_FEED = 47
    SET_TIMELOCK_DELAY = 48
    CANCEL_CHANGE = 49
    SET_BREAKER = 50
    TRIP_BREAKER = 51
    LIFT_BREAKER = 52
    SET_LIFT_DELAY = 53
    SET_PEG = 54
    SET_OUTFLOW_LIMIT = 55
    PAUSE_WITHDRAWALS = 56
    RESUME_WITHDRAWALS = 57
    LIST_PERPETUAL = 60
    SET_MARGIN_TIER = 61
    SET_POSITION_LIMITS = 62
    SET_FUNDING = 63
    REGISTER_COLLATERAL = 64
    SET_MARGIN_MODE = 65
    SET_ISOLATION = 66
    ADD_COLLATERAL = 67
    REMOVE_COLLATERAL = 68
    REGISTER_SCORER = 69
    ATTEST_SCORE = 70
    SET_DEFAULT_ADDON = 71
    SET_LIQUIDATION = 80
    REGISTER_BACKSTOP = 81
    SET_FEE_RATES = 90
    SET_FEE_TIER = 91
    SET_MARKET_SCHEDULE = 92
    SET_FEE_ASSET = 93
    SET_REFERRAL_SHARE = 94
    CHOOSE_FEE_ASSET = 95
    SET_REFERRER = 96
    SET_SETTLEMENT_AGENT = 100
    SET_SETTLEMENT_CYCLE = 101
    ALLOW_SETTLEMENT_AGENT = 102
    SUBMIT_OBLIGATION = 103
    CANCEL_OBLIGATION = 104


class CommandKind(NamedTuple):
    """One command's name, number, and how its arguments are read: None if they are out of bounds."""

    name: str
    number: int
    read: Callable[[list[Any]], Any]


def name_of(command: type) -> str:
    """`RegisterAsset` is `register_asset` on the wire."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", command.__name__).lower()


def kind_of(command: type, place: int = 0) -> CommandKind:
    """Name, number and reader of a command class. One that is not of this package gets its number from its
    `place` among all commands of the ledger."""
    name = name_of(command)
    number = CommandNumber.__members__.get(name.upper(), FOREIGN_COMMANDS_FIRST + place)
    return CommandKind(name, number, _reader(command))


def encode(commands: Sequence[tuple[Any, ...]]) -> bytes:
    """The payload of an envelope that carries these commands, in this order."""
    if not 1 <= len(commands) <= COMMANDS_MAX:
        raise ValueError(f"{len(commands)} commands in one envelope; 1..{COMMANDS_MAX} fit")
    return msgpack.packb([[name_of(type(command)), *command] for command in commands])


def decode(payload: bytes | memoryview) -> list[list[Any]]:
    """The raw commands of a payload, each a list that starts with a name; `ProtocolError` if malformed."""
    try:
        raw = msgpack.unpackb(payload, raw=False, max_map_len=0, max_ext_len=0, max_array_len=COMMANDS_MAX)
        _check_shape(raw)
        canonical = msgpack.packb(raw)
    except (RecursionError, msgpack.StackError) as error:
        raise ProtocolError(_NESTED) from error
    except (ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"commands are not msgpack: {error}") from error
    if canonical != payload:
        raise ProtocolError("commands are not in canonical form")
    return raw


def _check_shape(raw: Any) -> None:
    """`ProtocolError` unless this is an array of commands, none of them with an array inside.

    What msgpack finds too deep to read would be refused here as well.
    """
    if type(raw) is not list or not raw:
        raise ProtocolError("commands are not an array of at least one")
    for item in raw:
        if type(item) is not list or not item:
            raise ProtocolError("a command is not an array that starts with a name")
        if any(type(argument) is list for argument in item):
            raise ProtocolError(_NESTED)
        if type(item[0]) is not str:
            raise ProtocolError("a command is not an array that starts with a name")


def _reader(command: type) -> Callable[[list[Any]], Any]:
    hints = get_type_hints(command, include_extras=True)
    rules = [_rule(hint) for hint in hints.values()]
    length = len(rules) + 1

    def read(raw: list[Any]) -> Any:
        """`raw` starts with the command's name."""
        if len(raw) != length:
            return None
        arguments = raw[1:]
        for (kind, low, high, pattern), argument in zip(rules, arguments, strict=True):
            if type(argument) is not kind:
                return None
            if pattern is not None:
                if pattern.fullmatch(argument) is None:
                    return None
            elif not low <= (argument if kind is int else len(argument)) <= high:
                return None
        return command(*arguments)

    return read


class _Rule(NamedTuple):
    kind: Any  # int, bytes or str
    low: int  # of the number, or of the number of bytes
    high: int
    pattern: re.Pattern[str] | None  # of a text


def _rule(hint: Any) -> _Rule:
    if hint is bytes:
        return _Rule(bytes, PUBLIC_KEY_SIZE, PUBLIC_KEY_SIZE, None)
    if hint is str:
        return _Rule(str, 0, 0, _NAME)
    kind, bounds = get_args(hint)
    if isinstance(bounds, Bounds):
        return _Rule(kind, *bounds, None)
    return _Rule(kind, 0, 0, bounds)
