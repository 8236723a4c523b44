"""What clients may ask about this node's state, and how each question is read."""

from collections.abc import Awaitable, Callable
from typing import Any

from consensus.messages import EPOCHS_FETCH_MAX
from consensus.primitives.crypto import PUBLIC_KEY_SIZE
from consensus.primitives.errors import InputError
from node import position_views, price_views, views
from node.receipts import RECEIPTS
from node.services import Services
from node.wire import Detail, Refused, Request, take_params

Query = Callable[[Services], Awaitable[Any]]


def find_query(request: Request) -> Query:
    """What to read for a request. Raises `InputError` if there is no such query, or with other parameters."""
    match request.method:
        case "status":
            take_params(request)
            return _status
        case "assets":
            take_params(request)
            return lambda services: _rows(services, views.view_assets)
        case "markets":
            take_params(request)
            return lambda services: _rows(services, views.view_markets)
        case "account":
            (account,) = take_params(request, int)
            return lambda services: _row(services, lambda m: views.view_account(m, account), "account")
        case "balances":
            (account,) = take_params(request, int)
            return lambda services: _rows(services, lambda m: views.view_balances(m, account))
        case "orders":
            (account,) = take_params(request, int)
            return lambda services: _rows(services, lambda m: views.view_orders(m, account))
        case "key":
            (public_key,) = take_params(request, bytes)
            check_size("a public key", public_key, PUBLIC_KEY_SIZE)
            return lambda services: _row(services, lambda m: views.view_key(m, public_key), "key")
        case "epochs":
            (first,) = take_params(request, int)
            return lambda services: _epochs(services, first)
        case "checkpoint":
            take_params(request)
            return _checkpoint
        case "balance_proof":
            account, asset = take_params(request, int, int)
            return lambda services: _balance_proof(services, account, asset)
        case "validators_proof":
            take_params(request)
            return _validators_proof
        case "validators":
            take_params(request)
            return lambda services: _rows(services, views.view_validators)
        case "membership":
            take_params(request)
            return lambda services: _row(services, views.view_membership, "membership")
        case "convictions":
            take_params(request)
            return lambda services: _rows(services, views.view_convictions)
        case "feeds":
            take_params(request)
            return lambda services: _rows(services, price_views.view_feeds)
        case "breakers":
            take_params(request)
            return lambda services: _rows(services, price_views.view_breakers)
        case "contracts":
            take_params(request)
            return lambda services: _rows(services, position_views.view_contracts)
        case "positions":
            (account,) = take_params(request, int)
            return lambda services: _rows(services, lambda m: position_views.view_positions(m, account))
        case "margin":
            (account,) = take_params(request, int)
            return lambda services: _rows(services, lambda m: position_views.view_margin(m, account))
    raise InputError(Refused.UNKNOWN_METHOD, f"no method {request.method!r}; one of {', '.join(METHODS)}")


METHODS = (
    "hello",
    "submit",
    "receipt",
    "status",
    "assets",
    "markets",
    "account",
    "balances",
    "orders",
    "key",
    "epochs",
    "checkpoint",
    "balance_proof",
    "validators_proof",
    "validators",
    "membership",
    "convictions",
    "feeds",
    "breakers",
    "contracts",
    "positions",
    "margin",
)


async def _status(services: Services) -> list[Any]:
    return views.VIEWS.to_fields(views.view_status(services.status()))


async def _epochs(services: Services, first: int) -> list[Any]:
    """Changes of validators from epoch `first` on, as many as are sent at once."""
    start = max(first, 1) - 1
    proofs = services.epoch_proofs()[start : start + EPOCHS_FETCH_MAX]
    return [RECEIPTS.to_fields(proof) for proof in proofs]


async def _checkpoint(services: Services) -> list[Any] | None:
    cert = services.checkpoint()
    return None if cert is None else RECEIPTS.to_fields(cert)


async def _balance_proof(services: Services, account: int, asset: int) -> list[Any]:
    return RECEIPTS.to_fields(await services.prove_balance(account, asset))


async def _validators_proof(services: Services) -> list[Any]:
    return RECEIPTS.to_fields(await services.prove_validators())


async def _rows(services: Services, read: Callable[[Any], list[Any]]) -> list[Any]:
    return await services.query(lambda machine: [views.VIEWS.to_fields(row) for row in read(machine)])


async def _row(services: Services, read: Callable[[Any], Any], what: str) -> list[Any]:
    row = await services.query(read)
    if row is None:
        raise InputError(Refused.NOT_FOUND, f"there is no such {what} in the state of this node")
    return views.VIEWS.to_fields(row)


def read_detail(text: str) -> Detail:
    """The detail that a request names. Raises `InputError`."""
    try:
        return Detail(text)
    except ValueError:
        known = " or ".join(f"{item.value!r}" for item in Detail)
        raise InputError(Refused.BAD_PARAMS, f"detail is {text!r}; use {known}") from None


def check_size(what: str, value: bytes, size: int) -> None:
    """Raise `InputError` unless `value` has `size` bytes."""
    if len(value) != size:
        raise InputError(Refused.BAD_PARAMS, f"{what} has {size} bytes, not {len(value)}")
