"""Value ranges of options as annotations, such as `dropout: Share = 0.4` in a config that derives from `Checked`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, get_args, get_type_hints

from erc_graph.errors import expect


@dataclass(frozen=True)
class Range:
    """A value range of an option: a function `holds` that tests a value, and a description `words` for messages."""

    holds: Callable[[Any], bool]
    words: str


Share = Annotated[float, Range(lambda value: 0 <= value < 1, "a number in [0, 1)")]
Size = Annotated[int, Range(lambda value: value >= 1, "1 or more")]
Count = Annotated[int, Range(lambda value: value >= 0, "0 or more")]
Even = Annotated[int, Range(lambda value: value >= 2 and value % 2 == 0, "an even number of 2 or more (half of it for each direction)")]
Fraction = Annotated[float, Range(lambda value: 0 <= value <= 1, "a number from 0 to 1")]
Fractions = Annotated[dict[str, float], Range(lambda value: all(0 <= share <= 1 for share in value.values()), "numbers from 0 to 1")]
Positive = Annotated[float, Range(lambda value: value > 0, "a number above 0")]
Sizes = Annotated[list[int], Range(lambda value: bool(value) and min(value) >= 1, "one number of 1 or more for each layer")]
Widths = Annotated[dict[str, int], Range(lambda value: all(width >= 1 for width in value.values()), "widths of 1 or more")]
Weight = Annotated[float, Range(lambda value: value >= 0, "a number of 0 or more")]
Graph = Annotated[str, Range(lambda value: value != "none", "a recipe, which the method needs")]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Base class of method configs and of their nested configs; it checks the ranges of annotated fields.

    This class is a dataclass without fields, because the command line reads options only from classes whose base classes are all
    dataclasses.

    Attributes:
        where: Path of the options in messages, such as `pipeline`.

    Raises:
        ConfigError: an option is out of its range; the message has a line per option, with its path, its range, and the value found.
    """

    where: ClassVar[str] = "pipeline"

    def __post_init__(self) -> None:
        checks = {}
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            for kind in (hint, *get_args(hint)):  # a range, or a range and None
                for each in getattr(kind, "__metadata__", ()):
                    if isinstance(each, Range) and value is not None:
                        checks[name] = each.holds(value), each.words
        expect(self.where, self, **checks)


@dataclass(frozen=True, kw_only=True)
class Causal(Checked):
    """Options of a method that can be causal.

    Attributes:
        causal: Predict each utterance without reading later utterances.
    """

    causal: bool = False
