"""Balances that are proved: by a page of the state at a checkpoint which a quorum signed."""

import trio

from consensus.light import PAST, Balance, Unproven
from consensus.primitives.errors import InputError, ProtocolError
from node.client.epochs import Follower
from node.client.errors import LinkLost, NotConnected, NotFound, Refused
from node.client.link import Link
from node.client.nodes import Nodes
from node.receipts import RECEIPTS
from node.services import BalanceAnswer
from node.wire import Refused as Door

ATTEMPT_SECONDS = 3.0  # then another node is asked


async def prove_balance(
    nodes: Nodes, follower: Follower, account: int, asset: int, since: int, timeout_s: float
) -> tuple[int, Balance]:
    """(height of a checkpoint, what `account` had of `asset` there); nodes whose checkpoint lies before
    `since`, or is of an epoch that is over, are passed over.

    Raises `NotFound` once f+1 of the newest validators show such a checkpoint and say that the account has no
    balance there, `NotConnected` if nothing is proved within `timeout_s`.
    """
    follower.freshen()
    missing: dict[int, int] = {}
    last = "no node was tried"
    with trio.move_on_after(timeout_s):
        rotation = nodes.rotation()
        while len(missing) < follower.weak_quorum:
            node_id, epoch = await rotation.next(), follower.light.epoch
            try:
                with trio.fail_after(ATTEMPT_SECONDS):
                    link = await nodes.link(node_id)
                    height, balance = await _ask(follower, link, account, asset)
            except ProtocolError as error:
                last = f"node {node_id} gave a bad proof: {error}"
                if not (isinstance(error, Unproven) and error.code == PAST):
                    nodes.distrust(node_id, last)
                continue
            except trio.TooSlowError:
                last = f"node {node_id} did not answer within {ATTEMPT_SECONDS} s"
                continue
            except (LinkLost, InputError) as error:
                last = f"node {node_id}: {error}"
                if isinstance(error, InputError) and error.code == Door.BAD_PARAMS:
                    raise Refused(error.code, error.message) from error
                continue
            if follower.light.epoch != epoch:
                missing.clear()  # who denied it may be no validator any more
            if height < since:
                last = f"node {node_id} proves block {height}, before {since}"
            elif balance is not None:
                nodes.served(node_id)
                return height, balance
            elif node_id in follower.light.replicas:
                missing[node_id] = height
        raise NotFound(
            f"{len(missing)} nodes say that account {account} had no balance of asset {asset}"
            f" at block {min(missing.values())}"
        )
    raise NotConnected(f"no balance was proved within {timeout_s} s: {last}")


async def _ask(follower: Follower, link: Link, account: int, asset: int) -> tuple[int, Balance | None]:
    raw = await link.call("balance_proof", [account, asset])
    answer = RECEIPTS.from_fields(BalanceAnswer, raw)
    await follower.wait_fresh()
    try:
        return _verify(follower, answer, account, asset)
    except Unproven:
        # Other validators may have followed those we know: whoever gave the proof can prove that, too.
        if not await follower.follow(link):
            raise
    return _verify(follower, answer, account, asset)


def _verify(
    follower: Follower, answer: BalanceAnswer, account: int, asset: int
) -> tuple[int, Balance | None]:
    follower.light.verify_present(answer.cert)
    if answer.page is None:
        return answer.cert.seq, None
    return answer.cert.seq, follower.light.read_balance(answer.cert, answer.page, account, asset)
