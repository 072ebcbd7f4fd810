"""Graph recipes: the rules for the edges of a conversation graph, as TOML files (`graphs/<name>.toml`) and as a frozen dataclass.

For example, these are the options of two edge rules::

    relation = "context"   scope = "within"   past = "all"   future = "all"     # complete graph within every stream
    relation = "cross"     scope = "across"   past = 0       future = 0         # same utterance, every ordered pair of streams
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

from erc_graph.data.files.toml import read_toml
from erc_graph.errors import ConfigError
from erc_graph.graphs.rules import EdgeRule, HyperedgeRule

__all__ = ["EdgeRule", "Example", "GraphRecipe", "HyperedgeRule", "list_recipes", "load_recipe"]

# A wheel carries the recipes inside the package; an editable install and a bare checkout have them beside it.
_PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (_PACKAGE / "_recipes" / "graphs", _PACKAGE.parent / "graphs")

_FORBID: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class Example:
    """A short conversation with the expected number of edges in its graph.

    Attributes:
        speakers: Speaker of every utterance.
        streams: Streams of the graph.
        absent: Stream → indices of the utterances without a node in this stream.
        edges: Relation → number of edges, summed over all streams and pairs of streams; an edge with multiplicity is counted once.
        hyperedges: Relation → number of hyperedges with at least one node.
    """

    speakers: Annotated[tuple[str, ...], Field(min_length=1)]
    streams: Annotated[tuple[str, ...], Field(min_length=1)]
    absent: dict[str, tuple[int, ...]] = field(default_factory=dict)
    edges: dict[str, int] = field(default_factory=dict)
    hyperedges: dict[str, int] = field(default_factory=dict)

    __pydantic_config__ = _FORBID


@dataclass(frozen=True, kw_only=True)
class GraphRecipe:
    """The rules for the edges of a graph. The rules apply to any conversation and any streams (modalities or pairs of modalities).

    Attributes:
        name: Name of the recipe; default: the name of the file without `.toml`.
        description: One sentence that describes the graph.
        source: Paper that defines the graph, with section or equation.
        edges: The rules for edges; a graph has the edges of all rules.
        hyperedges: The rules for hyperedges, if any (`[[hyperedge]]` in TOML).
        examples: Short conversations with the expected number of edges per relation (`[[example]]` in TOML).

    Raises:
        ConfigError: there is no rule, two rules have the same relation, or an example does not give exactly one number of edges per
            relation.
    """

    name: str
    description: str
    source: str
    edges: tuple[EdgeRule, ...] = ()
    hyperedges: Annotated[tuple[HyperedgeRule, ...], Field(validation_alias=AliasChoices("hyperedge", "hyperedges"))] = ()
    examples: Annotated[tuple[Example, ...], Field(alias="example")] = ()

    __pydantic_config__ = _FORBID

    def __post_init__(self) -> None:
        if not self.edges and not self.hyperedges:
            raise ConfigError(f"graph recipe {self.name!r}: edges: expected at least one rule for edges or hyperedges, found none")
        names = (*self.relations, *(rule.relation for rule in self.hyperedges))
        repeated = sorted(name for name, count in Counter(names).items() if count > 1)
        if repeated:
            raise ConfigError(
                f"graph recipe {self.name!r}: edges: expected a different name for every relation, found {repeated[0]!r} again; "
                "rename one of these relations"
            )
        for i, example in enumerate(self.examples):
            for what, counts, known in (
                ("edges", example.edges, self.relations),
                ("hyperedges", example.hyperedges, tuple(rule.relation for rule in self.hyperedges)),
            ):
                if set(counts) != set(known):
                    raise ConfigError(
                        f"graph recipe {self.name!r}: example[{i}].{what}: expected a number of {what} for each of the relations "
                        f"{', '.join(known) or 'none'}, found numbers for {', '.join(counts) or 'none'}"
                    )

    @property
    def relations(self) -> tuple[str, ...]:
        """Return the names of the relations of all edge rules, in order. A rule for speaker pairs has one relation per pair."""
        return tuple(name for rule in self.edges for name in rule.relations)

    @property
    def causal(self) -> bool:
        """Return `True` if no edge and no hyperedge sends messages from a later utterance to an earlier utterance."""
        return all(rule.future == 0 for rule in self.edges) and all(rule.over == "turn" for rule in self.hyperedges)

    @property
    def past(self) -> int | None:
        """Return the largest distance, in utterances, from a source node to a later target node; `None` if there is no fixed limit."""
        reaches = [rule.behind for rule in self.edges] + [0 if rule.over == "turn" else None for rule in self.hyperedges]
        return None if None in reaches else max(reach for reach in reaches if reach is not None)

    def past_only(self) -> GraphRecipe:
        """Return the recipe without edges from later utterances. A rule that only has such edges is removed.

        >>> load_recipe("speaker").past_only().relations
        ('same_past', 'other_past', 'cross')

        Raises:
            ConfigError: a hyperedge joins several utterances, or all rules would be removed.
        """
        for rule in self.hyperedges:
            if rule.over != "turn":
                raise ConfigError(
                    f"graph recipe {self.name!r}: hyperedge {rule.relation!r} joins all utterances of a {rule.over}, so the graph is not "
                    "causal; expected only edges, or hyperedges over one utterance; use another recipe"
                )
        rules = tuple(replace(rule, future=0) for rule in self.edges if rule.past != 0 or rule.self_loops)
        if not rules and not self.hyperedges:
            raise ConfigError(
                f"graph recipe {self.name!r}: expected a rule with edges from earlier utterances, found only edges from later utterances"
            )
        return replace(self, edges=rules, examples=())

    def with_scale(self, relation: str, scale: float) -> GraphRecipe:
        """Return the recipe with a new value of the option `scale`, the factor of the edge weights, in the rule of a given relation.

        >>> load_recipe("pairwise").with_scale("cross", 0.3).edges[1].scale
        0.3

        Raises:
            ConfigError: the recipe does not have the relation, or the value of `scale` is not allowed.
        """
        names = [rule.relation for rule in self.edges]
        if relation not in names:
            raise ConfigError(f"graph recipe {self.name!r}: unknown relation {relation!r}; known relations: {', '.join(names)}")
        return replace(self, edges=tuple(replace(rule, scale=scale) if rule.relation == relation else rule for rule in self.edges))


def _known() -> dict[str, Path]:
    """Return a mapping from the names of recipes to their TOML files, from the first folder that contains recipes."""
    for folder in FOLDERS:
        if files := sorted(folder.glob("*.toml")):
            return {path.stem: path for path in files}
    return {}


def list_recipes() -> tuple[str, ...]:
    """Return the names of the graph recipes that the package contains.

    >>> "pairwise" in list_recipes()
    True
    """
    return tuple(_known())


def load_recipe(name_or_path: str | Path | GraphRecipe) -> GraphRecipe:
    """Load a graph recipe by name or from a TOML file. A given `GraphRecipe` is returned unchanged.

    Args:
        name_or_path: A name such as `pairwise`, or a path: a `Path`, or a string that ends in `.toml`.

    Raises:
        ConfigError: the name is unknown, the file cannot be read, or it has unknown keys, wrong types or invalid values. The message lists
            every problem with its key, the expected value and the found value.

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
                f"graph recipe: unknown name {name_or_path!r}; known recipes: {listed}; for your own file, give a path that ends in .toml"
            )
        path = known[name_or_path]
        return _packaged(path, path.stat().st_mtime_ns)
    return _read(Path(name_or_path))


@lru_cache(maxsize=64)
def _packaged(path: Path, changed: int) -> GraphRecipe:
    """Return a recipe of the package. The recipe is loaded once, and again after a change of its file."""
    return _read(path)


@lru_cache(maxsize=1)
def _form() -> TypeAdapter[GraphRecipe]:
    return TypeAdapter(GraphRecipe)


def _read(path: Path) -> GraphRecipe:
    data = read_toml(path, what="graph recipe")
    try:
        # Strict JSON mode: no "3" for 3 and no 1 for true, while TOML's arrays may become tuples.
        return _form().validate_json(json.dumps({"name": path.stem, **data}, default=str), strict=True)
    except ValidationError as problems:
        lines = [_describe(error) for error in problems.errors(include_url=False)]
        raise ConfigError(f"graph recipe {path}: " + "; ".join(lines)) from None


def _describe(error: Any) -> str:
    """Format a validation error as `edges[0].past: expected …, found …`."""
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    if error["type"] == "unexpected_keyword_argument":
        return f"{where}: unknown key"
    if error["type"] in ("missing", "missing_argument"):
        return f"{where}: expected a value, found none"
    what = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if not isinstance(error["input"], (str, int, float)):
        return f"{where}: {what}" if where else what
    return f"{where}: {what}, found {error['input']!r}"
