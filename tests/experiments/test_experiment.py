"""An experiment as plain values: its tables, the keys of before, and its way into other processes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from erc_graph.errors import ConfigError
from erc_graph.experiments.command import main
from erc_graph.experiments.experiment import experiment_file, from_dict
from erc_graph.experiments.parser import make_parser
from erc_graph.experiments.settings import named_again

OWN = """
from dataclasses import dataclass
from erc_graph.methods.base import Method
from erc_graph.methods.parts import Turn

class Own(Method):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        dropout: float = 0.1

    def parts(self, config, shapes):
        yield Turn(shapes.widths)
"""


def test_plain_values_and_back() -> None:
    values = {
        "modalities": ["text"], "inputs": {"swap_noise": {"text": 0.5}, "text_layers": {"layers": 1}},
        "prior": {"features": ["a", "b"], "around": True}, "pipeline": {"width": 64}, "search": {"training.epochs": {"low": 1, "high": 3}},
    }  # fmt: skip
    experiment = from_dict("bigru", values, "test")
    assert experiment.inputs.text_layers.layers == 1 and experiment.prior.features == ["a", "b"] and experiment.pipeline.width == 64
    assert from_dict("bigru", experiment.as_dict(), "test") == experiment
    assert pickle.loads(pickle.dumps(experiment)) == experiment


def test_changes_by_key_and_by_the_key_of_before() -> None:
    experiment = from_dict("hff", {}, "test")
    for key in ("inputs.modality_dropout", "pipeline.modality_dropout"):
        assert experiment.changed({key: 0.25}).inputs.modality_dropout == 0.25
    assert experiment.changed({"prior.features": ["logp"]}).prior.features == ["logp"]
    with pytest.raises(
        ConfigError,
        match=r"inputs\.volume: expected the key of a setting of the method hff, such as training\.epochs, found an unknown key",
    ):
        experiment.changed({"inputs.volume": 1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inputs": {"swap_noise": {"text": 2.0}}}, "inputs.swap_noise: expected numbers from 0 to 1"),
        ({"inputs": {"volume": 3}}, "inputs.volume: unknown key"),
        ({"prior": {"around": True}}, "prior.around: expected prior.features as well"),
        ({"prior": {"features": "a"}}, "prior.features: input should be a valid"),
        ({"method": "hff"}, "test: method: expected 'bigru', the method of this experiment, found 'hff'"),
    ],
)
def test_mistakes_in_the_tables(values: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError, match=message):
        from_dict("bigru", values, "test")


def test_the_options_are_those_of_the_tables(small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """New options, options of before with one note each, and a file of before: the same run."""
    file = tmp_path / "before.toml"
    file.write_text('[pipeline]\nspeaker_relative = ["audio"]\nswap_noise = { text = 0.5 }\n')
    asked = {
        "new": ["--inputs.speaker_relative", "audio", "--inputs.swap_noise", '{"text": 0.5}'],
        "old": ["--pipeline.speaker_relative", "audio", "--pipeline.swap_noise", '{"text": 0.5}'],
        "file": ["--config", str(file)],
    }
    configs, notes = {}, {}
    for name, options in asked.items():
        caplog.clear()
        out = tmp_path / name
        common = ["--data", str(small), "--out", str(out), "--no-baseline", "--training.epochs", "1", "--pipeline.width", "8"]
        assert main("bigru", [*options, *common]) == 0
        configs[name] = json.loads((out / "config.json").read_text())
        notes[name] = [record.getMessage() for record in caplog.records if " is now " in record.getMessage()]
        assert configs[name]["inputs"]["speaker_relative"] == ["audio"] and configs[name]["inputs"]["swap_noise"] == {"text": 0.5}
    assert configs["new"]["pipeline"] == configs["old"]["pipeline"] and notes["new"] == []
    assert notes["old"] == [f"note: --pipeline.{name} is now --inputs.{name}" for name in ("speaker_relative", "swap_noise")]
    assert notes["file"] == [f"note: {file}: pipeline.{name} is now inputs.{name}" for name in ("speaker_relative", "swap_noise")]


def test_a_run_of_before_goes_on(small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "run"
    assert main("bigru", ["--data", str(small), "--out", str(out), "--no-baseline", "--training.epochs", "1", "--pipeline.width", "8"]) == 0
    config = json.loads((out / "config.json").read_text())
    for table in ("inputs", "prior"):
        del config[table]
    config["pipeline"] |= {"speaker_relative": [], "prior": None, "prior_around": False, "bidirectional": True, "swap_noise": {}}
    del config["pipeline"]["causal"]
    (out / "config.json").write_text(json.dumps({**config, "published": {"source": "", "row": []}}))
    before = json.loads((out / "result.json").read_text())["metrics"]
    assert main("bigru", ["--resume", str(out)]) == 0
    assert json.loads((out / "result.json").read_text())["metrics"] == before
    assert not [record for record in caplog.records if " is now " in record.getMessage()]


def test_a_list_of_priors_is_typed_as_it_is_said() -> None:
    assert make_parser("bigru").parse_args(["--prior.features", "a,b"]).prior.features == ["a", "b"]


def test_a_method_of_a_file_in_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_method.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    experiment = from_dict("my_method.py:Own", {"pipeline": {"dropout": 0.3}}, "test")
    sent = pickle.dumps(experiment)
    monkeypatch.chdir("/")
    again = pickle.loads(sent)
    assert again.pipeline.dropout == 0.3 and again.method == f"{tmp_path / 'my_method.py'}:Own"
    assert experiment_file("my_method.py:Own", "sample") is None


def test_a_run_of_a_method_of_a_file_is_named_again(tmp_path: Path) -> None:
    (tmp_path / "seed-0").mkdir()
    (tmp_path / "config.json").write_text(json.dumps({"command": "run", "method": "my_method.py:Own"}))
    for place in (tmp_path, tmp_path / "seed-0", tmp_path / "seed-0" / "best.safetensors"):
        with pytest.raises(
            ConfigError, match=r"the method of this run is your own method my_method\.py:Own; name it again with --method my_"
        ):
            named_again(place, None)
        assert named_again(place, "elsewhere/my_method.py:Own") == "elsewhere/my_method.py:Own"
        with pytest.raises(ConfigError, match=r"--method: expected my_method\.py:Own, the method of this run, found other\.py:Own"):
            named_again(place, "other.py:Own")
    (tmp_path / "config.json").write_text(json.dumps({"command": "run", "method": "bigru"}))
    assert named_again(tmp_path, None) is None and named_again(tmp_path, "bigru") is None
    (tmp_path / "config.json").write_text(json.dumps({"format": "erc_graph pipeline", "method": "Own"}))
    assert named_again(tmp_path, None) is None and named_again(tmp_path, "a.py:Own") == "a.py:Own", "a saved model names no file"
    (tmp_path / "config.json").write_text("{")
    assert named_again(tmp_path, None) is None
