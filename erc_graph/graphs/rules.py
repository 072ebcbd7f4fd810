"""The rules of a graph recipe: `EdgeRule` says which nodes send messages to which nodes, and `HyperedgeRule` which share a hyperedge.

A rule depends on streams, utterances and speakers, but not on node states. A stream is a modality or a fused pair of modalities; it has one
state per utterance.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from erc_graph.errors import ConfigError

HYPEREDGE = "hyperedge"
"""Node type of hyperedges; no stream may have this name."""


def _reach(value: Any) -> int | str | None:
    if value is None or value == "all":
        return None
    if isinstance(value, str) and re.fullmatch(r"own:[1-9][0-9]{0,8}", value):
        return value
    if type(value) is not int or not 0 <= value <= 10**9:
        raise ConfigError(
            'expected a whole number of utterances from 0, "all", or "own:k" (up to the k-th utterance of the speaker, k from 1)'
        )
    return value


def _scale(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1e6:
        raise ConfigError("expected a number from 0 to 1e6")
    return float(value)


def _whole(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 10**4:
        raise ConfigError("expected a whole number from 1 to 10000")
    return value


def _pairs(value: Any) -> int:
    # A rule for pairs has a relation for every ordered pair, and an operator weights for each.
    if type(value) is not int or not 1 <= value <= 16:
        raise ConfigError("expected a whole number of speakers from 1 to 16")
    return value


def _one_of(*words: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in words:
            raise ConfigError(f"expected one of {', '.join(words)}")

    return check


def _relation(value: Any) -> str:
    # Relations become names of modules and of edge types in PyG and DGL: one plain word each.
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", value):
        raise ConfigError("expected a name of the characters a-z, 0-9 and _ that starts with a letter")
    return value


def _names(value: Any) -> None:
    if value is not None and not (isinstance(value, tuple) and value and all(isinstance(name, str) for name in value)):
        raise ConfigError('expected a tuple of names of modalities, such as ("text",), or None for all modalities')


Reach = Annotated[int | str | None, BeforeValidator(_reach)]
Streams = Annotated[tuple[str, ...], Field(min_length=1)] | None
_FORBID: dict[str, Any] = {"extra": "forbid"}


def _check(what: str, rule: Any, **checks: Callable[[Any], Any]) -> None:
    """Check the options of a rule that was created in Python. For rules from files, pydantic has already checked the options."""
    for name, check in checks.items():
        value = getattr(rule, name)
        try:
            check(value)
        except ConfigError as problem:
            raise ConfigError(f"{what} {rule.relation!r}: {name}: {problem}, found {value!r}") from None


@dataclass(frozen=True, kw_only=True)
class EdgeRule:
    """A rule for edges. An edge points from a source to a target; the index of its source is in `[target - past, target + future]`.

    Attributes:
        relation: Name of the relation, the middle of the edge type `(source stream, relation, target stream)`.
        scope: `within` one stream, or `across`: between every ordered pair of two different streams.
        past: Number of utterances before the target that are sources; `None` (`"all"` in TOML): all. `"own:k"`: all utterances since the
            k-th last utterance of the target's speaker, or all earlier utterances if this speaker has fewer than k.
        future: Number of utterances after the target that are sources; `None` (`"all"` in TOML): all. `"own:k"`: all utterances up to the
            k-th next utterance of the target's speaker, or all later utterances if this speaker has fewer than k.
        self_loops: Whether the target's own utterance is a source. Within a stream, this edge is a self-loop; across streams, it joins two
            nodes of the same utterance.
        speaker: Speaker of the sources: `any`: all speakers; `same`: the speaker of the target; `other`: another speaker. `pair`: all
            speakers, with one relation per ordered pair of speakers, named `<relation>_<source's speaker>_<target's speaker>`.
        pairs: With `speaker = "pair"`, the number of distinct speaker indices, which follow the order of first appearance. All later
            speakers have the last index.
        weight: Edge weight. `angular`: the similarity of the two node states; `unit`: one; `learned`: computed by the graph operator.
        scale: Factor γ by which the weight is multiplied.
        count: `turns`: `past` and `future` count all utterances. `own`: `past` and `future` only count utterances of the target's speaker,
            and edges only join utterances of this speaker.
        first_turn: `speaks` or `mute`. With `mute`, the first utterance of a speaker is not a source of this rule.
        source: Names of the source streams; default: all.
        target: Names of the target streams; default: all.
        times: Multiplicity: every edge is counted `times` times.

    Raises:
        ConfigError: the value of an option of the rule is not allowed, or two options contradict each other.
    """

    relation: Annotated[str, BeforeValidator(_relation)]
    scope: Literal["within", "across"]
    past: Reach
    future: Reach
    self_loops: bool = True
    speaker: Literal["any", "same", "other", "pair"] = "any"
    pairs: Annotated[int, BeforeValidator(_pairs)] = 2
    weight: Literal["angular", "unit", "learned"] = "angular"
    scale: Annotated[float, BeforeValidator(_scale)] = 1.0
    count: Literal["turns", "own"] = "turns"
    first_turn: Literal["speaks", "mute"] = "speaks"
    source: Streams = None
    target: Streams = None
    times: Annotated[int, BeforeValidator(_whole)] = 1

    __pydantic_config__ = _FORBID

    def __post_init__(self) -> None:
        _check("edge rule", self, relation=_relation, past=_reach, future=_reach, scale=_scale, pairs=_pairs, times=_whole)
        _check("edge rule", self, source=_names, target=_names)
        _check(
            "edge rule",
            self,
            scope=_one_of("within", "across"),
            speaker=_one_of("any", "same", "other", "pair"),
            weight=_one_of("angular", "unit", "learned"),
            count=_one_of("turns", "own"),
            first_turn=_one_of("speaks", "mute"),
        )
        here = f"edge rule {self.relation!r}"
        if self.count == "own" and self.speaker != "same":
            raise ConfigError(f'{here}: count = "own" joins utterances of one speaker: expected speaker = "same", found {self.speaker!r}')
        for name, reach in (("past", self.past), ("future", self.future)):
            if self.count == "own" and isinstance(reach, str):
                raise ConfigError(f'{here}: {name}: with count = "own" expected a whole number or "all", found {reach!r}')
        if self.pairs != 2 and self.speaker != "pair":
            raise ConfigError(f'{here}: pairs = {self.pairs} is allowed only with speaker = "pair", found {self.speaker!r}')
        if self.source is not None and self.target is not None and not self.joined(tuple({*self.source, *self.target})):
            found = f"from {', '.join(self.source)} to {', '.join(self.target)}"
            raise ConfigError(f"{here}: source and target: expected modalities that edges of scope = {self.scope!r} join, found {found}")

    @property
    def relations(self) -> tuple[str, ...]:
        """Return the names of the relations. There is one, or one per ordered pair of speakers if the option `speaker` is `pair`."""
        if self.speaker != "pair":
            return (self.relation,)
        return tuple(f"{self.relation}_{s}_{t}" for s in range(self.pairs) for t in range(self.pairs))

    @property
    def behind(self) -> int | None:
        """Return the largest distance, in utterances, from an earlier source to its target; `None` if the distance has no fixed limit.

        If the rule ignores the first utterance of every speaker (`mute`), the result is `None`: to find these utterances, all earlier
        utterances must be known.
        """
        return None if self.first_turn == "mute" else self._turns(self.past)

    @property
    def ahead(self) -> int | None:
        """Return the largest distance, in utterances, from a target to a later source; `None` if the distance has no fixed limit."""
        return self._turns(self.future)

    def _turns(self, reach: int | str | None) -> int | None:
        return reach if isinstance(reach, int) and (self.count == "turns" or not reach) else None

    @property
    def windowed(self) -> bool:
        """Return whether the rule only uses basic options, such as windows counted in utterances, all streams, and no learned weights."""
        plain = self.count == "turns" and self.first_turn == "speaks" and not {type(self.past), type(self.future)} & {str}
        alike = self.speaker != "pair" and self.weight != "learned" and self.times == 1
        return plain and alike and self.source is None and self.target is None

    def joined(self, streams: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return all pairs of a source stream and a target stream, among the given streams, that the rule joins."""
        return [
            (m, n)
            for m in streams
            for n in streams
            if (m == n) == (self.scope == "within")
            and (self.source is None or m in self.source)
            and (self.target is None or n in self.target)
        ]


@dataclass(frozen=True, kw_only=True)
class HyperedgeRule:
    """A rule for hyperedges: sets of nodes that exchange the mean of their states.

    Attributes:
        relation: Name of the relation.
        over: `stream`: one hyperedge per dialogue and stream, with all utterances. `turn`: one hyperedge per utterance, with all streams.
            `speaker`: one hyperedge per dialogue and speaker, with all utterances and streams of the speaker.

    Raises:
        ConfigError: the name of the relation is not allowed.
    """

    relation: Annotated[str, BeforeValidator(_relation)]
    over: Literal["stream", "turn", "speaker"]

    __pydantic_config__ = _FORBID

    def __post_init__(self) -> None:
        _check("hyperedge rule", self, relation=_relation)
