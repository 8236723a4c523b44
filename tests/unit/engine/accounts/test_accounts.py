"""Account commands: who may, what is refused, and what a refusal leaves untouched."""

import pytest

from engine.accounts.keys import GRANTS_PER_ACCOUNT_MAX
from engine.commands import (
    EXPIRY_NEVER,
    Deposit,
    GrantKey,
    OpenAccount,
    RegisterAsset,
    RevokeKey,
    Transfer,
    Withdraw,
)
from engine.genesis import Capacity
from engine.layout import Scope
from engine.records import AMOUNT_MAX, Code, Kind, Side
from tests.helpers.venue import START_MS, Venue, new, signer

ALICE, BOB, EVE, ISSUER = signer("alice"), signer("bob"), signer("eve"), signer("issuer")
STEP = 1000


@pytest.fixture
def venue():
    """Accounts: 1 Alice, 2 Bob, 3 the issuer of asset 1. Assets: 0 of the venue, 1 of the issuer."""
    venue = Venue()
    venue.commands(
        *[OpenAccount(key.public_key) for key in (ALICE, BOB, ISSUER)],
        RegisterAsset("USD", 6, 0),
        RegisterAsset("ISS", 6, 3),
        Deposit(1, 0, 1000),
    )
    assert venue.block().counts.rejected == 0
    return venue


def codes(venue, *commands, by=None, account=0):
    """The codes of commands executed in a block of their own."""
    venue.commands(*commands, by=by, account=account)
    journal = venue.block().journal
    assert journal["code"][0] == Code.OK, f"envelope refused with {Code(int(journal['code'][0])).name}"
    venue.machine.check_conservation()
    return [Code(int(code)) for code in journal["code"][journal["kind"] == Kind.COMMAND]]


def balance(venue, account, asset):
    row = venue.machine.state.balance_row(account, asset)
    return venue.machine.state.balances.columns["available"].item(row) if row >= 0 else 0


def test_accounts_are_numbered_as_they_are_opened(venue):
    venue.commands(OpenAccount(EVE.public_key))
    line = venue.block().journal[-1]
    assert (line["account"], line["detail"]) == (4, 4)
    assert venue.machine.state.owner(4) == EVE.public_key


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (OpenAccount(EVE.public_key), Code.NOT_AUTHORISED),
        (RegisterAsset("NEW", 0, 0), Code.NOT_AUTHORISED),
        (Deposit(1, 0, 5), Code.NOT_AUTHORISED),
        (Deposit(1, 1, 5), Code.NOT_AUTHORISED),
        (Deposit(1, 9, 5), Code.UNKNOWN_ASSET),
        (Deposit(99, 0, 5), Code.UNKNOWN_ACCOUNT),
        (Withdraw(1, 0, 1001), Code.INSUFFICIENT_FUNDS),
        (Withdraw(1, 1, 1), Code.INSUFFICIENT_FUNDS),
        (Withdraw(2, 0, 1), Code.NOT_AUTHORISED),
        (Withdraw(1, 7, 1), Code.UNKNOWN_ASSET),
        (Transfer(1, 2, 0, 1001), Code.INSUFFICIENT_FUNDS),
        (Transfer(2, 1, 0, 1), Code.NOT_AUTHORISED),
        (Transfer(1, 1, 0, 1), Code.BAD_ARGUMENT),
        (Transfer(1, 99, 0, 1), Code.UNKNOWN_ACCOUNT),
        (Transfer(99, 1, 0, 1), Code.UNKNOWN_ACCOUNT),
        (Transfer(1, 2, 9, 1), Code.UNKNOWN_ASSET),
        (GrantKey(2, EVE.public_key, Scope.TRADE, EXPIRY_NEVER), Code.NOT_AUTHORISED),
        (GrantKey(99, EVE.public_key, Scope.TRADE, EXPIRY_NEVER), Code.UNKNOWN_ACCOUNT),
        (GrantKey(1, ALICE.public_key, Scope.TRADE, EXPIRY_NEVER), Code.BAD_ARGUMENT),
        (RevokeKey(1, ALICE.public_key), Code.BAD_ARGUMENT),
        (RevokeKey(1, EVE.public_key), Code.UNKNOWN_KEY),
        (RevokeKey(2, BOB.public_key), Code.NOT_AUTHORISED),
        (("launch_rocket", 1), Code.UNKNOWN_COMMAND),
        (Deposit(1, 0, 0), Code.BAD_ARGUMENT),
    ],
    ids=str,
)
def test_what_alice_may_not_do_changes_nothing(venue, command, code):
    if not hasattr(command, "_fields"):
        command = type("LaunchRocket", (tuple,), {})(command[1:])
    before = venue.machine.state_root(), dict(venue.machine.table_roots())
    assert codes(venue, command, by=ALICE, account=1) == [code]
    after = venue.machine.table_roots()
    changed = {name for name in after if after[name] != before[1][name]}
    assert changed == {"counters", "keys", "nonces"}, "only time and the signing key's nonce move"


def test_the_venue_may_do_what_alice_may_not(venue):
    assert codes(venue, OpenAccount(EVE.public_key), RegisterAsset("NEW", 0, 0), Deposit(1, 1, 5)) == [
        0,
        0,
        0,
    ]
    assert codes(venue, RegisterAsset("NEW", 0, 0)) == [Code.NAME_TAKEN]
    assert codes(venue, RegisterAsset("NEWER", 0, 99)) == [Code.UNKNOWN_ACCOUNT]


def test_an_issuer_creates_and_destroys_its_own_asset_only(venue):
    commands = (Deposit(1, 1, 50), Withdraw(1, 1, 20), Deposit(1, 0, 1), Withdraw(1, 0, 1))
    refused = Code.NOT_AUTHORISED
    assert codes(venue, *commands, by=ISSUER, account=3) == [0, 0, refused, refused]
    assert balance(venue, 1, 1) == 30


def test_transfers_move_value_and_leave_supply_alone(venue):
    assert codes(venue, Transfer(1, 2, 0, 400), by=ALICE, account=1) == [0]
    assert (balance(venue, 1, 0), balance(venue, 2, 0)) == (600, 400)


def test_owners_withdraw_what_is_theirs(venue):
    assert codes(venue, Withdraw(1, 0, 1000), Withdraw(1, 0, 1), by=ALICE, account=1) == [
        0,
        Code.INSUFFICIENT_FUNDS,
    ]
    assert balance(venue, 1, 0) == 0


def test_supply_is_bounded_and_turnover_is_not(venue):
    room = AMOUNT_MAX - 1000
    assert codes(venue, Deposit(2, 0, room), Deposit(2, 0, 1)) == [0, Code.SUPPLY_OVERFLOW]
    for _ in range(3):
        assert codes(venue, Withdraw(2, 0, room), Deposit(2, 0, room)) == [0, 0]


def test_scopes_are_apart(venue):
    assert codes(venue, GrantKey(1, EVE.public_key, Scope.TRADE, EXPIRY_NEVER), by=ALICE, account=1) == [0]
    denied = Code.NOT_AUTHORISED
    more = GrantKey(1, BOB.public_key, Scope.TRADE, EXPIRY_NEVER)
    assert codes(venue, Transfer(1, 2, 0, 1), Withdraw(1, 0, 1), more, by=EVE, account=1) == [denied] * 3
    assert codes(venue, GrantKey(1, EVE.public_key, Scope.TRANSFER, EXPIRY_NEVER), by=ALICE, account=1) == [0]
    assert codes(venue, Transfer(1, 2, 0, 1), more, by=EVE, account=1) == [0, denied]


def test_a_grant_takes_effect_for_the_next_command_and_ends_with_its_expiry(venue):
    grant = GrantKey(1, EVE.public_key, Scope.TRANSFER, START_MS + STEP)
    venue.commands(grant, by=ALICE, account=1)
    venue.commands(Transfer(1, 2, 0, 1), by=EVE, account=1)
    assert venue.block(time_ms=START_MS + STEP - 1).counts.rejected == 0
    assert balance(venue, 2, 0) == 1
    venue.commands(Transfer(1, 2, 0, 1), by=EVE, account=1)
    assert venue.block(time_ms=START_MS + STEP).journal["code"][0] == Code.KEY_EXPIRED


def test_a_revoked_key_can_do_nothing_and_can_be_granted_again(venue):
    grant = GrantKey(1, EVE.public_key, Scope.TRANSFER, EXPIRY_NEVER)
    revoke = RevokeKey(1, EVE.public_key)
    assert codes(venue, grant, grant, revoke, revoke, by=ALICE, account=1) == [
        0,
        Code.KEY_ALREADY_GRANTED,
        0,
        Code.UNKNOWN_KEY,
    ]
    venue.commands(Transfer(1, 2, 0, 1), by=EVE, account=1)
    assert venue.block().journal["code"][0] == Code.NOT_AUTHORISED
    assert codes(venue, grant, by=ALICE, account=1) == [0]
    assert codes(venue, Transfer(1, 2, 0, 1), by=EVE, account=1) == [0]
    assert venue.machine.state.count["grants"] == 5, "one row per key and account, however often it changes"


def test_an_admin_key_cannot_throw_out_the_owner(venue):
    assert codes(venue, GrantKey(1, EVE.public_key, Scope.ADMIN, EXPIRY_NEVER), by=ALICE, account=1) == [0]
    assert codes(venue, RevokeKey(1, ALICE.public_key), by=EVE, account=1) == [Code.BAD_ARGUMENT]
    assert codes(venue, RevokeKey(1, EVE.public_key), by=ALICE, account=1) == [0]


def test_an_account_holds_a_bounded_number_of_grants(venue):
    grants = [
        GrantKey(1, number.to_bytes(32, "big"), Scope.TRADE, EXPIRY_NEVER)
        for number in range(1, GRANTS_PER_ACCOUNT_MAX + 1)
    ]
    answers = codes(venue, *grants, by=ALICE, account=1)
    assert answers == [0] * (GRANTS_PER_ACCOUNT_MAX - 1) + [Code.LIMIT_REACHED]


@pytest.mark.parametrize("table", ["accounts", "keys", "grants", "assets", "balances"])
def test_a_full_table_refuses_and_says_so(table):
    venue = Venue(
        Capacity(**{"accounts": 50, "keys": 50, "grants": 50, "assets": 50, "balances": 50} | {table: 3})
    )
    opened = [OpenAccount(bytes([number]) * 32) for number in range(1, 7)]
    assets = [RegisterAsset(f"A{number}", 0, 0) for number in range(6)]
    deposits = [Deposit(0, number, 1) for number in range(6)]
    answers = codes(venue, *opened, *assets, *deposits)
    assert set(answers) <= {Code.OK, Code.LIMIT_REACHED, Code.UNKNOWN_ASSET}
    assert Code.LIMIT_REACHED in answers


def test_a_key_trades_only_for_accounts_that_granted_it():
    venue = Venue()
    alice, _ = venue.open_market(traders=2)
    venue.orders(alice, 1, [new(0, account, 7, Side.BUY, 5, 1) for account in (1, 2, 1, 99)])
    journal = venue.block().journal
    results = journal[journal["kind"] == Kind.RESULT]
    assert results["code"].tolist() == [
        Code.OK,
        Code.NOT_AUTHORISED,
        Code.DUPLICATE_ORDER_ID,
        Code.UNKNOWN_ACCOUNT,
    ]


def test_a_gateway_trades_for_every_account_that_granted_its_key():
    venue = Venue()
    alice, bob = venue.open_market(traders=2)
    gateway = signer("gateway")
    for account, owner in ((1, alice), (2, bob)):
        venue.commands(
            GrantKey(account, gateway.public_key, Scope.TRADE, START_MS + STEP), by=owner, account=account
        )
    venue.orders(gateway, 1, [new(0, 1, 7, Side.SELL, 5, 1), new(0, 2, 7, Side.BUY, 5, 1)])
    result = venue.block()
    assert (result.counts.rejected, result.counts.fills) == (0, 1)
    venue.commands(GrantKey(1, gateway.public_key, Scope.TRADE, EXPIRY_NEVER), by=alice, account=1)
    venue.orders(gateway, 1, [new(0, 1, 8, Side.SELL, 5, 1), new(0, 2, 8, Side.BUY, 5, 1)])
    journal = venue.block(time_ms=START_MS + STEP).journal
    assert journal["code"][journal["kind"] == Kind.RESULT].tolist() == [Code.OK, Code.KEY_EXPIRED]
