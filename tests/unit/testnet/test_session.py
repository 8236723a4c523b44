"""One launcher at a time runs a network."""

import pytest
import trio

from consensus.primitives.errors import StorageError
from node.storage import HomeLock
from testnet.session import open_network, run_nodes

IN_USE = r"in use by process \d+: stop that network first"


@pytest.mark.trio
async def test_a_network_that_another_launcher_runs_is_left_alone(tmp_path):
    homes = open_network(tmp_path / "net", 4)
    with HomeLock(homes.root), trio.fail_after(20), pytest.raises(StorageError, match=IN_USE):
        async with run_nodes(homes, lambda line: None):
            raise AssertionError("started beside another launcher")
    assert not [path for path in homes.root.rglob("*") if path.name == "console.log"]
