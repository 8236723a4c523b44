"""Where a node can die while a state is installed, and a node that is killed there.

`python -P -m tests.helpers.dying_node POINT COMMAND… start --home HOME` runs `kontor start` as the launcher
does, whose command follows, and ends it by SIGKILL at the point: no handler runs, nothing is flushed.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from node import runtime
from node.history import History
from node.ledger import Ledger
from node.state_sync import swap
from node.state_sync.staging import Staging

# The owner and name of a function, and whether it still runs.
CRASHES: dict[str, tuple[Any, str, bool]] = {
    "while chunks are staged": (Staging, "keep", True),
    "when the state is whole": (Staging, "finish", True),
    "before the deciding transaction": (Ledger, "commit", False),
    "after the deciding transaction": (Ledger, "commit", True),
    "before the directories are swapped": (runtime, "swap_directories", False),
    "between the two renames": (swap.os, "rename", True),
    "after the directories are swapped": (swap, "sync_directory", True),
    "before the history begins anew": (History, "begin", False),
    "before the swap is noted as done": (Ledger, "finish_swap", False),
    "after the swap is noted as done": (Ledger, "finish_swap", True),
}


def make_dying(point: str, die: Callable[[], None]) -> tuple[Any, str, Callable[..., object]]:
    """What to put in the place of which function, so that `die` is called once, at the point."""
    owner, name, after = CRASHES[point]
    original, due = getattr(owner, name), [True]

    def dying(*args: Any, **values: Any) -> object:
        is_swap = name != "commit" or getattr(args[1], "swap", 0)
        if not due or not is_swap:
            return original(*args, **values)
        due.clear()
        result = original(*args, **values) if after else None
        die()
        return result

    return owner, name, dying


def main(point: str, command: list[str]) -> int:
    """Run the node that `command`, the launcher's, would run."""
    from ops import cli

    setattr(*make_dying(point, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    return cli.main(command[command.index("start") :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
