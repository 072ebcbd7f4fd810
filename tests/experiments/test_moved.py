"""Keys that have moved: read as before, with one note, wherever they stand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from erc_graph.data.files.toml import read_toml
from erc_graph.errors import ConfigError
from erc_graph.experiments.experiment import from_dict
from erc_graph.experiments.moved import MOVED, arguments_up_to_date, moved_keys, say, up_to_date
from erc_graph.methods import METHODS


class Plain:
    @dataclass(frozen=True)
    class Config:
        width: int = 8


class Recurrent:
    @dataclass(frozen=True)
    class Config:
        width: int = 8
        causal: bool = False


class Own:
    @dataclass(frozen=True)
    class Config:
        prior: float = 0.5  # of a user's own method: it says what it always said


ROOT = Path(__file__).resolve().parents[2] / "experiments"
RESULTS = sorted(path for path in (ROOT / "results").glob("*/*.json") if path.parent.name not in ("leaderboard", "recommended", "starter"))


def _said(values: dict, key: str) -> bool:  # type: ignore[type-arg]
    for part in key.split("."):
        if part not in values:
            return False
        values = values[part]
    return True


def test_every_old_key_of_a_file_is_read_where_it_is_now() -> None:
    old = {
        "pipeline": {
            "width": 4, "speaker_relative": ["audio"], "swap_noise": {"visual": 0.9}, "modality_dropout": 0.2, "context_text": "bert",
            "given_speakers": True, "text_layers": {"layers": 2}, "prior": "a+b", "prior_around": True, "prior_stream": True,
            "bidirectional": False,
        }
    }  # fmt: skip
    values, notes = up_to_date(old, Recurrent, "own.toml")
    assert values == {
        "inputs": {
            "speaker_relative": ["audio"], "swap_noise": {"visual": 0.9}, "modality_dropout": 0.2, "second_text": "bert",
            "given_speakers": True, "text_layers": {"layers": 2},
        },
        "pipeline": {"width": 4, "causal": True},
        "prior": {"features": ["a", "b"], "around": True, "stream": True},
    }  # fmt: skip
    assert notes == [f"own.toml: {key} is now {MOVED[key]}" for key in MOVED if _said(old, key)] and len(notes) == 10
    assert len(old["pipeline"]) == 11, "what was given is not changed"


def test_what_says_nothing_is_left_out_without_a_word() -> None:
    dumped = {
        "speaker_relative": [], "swap_noise": {}, "modality_dropout": 0.0, "context_text": "text", "given_speakers": False,
        "text_layers": {"layers": 0, "heads": 12}, "prior": None, "prior_around": False, "prior_stream": False, "bidirectional": True,
    }  # fmt: skip
    values, notes = up_to_date({"pipeline": {"width": 4, **dumped}, "published": {"source": "", "row": []}}, Recurrent, "config.json")
    assert values == {"pipeline": {"width": 4}} and notes == []
    assert up_to_date({"published": {"row": [{"name": "X"}]}}, Plain, "own.toml") == (
        {},
        ["own.toml: [published] is not read; published results are in experiments/published/<corpus>.toml"],
    )


def test_two_values_of_one_key_are_refused_and_a_methods_own_key_stays() -> None:
    same = {"pipeline": {"prior": "b"}, "prior": {"features": ["b"]}}
    assert up_to_date(same, Plain, "own.toml") == ({"pipeline": {}, "prior": {"features": ["b"]}}, [])
    both = (
        "own.toml: the setting pipeline.prior is now called prior.features, but both names are given, with different values; "
        "keep only prior.features"
    )
    with pytest.raises(ConfigError, match=both):
        up_to_date({"pipeline": {"prior": "a"}, "prior": {"features": ["b"]}}, Plain, "own.toml")
    with pytest.raises(ConfigError, match="inputs: expected a table of settings, found the value 3"):
        up_to_date({"inputs": 3, "pipeline": {"swap_noise": {"text": 0.1}}}, Plain, "own.toml")
    assert up_to_date({"pipeline": {"prior": 0.3}}, Own, "own.toml") == ({"pipeline": {"prior": 0.3}}, [])
    assert "pipeline.bidirectional" not in moved_keys(Plain) and "pipeline.prior" not in moved_keys(Own)


def test_committed_settings_are_up_to_date() -> None:
    files = [path for path in ROOT.glob("*/*.toml") if path.parent.name in METHODS]
    assert len(files) >= 19
    for path in files:
        values, kind = read_toml(path), METHODS[path.parent.name]
        assert up_to_date(values, kind, path.name) == (values, [])
        assert not set(values.get("search", {})) & set(moved_keys(kind))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_settings_of_every_recorded_result_are_read(path: Path) -> None:
    result = json.loads(path.read_text())
    runs = [(result["method"], result["config"])] if "method" in result else [
        ("bigru" if name.startswith("BiGRU") else "hff", config) for name, config in result["config"].items()
    ]  # fmt: skip
    for method, config in runs:
        experiment = from_dict(method, config, path.name)
        assert experiment.training.epochs == config["training"]["epochs"]
        for old, new in (("speaker_relative", "speaker_relative"), ("swap_noise", "swap_noise"), ("modality_dropout", "modality_dropout")):
            assert getattr(experiment.inputs, new) == (config["pipeline"].get(old) or type(getattr(experiment.inputs, new))())
        assert "+".join(experiment.prior.features) == (config["pipeline"].get("prior") or "")


def test_an_option_that_is_gone_is_refused_where_it_said_something() -> None:
    assert from_dict("pairwise", {"pipeline": {"conv": {"alpha": 0.1}, "pmf": {"epochs": None}}}, "x").method == "pairwise"
    for pipeline, message in (({"conv": {"alpha": 0.2}}, "pipeline.conv: unknown key"), ({"pmf": {"epochs": 3}}, "pipeline.pmf.epochs")):
        with pytest.raises(ConfigError, match=message):
            from_dict("pairwise", {"pipeline": pipeline}, "x")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["--pipeline.prior", "a+b"], ["--prior.features", "a,b"]),
        (["--pipeline.prior=a+b", "--seeds", "2"], ["--prior.features=a,b", "--seeds", "2"]),
        (["--pipeline.prior_around", "true"], ["--prior.around", "true"]),
        (["--pipeline.text_layers.layers", "2"], ["--inputs.text_layers.layers", "2"]),
        (["--pipeline.bidirectional", "false"], ["--pipeline.causal", "true"]),
        (["--pipeline.context_text=text"], ["--inputs.second_text=null"]),
        (["--pipeline.swap_noise", '{"visual": 0.5}'], ["--inputs.swap_noise", '{"visual": 0.5}']),
    ],
)
def test_options_of_before(old: list[str], new: list[str]) -> None:
    arguments, notes = arguments_up_to_date(["--data", "a+b", *old], Recurrent)
    assert arguments == ["--data", "a+b", *new] and len(notes) == 1 and " is now --" in notes[0]
    assert arguments_up_to_date(arguments, Recurrent) == (arguments, [])


def test_a_note_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    say(["--a is now --b", "--a is now --b"])
    assert [record.getMessage() for record in caplog.records] == ["note: --a is now --b"]


def test_the_option_of_a_search_has_another_name() -> None:
    assert arguments_up_to_date(["--tune", "3"], Plain) == (["--search", "3"], ["--tune is now --search"])
    assert arguments_up_to_date(["--tune=3"], Plain) == (["--search=3"], ["--tune is now --search"])
