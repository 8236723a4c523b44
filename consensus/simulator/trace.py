"""One line for a message, for people who read traces."""

from consensus.messages import (
    Ack,
    Attest,
    BatchPayload,
    Block,
    Chunk,
    Commit,
    CommitCert,
    Complain,
    Epochs,
    FetchBatches,
    FetchBlocks,
    FetchChunks,
    FetchEpochs,
    FetchManifest,
    Manifest,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
    batch_digest,
)
from consensus.proofs import CheckpointCert


def describe(message: Message) -> str:
    """Kind, view, seq and the first digits of whatever it names."""
    match message:
        case PrePrepare(view, block):
            return f"PrePrepare v={view} {_block(block)}"
        case Prepare(view, seq, name, replica) | Commit(view, seq, name, replica):
            return f"{type(message).__name__} v={view} n={seq} {_short(name)} by {replica}"
        case CommitCert(view, block):
            return f"CommitCert v={view} {_block(block)}"
        case Attest(seq, _, journal_root, state, replica):
            return f"{'Checkpoint' if state else 'Attest'} n={seq} root={_short(journal_root)} by {replica}"
        case CheckpointCert(seq):
            return f"CheckpointCert n={seq}"
        case Complain(view, replica):
            return f"Complain v={view} by {replica}"
        case ViewChange(view, _, prepared, _, replica):
            held = ", ".join(f"{c.proposal.block.seq}@{c.proposal.view}" for c in prepared)
            return f"ViewChange v={view} low={message.low} P=[{held}] by {replica}"
        case NewView(view, changes, proposals, replica):
            signers = [change.replica for change in changes]
            blocks = ", ".join(_block(proposal.block) for proposal in proposals)
            return f"NewView v={view} V={signers} O=[{blocks}] by {replica}"
        case Status(view, active, committed, stable):
            low = stable.seq if stable else 0
            return f"Status v={view}{'' if active else ' inactive'} committed={committed} stable={low}"
        case FetchBatches(digests):
            return f"FetchBatches {' '.join(_short(name) for name in digests)}"
        case BatchPayload(payload):
            return f"BatchPayload {_short(batch_digest(payload))}"
        case FetchBlocks(first, last):
            return f"FetchBlocks {first}..{last}"
        case Ack(items, replica):
            return f"Ack {len(items)} by {replica}"
        case FetchEpochs(first):
            return f"FetchEpochs {first}.."
        case Epochs(proofs):
            return f"Epochs {[proof.epoch.number for proof in proofs]}"
        case FetchManifest(seq) | Manifest(seq):
            return f"{type(message).__name__} n={seq}"
        case FetchChunks(seq, indexes):
            return f"FetchChunks n={seq} {list(indexes)}"
        case Chunk(seq, index):
            return f"Chunk n={seq} {index}"


def _block(block: Block) -> str:
    batches = " ".join(_short(name) for name in block.batches) or "null"
    return f"n={block.seq} {_short(block.digest)} ({batches})"


def _short(name: bytes) -> str:
    return name.hex()[:6]
