"""`kontor status`: a table that can be read in 80 columns."""

from rich.console import Console

from node.services import TransferStatus
from node.views import StatusView
from ops.status import WIDE, describe_transfer, describe_wedges, status_table


def view(replica: int, **changes) -> StatusView:
    fields = {
        "replica": replica,
        "view": 3,
        "committed": 123_460,
        "executed": 123_456,
        "proven": 123_455,
        "time_ms": 0,
        "journal_root": b"\xab" * 32,
        "state_root_height": 123_392,
        "state_root": b"\xcd" * 32,
        "peers_connected": 3,
        "halted": "",
        "orders": 3_789_123,
        "fills": 1_234_567,
        "rejected": 0,
        "view_changes": 0,
    }
    return StatusView(**{**fields, **changes})


def render(answers) -> list[str]:
    console = Console(width=WIDE)
    with console.capture() as capture:
        console.print(status_table("local", answers))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_millions_of_orders_fit_80_columns_and_nothing_is_cut():
    lines = render({0: view(0), 1: "no answer"})
    assert max(map(len, lines)) <= 80
    words = lines[2].split()
    assert words[:6] == ["0", "0.3", "123,456", "123,455", "3,789,123", "1,234,567"]
    assert words[6:] == ["abababab", "cdcdcdcd", "@", "123,392", "yes"]
    assert lines[3].split() == ["1", "silent"]


def test_figures_too_wide_for_80_columns_are_still_whole():
    assert "9,000,000,000,000" in render({0: view(0, orders=9_000_000_000_000, fills=8_000_000_000_000)})[2]


def test_roots_not_known_yet_are_a_dash_and_a_halt_is_shown():
    words = render({0: view(0, state_root=b"", state_root_height=0, journal_root=b"", halted="disk")})[2]
    assert words.split()[-3:] == ["–", "–", "halted"]


def test_a_node_that_fetches_its_state_says_how_far_it_is():
    transfer = TransferStatus(4096, 600, 200, 100_000_000, 50_000_000)
    lines = render({0: view(0, transfer=transfer)})
    assert lines[2].split()[-1] == "syncs" and max(map(len, lines)) <= 80
    text = describe_transfer(transfer)
    assert text == "height 4,096, 200 of 600 chunks, 100 MB at 50.0 MB/s, about 4 s left"
    assert "not known" in describe_transfer(TransferStatus(4096, 0, 0, 0, 0))
    assert "offered" in describe_transfer(TransferStatus(0, 0, 0, 0, 0))
    assert describe_transfer(TransferStatus(8, 6, 0, 0, 0)) == "height 8, 0 of 6 chunks"


def test_a_wedge_is_named_with_the_setting_that_leads_on():
    answers = {0: view(0, wedged=True, boundary=4096), 1: "no answer", 2: view(2, wedged=True, boundary=4096)}
    (line,) = describe_wedges(answers)
    assert line.startswith("nodes 0, 2: ") and "block 4,096" in line and "resume_after = 4096" in line
    assert describe_wedges({0: view(0, boundary=4096)}) == []
