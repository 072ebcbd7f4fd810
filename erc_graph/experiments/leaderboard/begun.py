"""What a leaderboard keeps in its folder of how it began (`config.json`): checked once, before anything is made of it."""

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
    """How a leaderboard began.

    Attributes:
        data: Name of a corpus → its path.
        methods: Names, or files and classes.
        rules: Plain values of its rules.
        experiments: Corpus → row → settings.
        left_out: Corpus → row → why it is not among them.
        own_sha256: File and class of a method → digest of the file.
        data_sha256: Corpus → digest.
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
        """Return the rules.

        Raises:
            ConfigError: they are none.
        """
        return rules_from(self.rules, "rules")


def read_begun(folder: Path) -> Begun:
    """Return how the leaderboard in a folder began.

    Raises:
        ConfigError: the folder is that of an experiment, or its file is damaged.
    """
    try:
        values = read_object(folder / CONFIG)
        if values.get("command") in ("run", "table"):
            raise ValueError("that of an experiment, which `erc-graph experiment` continues")
        if values.get("command") != COMMAND:
            raise ValueError(f"no command {COMMAND!r}")
        begun = checked(Begun, values)
        _check_names(begun, [one.name for one in begun.held.variants])
    except (OSError, ValueError) as error:
        found = in_words(error).split("\n")[0][:200]
        raise ConfigError(f"{folder / CONFIG}: expected the config of a leaderboard, found {found}; begin another with --out") from None
    return begun


def _check_names(begun: Begun, variants: list[str]) -> None:
    """Refuse a file whose parts are of different corpora, or that says nothing of a method.

    Raises:
        ValueError: it names the first.
    """
    for part in ("experiments", "left_out", "data_sha256"):
        if lacking := begun.data.keys() - getattr(begun, part).keys():
            raise ValueError(f"no {min(lacking)!r} in {part}")
    for corpus in begun.data:
        known = begun.experiments[corpus].keys() | begun.left_out[corpus].keys()
        if lacking := [name for name in [*map(short_name, begun.methods), *variants] if name not in known]:
            raise ValueError(f"neither settings of {lacking[0]!r} for {corpus!r} nor why it is left out")
