"""A run as one line of text, and back: its seed and every option that is not as a calm run has it.

    1,seed=7,n=4,batches=20,network.loss_rate=0.25,faults.crash_gap_us=300000,strategies=twins+mutate

The line says all faults by itself, so that it goes on meaning the same when seeds come to draw other
options. The first field is the format's version. Defaults are part of the format: whoever changes
one raises the version.
"""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from consensus.primitives.errors import ConfigError
from consensus.simulator.options import NODES_MAX, NODES_MIN, STRATEGIES, SimOptions

VERSION = "1"
TEXT_MAX = 4096
NUMBER_MAX = 3_600_000_000  # an hour in µs; bounds what a line can make us run
BATCHES_MAX = 10_000
DOWN_TO_ONE = (
    "batches",
    "fault_phase_us",
    "window",
    "checkpoint_interval",
    "in_flight_max",
    "block_orders_max",
    "stash_max",
    "batches_max",
    "catch_up_blocks",
    "transfer_gap",
    "request_timeout_us",
    "view_timeout_us",
    "network.link_capacity",
)


@dataclass(frozen=True)
class Plan:
    """What a run depends on, besides the code."""

    seed: int
    options: SimOptions


def to_text(plan: Plan) -> str:
    """The line that `from_text` reads."""
    parts = [VERSION, f"seed={plan.seed}", f"n={plan.options.n}"]
    parts += _differences(plan.options, SimOptions(n=plan.options.n), "")
    return ",".join(parts)


def _differences(value: Any, default: Any, prefix: str) -> list[str]:
    parts = []
    for field in fields(value):
        mine, theirs = getattr(value, field.name), getattr(default, field.name)
        if is_dataclass(mine):
            parts += _differences(mine, theirs, f"{field.name}.")
        elif mine != theirs:
            parts.append(f"{prefix}{field.name}={_show(mine)}")
    return parts


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(value)
    return str(int(value)) if isinstance(value, bool) else repr(value)


def from_text(text: str) -> Plan:
    """Read a line; raise `ConfigError` that names what is wrong with it."""
    if len(text) > TEXT_MAX:
        raise ConfigError(f"the replay line has {len(text)} characters; at most {TEXT_MAX} make sense")
    version, *pairs = text.strip().split(",")
    if version != VERSION:
        raise ConfigError(f"the replay line has version {version!r}; this program reads {VERSION!r}")
    seed, options = None, SimOptions()
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"{pair!r} in the replay line is no NAME=VALUE")
        if name == "seed":
            seed = _read_number(name, value)
        else:
            options = _with(options, name, value)
    if seed is None:
        raise ConfigError("the replay line names no seed: add seed=NUMBER")
    check_options(options)
    return Plan(seed, options)


def _with(options: SimOptions, name: str, value: str) -> SimOptions:
    section, dot, field = name.partition(".")
    if not dot:
        return replace(options, **{name: _read(options, name, name, value)})
    part: Any = getattr(options, section, None)
    if not is_dataclass(part) or isinstance(part, type):
        raise ConfigError(f"the replay line has an option {name!r} that this program does not know")
    changed: Any = replace(part, **{field: _read(part, field, name, value)})
    return replace(options, **{section: changed})


def _read(owner: Any, field: str, name: str, value: str) -> Any:
    before = getattr(owner, field, None) if field in owner.__dataclass_fields__ else None
    match before:
        case bool():
            return _read_number(name, value, most=1) == 1
        case int():
            return _read_number(name, value, least=1 if name in DOWN_TO_ONE else 0)
        case float():
            return _read_rate(name, value)
        case tuple():
            return tuple(value.split("+")) if value else ()
        case _:
            raise ConfigError(f"the replay line has an option {name!r} that this program does not know")


def _read_number(name: str, value: str, least: int = 0, most: int = NUMBER_MAX) -> int:
    if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
        raise ConfigError(f"{name}={value[:40]} in the replay line: choose a number from {least} to {most}")
    return int(value)


def _read_rate(name: str, value: str) -> float:
    try:
        rate = float(value)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise ConfigError(f"{name}={value[:40]} in the replay line: choose a rate from 0 to 1")
    return rate


def check_options(options: SimOptions) -> None:
    """Raise `ConfigError` where options contradict each other."""
    if not NODES_MIN <= options.n <= NODES_MAX:
        raise ConfigError(f"n={options.n}: choose between {NODES_MIN} and {NODES_MAX} replicas")
    unknown = [name for name in options.strategies if name not in STRATEGIES]
    if unknown:
        raise ConfigError(f"strategies={unknown[0]}: choose among {', '.join(STRATEGIES)}")
    faulty, most = len(options.strategies) + options.disk.bad_disks, (options.n - 1) // 3
    if faulty > most:
        raise ConfigError(f"{faulty} liars and bad disks; {options.n} replicas bear {most}")
    if options.window < 2 * options.checkpoint_interval:
        raise ConfigError(f"window={options.window}: at least twice checkpoint_interval")
    if options.leave_dead > options.n or options.batches > BATCHES_MAX:
        raise ConfigError(f"leave_dead is at most n, batches at most {BATCHES_MAX}")
