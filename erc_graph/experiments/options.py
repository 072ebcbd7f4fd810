"""A command-line parser whose options are the fields of dataclasses, with errors of one line."""

from __future__ import annotations

import re
from argparse import SUPPRESS
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Any, NoReturn

import tomli_w
from jsonargparse import ArgumentParser, set_dumper

from erc_graph.data.files.toml import read_toml
from erc_graph.data.printable import nearest_option, one_line

_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list", "dict": "a table", "str": "a text"}
_LIST = re.compile(r"(typing\.(Optional|Union)\[)?list\[str\]")


class OptionParser(ArgumentParser):
    """The parser of jsonargparse, extended by list values such as `--modalities text,audio`, and by option names with hyphens.

    Args:
        unwritten: Options that `--print_config` leaves out.
    """

    def __init__(self, *args: Any, unwritten: Collection[str] = (), **named: Any) -> None:
        super().__init__(*args, parser_mode="toml", allow_abbrev=False, **named)
        set_dumper("toml", lambda values: tomli_w.dumps(_without_none(values, unwritten)))

    def format_help(self, *formatter: Any) -> str:
        """Return the help page; options are written with hyphens, such as `--fine-tune` for the field `fine_tune`."""
        return re.sub(r"(?<![\w.])--[a-z]+(?:_[a-z]+)+(?![\w.])", lambda found: found[0].replace("_", "-"), super().format_help(*formatter))

    def parse_args(self, args: Any = None, *others: Any, **named: Any) -> Any:
        """Parse arguments.

        Raises:
            ConfigError: a file of `--config` cannot be read.
        """
        if args is not None:
            args = list(self._lists([self._known(argument) for argument in args]))
            for option, value in _pairs(args):
                if option == "--config":
                    read_toml(value)
        return super().parse_args(args, *others, **named)

    def add_class_arguments(self, *args: Any, **named: Any) -> list[str]:
        """Add the fields of a dataclass as options.

        jsonargparse also adds an option for a file with all fields. This option is hidden from the help page.
        """
        added: list[str] = super().add_class_arguments(*args, **named)
        for action in self._actions:
            if type(action).__name__ == "_ActionConfigLoad":
                action.help = SUPPRESS
        return added

    def _known(self, argument: str) -> str:
        """Return an argument with underscores in the option's name, such as `--fine_tune`, if the parser has this option."""
        name, equals, value = argument.partition("=")
        inside = f"--{name[2:].replace('-', '_')}"
        return f"{inside}{equals}{value}" if name not in self._option_string_actions and inside in self._option_string_actions else argument

    def _lists(self, args: list[str]) -> Iterator[str]:
        """Yield the arguments, with `text,audio` replaced by `["text", "audio"]` for options that expect a list."""
        names = {f"--{action.dest}" for action in self._actions if _LIST.match(str(getattr(action, "_typehint", "")))}
        before = ""
        for argument in args:
            option, equals, value = argument.partition("=")
            if option in names and equals:
                yield f"{option}={_as_list(value)}"
            else:
                yield _as_list(argument) if before in names and not argument.startswith("--") else argument
            before = argument

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print an error on standard error and end with exit code 2."""
        near = nearest_option(message, self._option_string_actions)
        self.exit(2, f"error: {one_line(_sentence(message), 400)}{near}; see {self.prog} --help\n")
        raise SystemExit(2)  # `exit` does not come back


def _without_none(values: Any, unwritten: Collection[str]) -> Any:
    """Return the values without `None`, which TOML does not have, and without the keys `unwritten`."""
    if isinstance(values, dict):
        return {key: _without_none(value, unwritten) for key, value in values.items() if value is not None and key not in unwritten}
    return list(values) if isinstance(values, tuple) else values


def _pairs(args: list[str]) -> Iterator[tuple[str, str]]:
    """Yield options with their values, for both spellings `--config FILE` and `--config=FILE`."""
    for first, second in pairwise([*args, ""]):
        option, equals, value = first.partition("=")
        if equals or second:
            yield option, value if equals else second


def _as_list(value: str) -> str:
    if value.lstrip().startswith("[") or value in ("null", "None"):
        return value
    return "[" + ", ".join(f'"{name.strip()}"' for name in value.split(",") if name.strip()) + "]"


def _sentence(message: str) -> str:
    """Convert an error message of jsonargparse to the style of this package.

    >>> _sentence('Parser key "seeds":\\n  Expected a <class \\'int\\'>. Got value: many')
    "--seeds: expected a whole number, found 'many'"
    """
    key = re.match(r'Parser key "(.+?)":', message)
    if key is None:
        return message
    if file := re.search(r"Unable to load config '(.*)'", message):
        return f"--{key[1]}: expected a TOML file, or one of its fields (--{key[1]}.FIELD), found {file[1]!r}"
    kinds = re.findall(r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.*?)\])", message)
    found = re.findall(r"(?:Got|Given) value: (.*)", message)
    words = [_WORDS.get(kind, kind) if kind else f"one of {choices.replace(chr(39), '')}" for kind, choices in kinds if kind != "NoneType"]
    return f"--{key[1]}: expected {' or '.join(dict.fromkeys(words))}, found {found[-1]!r}" if words and found else message
