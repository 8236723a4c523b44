"""Strict typed reading of TOML tables into frozen dataclasses, and writing them with comments.

A settings class is a frozen dataclass whose fields are made by `setting(...)`: each has a default,
a range and a sentence of help. Unknown keys, wrong types and values out of range are refused, and
each error names the file, the key, the value seen and what to do.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any, TypeVar

from consensus.primitives.errors import ConfigError

T = TypeVar("T")
_TYPE_NAMES = {int: "a whole number", str: "a string", bool: "true or false", tuple: "a list of strings"}
Value = int | str | bool | tuple[str, ...]


def setting(default: Value, help: str, low: int | None = None, high: int | None = None) -> Any:
    """A dataclass field with default, help, and, for numbers, an inclusive range. A tuple of strings
    is a TOML list."""
    return field(default=default, metadata={"help": help, "low": low, "high": high})


def read_toml(path: Path, remedy: str) -> dict[str, Any]:
    """Parse the file at `path`. Raises `ConfigError`; `remedy` says how to get such a file."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist: {remedy}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {remedy}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML ({error}): correct that line") from error


def read_settings(cls: type[T], table: Any, source: str, section: str) -> T:
    """Make a `cls` from a TOML table; `source` and `section` stand in errors."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{source}: [{section}] must be a table")
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]  # a dataclass by contract
    refuse_unknown(table, known, source, section)
    values = {name: _check(known[name], value, source, section) for name, value in table.items()}
    return cls(**values)


def refuse_unknown(
    table: Mapping[str, Any], known: Mapping[str, Any], source: str, section: str = ""
) -> None:
    """Raise `ConfigError` on the first key that is not known, and list those that are."""
    for name in table:
        if name not in known:
            where = f"[{section}] " if section else ""
            allowed = ", ".join(sorted(known))
            raise ConfigError(f"{source}: {where}unknown key '{name}'; remove it or use one of: {allowed}")


def require(table: Mapping[str, Any], name: str, kind: type[T], source: str, section: str = "") -> T:
    """Return the value under `name`; it must be there and of type `kind`."""
    key = f"{section}.{name}" if section else name
    if name not in table:
        raise ConfigError(f"{source}: key '{key}' is missing; add it")
    value = table[name]
    if type(value) is not kind:
        wanted = _TYPE_NAMES.get(kind, kind.__name__)
        raise ConfigError(f"{source}: '{key}' is {value!r}; it must be {wanted}")
    return value


def render_settings(values: Any, section: str) -> str:
    """A commented TOML table of a settings object."""
    lines = [f"[{section}]"]
    for item in fields(values):
        lines.append(f"# {item.metadata['help']}")
        lines.append(f"{item.name} = {render_value(getattr(values, item.name))}")
    return "\n".join(lines) + "\n"


def render_value(value: Value) -> str:
    """TOML spelling of a setting's value."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(render_value, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    if any(ord(char) < 32 or ord(char) == 127 for char in escaped):
        raise ConfigError(f"{value!r} holds a control character and cannot stand in a config file")
    return f'"{escaped}"'


def _check(item: Field[Any], value: Any, source: str, section: str) -> Any:
    key = f"{section}.{item.name}"
    kind = type(item.default)
    if kind is tuple and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    if type(value) is not kind:
        raise ConfigError(f"{source}: '{key}' is {value!r}; it must be {_TYPE_NAMES[kind]}")
    low, high = item.metadata["low"], item.metadata["high"]
    if (low is not None and value < low) or (high is not None and value > high):
        raise ConfigError(f"{source}: '{key}' is {value}; it must be {_range(low, high)}")
    return value


def _range(low: int | None, high: int | None) -> str:
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"between {low} and {high}"
