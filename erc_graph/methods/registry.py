"""The registry of methods of this package and of installed packages (entry point `erc_graph.methods`)."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from erc_graph.errors import ConfigError

if TYPE_CHECKING:
    from erc_graph.methods.base import Method

GROUP = "erc_graph.methods"


class Registry(Mapping[str, "type[Method]"]):
    """A mapping from method names to classes; the file of a method is imported on the first access.

    Args:
        homes: Method name → `module:Class`.
    """

    def __init__(self, homes: Mapping[str, str]) -> None:
        self.homes = dict(homes)

    @cached_property
    def offered(self) -> dict[str, EntryPoint]:
        """Return the methods of other installed packages, name → entry point; they cannot replace methods of this package."""
        found = {}
        for entry in entry_points(group=GROUP):
            if entry.name in self.homes or entry.name in found:
                logging.getLogger(__name__).warning(
                    "note: the method %s of the package %s is left out, because another method has this name", entry.name, _package(entry)
                )
            else:
                found[entry.name] = entry
        return found

    def __getitem__(self, name: str) -> type[Method]:
        if name in self.homes:
            module, _, kind = self.homes[name].partition(":")
            return getattr(importlib.import_module(module), kind)
        entry = self.offered[name]
        try:
            found = entry.load()
        except Exception as error:
            raise ConfigError(
                f"method {name}: {entry.value} of the package {_package(entry)} cannot be imported ({type(error).__name__}: {error})"
            ) from error
        refuse_other(found, f"method {name}: {entry.value} of the package {_package(entry)}")
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.homes or name in self.offered

    def __iter__(self) -> Iterator[str]:
        return iter(sorted([*self.homes, *self.offered]))

    def __len__(self) -> int:
        return len(self.homes) + len(self.offered)

    @property
    def classes(self) -> dict[str, str]:
        """Return class name → method name, without importing any class."""
        homes = {**{name: entry.value for name, entry in self.offered.items()}, **self.homes}
        return {home.partition(":")[2]: name for name, home in homes.items()}


def refuse_other(found: object, where: str) -> None:
    """Check that an object is the class of a method.

    Raises:
        ConfigError: the object is not a subclass of `Method`, or has no valid `Config`.
    """
    import dataclasses

    from erc_graph.methods.base import Method

    if not (isinstance(found, type) and issubclass(found, Method)):
        kind = "a class of another kind" if isinstance(found, type) else f"a value of type {type(found).__name__}"
        raise ConfigError(f"{where}: expected a subclass of erc_graph.methods.base.Method, found {kind}")
    config = getattr(found, "Config", None)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        other = "none" if config is None else f"one that is no dataclass: {getattr(config, '__name__', config)}"
        raise ConfigError(f"{where}: expected a dataclass `Config` with the options in the class; found {other}")
    required = [field.name for field in dataclasses.fields(config) if field.default is field.default_factory is dataclasses.MISSING]
    if required:
        raise ConfigError(f"{where}: Config.{required[0]}: expected a default for every option, found none")


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "?"
