"""Open an account on a local testnet, place an order, and check the proof of what became of it.

In one terminal `./kontor testnet up --flow none`, in another `.venv/bin/python examples/quickstart.py`;
its argument is the testnet's directory, if that is not the default.
"""

import sys
from pathlib import Path

from consensus.primitives.crypto import Ed25519Signer
from consensus.primitives.errors import LedgerError
from engine.commands import ListMarket, RegisterAsset
from node.client import BlockingClient, Rejected
from node.keys import new_seed


def list_market(venue: BlockingClient) -> None:
    """List BTC-USD unless it is listed. A lot is 0.0001 BTC; prices step by 100 USD."""
    if any(market.name == "BTC-USD" for market in venue.listing().markets):
        return
    btc = int(venue.command(RegisterAsset("BTC", 8, 0))["detail"])
    usd = int(venue.command(RegisterAsset("USD", 2, 0))["detail"])
    venue.command(ListMarket("BTC-USD", btc, usd, 10_000, 1, 10_000, 10_000_000, 0, 100, 200))


def main(testnet: Path) -> None:
    network = testnet / "network.toml"
    trader_key = Ed25519Signer(new_seed())

    # The venue's admin key lists markets, opens accounts and credits deposits.
    with BlockingClient(network, testnet / "admin.seed") as venue:
        list_market(venue)
        account = venue.open_account(trader_key.public_key)
        venue.deposit(account, "BTC", "1.5")
    print(f"account {account} has 1.5 BTC")

    with BlockingClient(network, trader_key, account) as client:
        # Returns once f+1 nodes attest it, and the path from the order's line to their signatures is checked.
        placed = client.place("BTC-USD", "sell", price="90000", qty="0.25")
        print(f"order {placed.client_order_id}: {placed.filled} BTC filled, {placed.open} BTC on the book")

        # Anybody who holds the network file can ask any node again, and check again.
        proof = client.receipt(placed.outcome.envelope_digest)
        print(
            f"block {proof.height} proves {proof.code.name}: {proof.accepted} of {proof.operations} accepted"
        )

        try:
            client.place("BTC-USD", "sell", price="90000", qty="1000")
        except Rejected as error:
            print(f"refused, and that is proven too: {error.code.name}")
        for balance in client.balances():
            print(f"{balance.asset}: {balance.available} available, {balance.held} in open orders")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else ".kontor/testnet"))
    except LedgerError as problem:  # no network file, no node that answers, a refusal: the message says which
        sys.exit(f"{problem}\n(does `./kontor testnet up --flow none` run, in this directory?)")
