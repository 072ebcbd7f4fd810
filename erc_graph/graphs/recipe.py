"""Graph recipes: which edges a conversation graph has, as data (`graphs/<name>.toml`) and as one frozen dataclass.

A recipe quantifies over streams (one state per turn: a modality, a fused pair), turns and speakers, and knows nothing of states:

    relation = "context"   scope = "within"   past = "all"   future = "all"     # complete graph inside every stream
    relation = "cross"     scope = "across"   past = 0       future = 0         # same utterance, every ordered pair of streams
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from erc_graph.data.files.toml import read_toml
from erc_graph.errors import ConfigError

# A wheel carries the recipes inside the package; an editable install and a bare checkout have them beside it.
_PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (_PACKAGE / "_recipes" / "graphs", _PACKAGE.parent / "graphs")


def _reach(value: Any) -> int | None:
    if value is None or value == "all":
        return None
    if type(value) is not int or not 0 <= value <= 10**9:
        raise ConfigError('expected a whole number of turns from 0, or "all"')
    return value


def _scale(value: Any) -> float:
    if type(value) not in (int, float) or not (math.isfinite(value) and value >= 0):
        raise ConfigError("expected a finite number from 0")
    return float(value)


def _relation(value: Any) -> str:
    # Relations become names of modules and of edge types in PyG and DGL: one plain word each.
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", value):
        raise ConfigError("expected a word of a-z, 0-9 and _ that starts with a letter")
    return value


Reach = Annotated[int | None, BeforeValidator(_reach)]
_FORBID: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class EdgeRule:
    """One relation of a recipe. An edge points from source to target; the source turn lies in `[target - past, target + future]`.

    Attributes:
        relation: Name of the relation, the middle of the edge type `(source stream, relation, target stream)`.
        scope: `within` one stream, or `across`: between two different streams, every ordered pair.
        past: How many turns before the target; `None` (`"all"` in TOML) for all of them.
        future: How many turns after the target; `None` for all.
        self_loops: Whether the target's own turn is a source: within a stream a self-loop, across the same utterance.
        speaker: `any`, or only sources by the `same` speaker as the target's, or only by an`other`.
        weight: `angular` similarity of the two states, or `unit`.
        scale: γ, a factor on the weight.

    Raises:
        ConfigError: an impossible relation name, reach or scale.
    """

    relation: Annotated[str, BeforeValidator(_relation)]
    scope: Literal["within", "across"]
    past: Reach
    future: Reach
    self_loops: bool = True
    speaker: Literal["any", "same", "other"] = "any"
    weight: Literal["angular", "unit"] = "angular"
    scale: Annotated[float, BeforeValidator(_scale)] = 1.0

    __pydantic_config__ = _FORBID

    def __post_init__(self) -> None:
        for name, check in (("relation", _relation), ("past", _reach), ("future", _reach), ("scale", _scale)):
            value = getattr(self, name)
            try:
                check(value)
            except ConfigError as problem:
                raise ConfigError(f"edge rule {self.relation!r}: {name}: {problem}, found {value!r}") from None


@dataclass(frozen=True, kw_only=True)
class Example:
    """A conversation small enough to count its edges by hand.

    Attributes:
        speakers: Speaker per utterance.
        streams: Streams of the graph.
        absent: Stream → turns at which it is missing.
        edges: Relation → number of edges, over all streams and pairs of streams.
    """

    speakers: Annotated[tuple[str, ...], Field(min_length=1)]
    streams: Annotated[tuple[str, ...], Field(min_length=1)]
    absent: dict[str, tuple[int, ...]] = field(default_factory=dict)
    edges: dict[str, int]

    __pydantic_config__ = _FORBID


@dataclass(frozen=True, kw_only=True)
class GraphRecipe:
    """A graph structure that can be laid over any conversation and any streams.

    Attributes:
        name: The file's name without `.toml`, unless the file says otherwise.
        description: One sentence.
        source: Paper and place that states it.
        edges: The relations; a graph has the edges of all of them.
        examples: Conversations with their number of edges per relation, counted by hand (`[[example]]` in TOML).

    Raises:
        ConfigError: no relation, a relation named twice, or an example that counts other relations.
    """

    name: str
    description: str
    source: str
    edges: tuple[EdgeRule, ...]
    examples: Annotated[tuple[Example, ...], Field(alias="example")] = ()

    __pydantic_config__ = _FORBID

    def __post_init__(self) -> None:
        if not self.edges:
            raise ConfigError(f"graph recipe {self.name!r}: edges: expected at least one rule, found none")
        repeated = sorted({name for name in self.relations if self.relations.count(name) > 1})
        if repeated:
            raise ConfigError(f"graph recipe {self.name!r}: edges: expected every relation once, found {repeated[0]!r} again; rename one")
        for i, example in enumerate(self.examples):
            if set(example.edges) != set(self.relations):
                raise ConfigError(
                    f"graph recipe {self.name!r}: example[{i}].edges: expected a count for each of {', '.join(self.relations)}, "
                    f"found {', '.join(example.edges) or 'none'}"
                )

    @property
    def relations(self) -> tuple[str, ...]:
        """Names of the relations, in order."""
        return tuple(rule.relation for rule in self.edges)

    @property
    def causal(self) -> bool:
        """Whether no edge comes from a later turn."""
        return all(rule.future == 0 for rule in self.edges)

    @property
    def past(self) -> int | None:
        """How many turns back an edge reaches at most; `None`: all."""
        reaches = [rule.past for rule in self.edges]
        return None if None in reaches else max(reach for reach in reaches if reach is not None)

    def with_scale(self, relation: str, scale: float) -> GraphRecipe:
        """The same recipe with another γ for one relation.

        >>> load_recipe("pairwise").with_scale("cross", 0.3).edges[1].scale
        0.3

        Raises:
            ConfigError: the recipe has no such relation, or the scale is impossible.
        """
        if relation not in self.relations:
            raise ConfigError(f"graph recipe {self.name!r}: no relation {relation!r}; it has {', '.join(self.relations)}")
        return replace(self, edges=tuple(replace(rule, scale=scale) if rule.relation == relation else rule for rule in self.edges))


def _known() -> dict[str, Path]:
    """Recipe name → file, of the first folder that has any."""
    for folder in FOLDERS:
        if files := sorted(folder.glob("*.toml")):
            return {path.stem: path for path in files}
    return {}


def list_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the package.

    >>> "pairwise" in list_recipes()
    True
    """
    return tuple(_known())


def load_recipe(name_or_path: str | Path | GraphRecipe) -> GraphRecipe:
    """A recipe by name, or from a TOML file of one's own; a recipe is handed back as it is.

    Args:
        name_or_path: `pairwise`, or a path (a `Path`, or text that ends in `.toml`).

    Raises:
        ConfigError: unknown name, unreadable file, or a file with unknown keys, wrong types or impossible values: all of
            them in one message, each with its key, what was expected and what was found.

    >>> load_recipe("window").relations
    ('context', 'cross')
    """
    if isinstance(name_or_path, GraphRecipe):
        return name_or_path
    if isinstance(name_or_path, str) and not name_or_path.endswith(".toml"):
        known = _known()
        if name_or_path not in known:
            listed = ", ".join(known) or "none"
            raise ConfigError(
                f"graph recipe: unknown {name_or_path!r}; known: {listed}; for a file of your own give its path, ending in .toml"
            )
        path = known[name_or_path]
    else:
        path = Path(name_or_path)
    data = read_toml(path, what="graph recipe")
    try:
        # Strict JSON mode: no "3" for 3 and no 1 for true, while TOML's arrays may become tuples.
        return TypeAdapter(GraphRecipe).validate_json(json.dumps({"name": path.stem, **data}, default=str), strict=True)
    except ValidationError as problems:
        lines = [_describe(error) for error in problems.errors(include_url=False)]
        raise ConfigError(f"graph recipe {path}: " + "; ".join(lines)) from None


def _describe(error: Any) -> str:
    """One problem as `edges[0].past: expected …, found …`."""
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    if error["type"] == "unexpected_keyword_argument":
        return f"{where}: unknown key"
    if error["type"] in ("missing", "missing_argument"):
        return f"{where}: expected a value, found none"
    what = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if not isinstance(error["input"], (str, int, float)):
        return f"{where}: {what}" if where else what
    return f"{where}: {what}, found {error['input']!r}"
