"""The configuration of a leaderboard, stored in its folder as `config.json`, and checked when the file is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from erc_graph.errors import ConfigError
from erc_graph.experiments.leaderboard.board_rules import Rules, rules_from
from erc_graph.experiments.leaderboard.trials import CONFIG
from erc_graph.experiments.settings import checked, in_words, read_object
from erc_graph.methods.own_file import short_name

COMMAND = "leaderboard"


class Begun(BaseModel):
    """The configuration with which a leaderboard was started.

    Attributes:
        data: Name of a corpus → its path.
        methods: Names of methods; for a user's own method, its file and class.
        rules: Rules of the leaderboard, as a dictionary that `rules_from` can read.
        experiments: Corpus → name of a row of the leaderboard → settings of the method in this row.
        left_out: Corpus → name of a row of the leaderboard → reason why the row is left out.
        own_sha256: File and class of a user's own method → SHA-256 of the file.
        data_sha256: Corpus → SHA-256 of its data.
    """

    data: dict[str, str] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    rules: dict[str, Any]
    experiments: dict[str, dict[str, dict[str, Any]]]
    left_out: dict[str, dict[str, str]]
    own_sha256: dict[str, str]
    data_sha256: dict[str, str]

    @property
    def held(self) -> Rules:
        """Return the rules of the leaderboard.

        Raises:
            ConfigError: `rules` has unknown keys or invalid values.
        """
        return rules_from(self.rules, "rules")


def read_begun(folder: Path) -> Begun:
    """Read the configuration of the leaderboard in a folder.

    Raises:
        ConfigError: the configuration is damaged, or is the configuration of an experiment.
    """
    try:
        values = read_object(folder / CONFIG)
        if values.get("command") in ("run", "table"):
            raise ValueError("the settings of an experiment, which `erc-graph experiment` continues")
        if values.get("command") != COMMAND:
            raise ValueError(f"the settings of a command other than {COMMAND!r}")
        begun = checked(Begun, values)
        _check_names(begun, [one.name for one in begun.held.variants])
    except (OSError, ValueError) as error:
        found = in_words(error).split("\n")[0][:200]
        raise ConfigError(
            f"{folder / CONFIG}: expected the settings of a leaderboard, found {found}; start a new leaderboard with --out"
        ) from None
    return begun


def _check_names(begun: Begun, variants: list[str]) -> None:
    """Check that every section of `begun` has every corpus, and that every method has settings or a reason why it is left out.

    Raises:
        ValueError: a corpus or method is missing; the message names the first missing corpus or method.
    """
    for part in ("experiments", "left_out", "data_sha256"):
        if lacking := begun.data.keys() - getattr(begun, part).keys():
            raise ValueError(f"the section {part!r}, in which the corpus {min(lacking)!r} is missing")
    for corpus in begun.data:
        known = begun.experiments[corpus].keys() | begun.left_out[corpus].keys()
        if lacking := [name for name in [*map(short_name, begun.methods), *variants] if name not in known]:
            raise ValueError(f"the method {lacking[0]!r} on the corpus {corpus!r} with neither settings nor a reason why it is left out")
