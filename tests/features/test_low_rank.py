"""Low-rank tuning: what is trained and saved, and that all ways of reading it give what peft gives."""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import load_tensors, save_tensors
from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.features.fine_tuning import TuningConfig, tune
from erc_graph.features.low_rank import ADAPTER, ADAPTER_CONFIG, add_low_rank, linear_layers, merged, read_low_rank, with_low_rank
from erc_graph.features.tokens import Tokens
from erc_graph.features.tuned import TunedEncoder
from erc_graph.features.tuned_files import ABOUT, HEAD
from erc_graph.features.utterance_classifier import TuningRun
from tests.features.conftest import QUICK, causal, rows_of

pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

LOW = replace(QUICK, epochs=8, batch_size=4, lora=4, learning_rate=2e-2)
TEXTS = ["we won !", "really ?", "you are joking", "won hello"]


@pytest.fixture(scope="module")
def place(tiny_encoder: Path, talks: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder and what was tuned from it in two folds."""
    folder = tmp_path_factory.mktemp("low-rank")
    shutil.copytree(tiny_encoder, folder / "models" / "base")
    tune(talks, str(folder / "models" / "base"), folder / "tuned", LOW, cross_fit=2, quiet=True)
    return folder


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place, tmp_path / "place"))


def by_peft(base: Path, tuned: Path, texts: list[str]) -> Tensor:
    """Mean token states as the library gives them, one text at a time."""
    from transformers import AutoModel

    model = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(base), tuned).eval()
    ids, _ = Tokens(base, json.loads((base / "config.json").read_text()))(texts)
    with torch.no_grad():
        return torch.stack([model(input_ids=torch.tensor([one])).last_hidden_state[0].mean(0) for one in ids])


def test_it_learns_and_saves_little(place: Path, talks: Corpus) -> None:
    rows = rows_of(talks, "test")
    said = TunedEncoder(place / "tuned", output="log-probabilities")([talks.texts[row] for row in rows])
    assert f1_score(talks.target[rows], said.argmax(-1), average="weighted") > 0.9
    assert sorted(path.name for path in place.joinpath("tuned").iterdir()) == ["fold-0", "fold-1", ABOUT]
    for fold in ("fold-0", "fold-1"):
        assert {path.name for path in (place / "tuned" / fold).iterdir()} == {ADAPTER, ADAPTER_CONFIG, HEAD}
        low = read_low_rank(place / "tuned" / fold)
        parts = [f"attention.self.{one}" for one in ("query", "key", "value")]
        parts += ["intermediate.dense", "output.dense", "attention.output.dense"]
        layers = [f"encoder.layer.{i}.{part}" for i in range(2) for part in parts]
        assert set(low.targets) == set(layers) and (low.rank, low.scale) == (4, 2)
        assert all(value.any() for value in low.matrices.values())  # B begins at zero
    about = json.loads((place / "tuned" / ABOUT).read_text())
    assert about["model"] == "../models/base" and about["revision"].startswith("sha256:")
    assert about["settings"]["lora"] == 4 and about["settings"]["learning_rate"] == 2e-2


def test_the_rate_without_one() -> None:
    assert (TuningConfig().rate, TuningConfig(lora=2).rate, TuningConfig(lora=2, learning_rate=0.5).rate) == (1e-4, 1e-3, 0.5)
    with pytest.raises(ConfigError, match=r"tuning.lora: expected a rank of 1 or more, or 0, found -1\ntuning.quantize: expected --lora"):
        TuningConfig(lora=-1, quantize="8bit")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft reads it
@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2", "llama"])
def test_states_equal_those_of_peft(kind: str, place: Path, talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    """A BERT is read by adding the products to its matrices, all others by peft; each encoder is asked before and after the other."""
    from transformers import AutoModel, DistilBertConfig

    base, tuned = place / "models" / "base", place / "tuned"
    if kind == "distilbert":
        base = Path(shutil.copytree(tiny_encoder, tmp_path / "base"))
        config = DistilBertConfig(vocab_size=15, dim=24, n_layers=1, n_heads=3, hidden_dim=40, max_position_embeddings=32)
        AutoModel.from_config(config).save_pretrained(base)
    elif kind != "bert":
        base = causal(kind, tmp_path / "base", tiny_encoder)
    if kind != "bert":
        tuned = tmp_path / "tuned"
        tune(talks, str(base), tuned, replace(LOW, epochs=1), cross_fit=2, quiet=True)
    encoder, about = TunedEncoder(tuned), json.loads((tuned / ABOUT).read_text())
    expected = {fold: by_peft(base, tuned / fold, TEXTS) for fold in about["members"]}
    assert (expected["fold-0"] - expected["fold-1"]).abs().max() > 1e-3
    for _ in range(2):
        for fold, unseen in about["members"].items():
            found = encoder(TEXTS, dialogues=[unseen[0]] * len(TEXTS))
            torch.testing.assert_close(found, expected[fold], atol=1e-5, rtol=0)
    names = [about["members"][f"fold-{i % 2}"][0] for i in range(16)]
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda name: encoder(TEXTS, dialogues=[name] * len(TEXTS)), names))
    for i, found in enumerate(said):
        torch.testing.assert_close(found, expected[f"fold-{i % 2}"], atol=1e-5, rtol=0)


def test_the_names_of_weights_may_have_a_stem(place: Path) -> None:
    weights, _ = load_tensors(place / "models" / "base" / "model.safetensors")
    low = read_low_rank(place / "tuned" / "fold-0")
    plain, stemmed = merged(weights, low), merged({f"bert.{name}": value for name, value in weights.items()}, low)
    assert plain.keys() == stemmed.keys() and all(torch.equal(plain[name], stemmed[name]) for name in plain)
    changed = {name for name in plain if not torch.equal(plain[name], weights[name])}
    assert changed == {f"{target}.weight" for target in low.targets}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_in_sixteen_bits(device: str, talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = causal("qwen2", tmp_path / "base", tiny_encoder)
    AutoModelForCausalLM.from_pretrained(base).to(torch.bfloat16).save_pretrained(base)
    sparing = replace(LOW, gradient_checkpointing=True)
    encoder = tune(talks, str(base), tmp_path / "tuned", sparing, cross_fit=2, device=device, precision="bf16", quiet=True)
    torch.testing.assert_close(encoder(TEXTS), TunedEncoder(tmp_path / "tuned")(TEXTS), atol=0.1, rtol=0.1)


def test_a_bert_is_read_without_peft_and_others_say_what_to_install(
    place: Path, talks: Corpus, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = causal("gpt2", tmp_path / "gpt2", tiny_encoder)
    tune(talks, str(base), tmp_path / "tuned", replace(LOW, epochs=1), quiet=True)
    monkeypatch.setitem(sys.modules, "peft", None)
    assert TunedEncoder(place / "tuned")(TEXTS).shape == (4, 24)
    for ask in (lambda: TunedEncoder(tmp_path / "tuned"), lambda: tune(talks, str(tiny_encoder), tmp_path / "new", LOW, quiet=True)):
        with pytest.raises(ConfigError, match=r'low-rank fine-tuning needs peft, .*: pip install "erc_graph\[lora\]"'):
            ask()


def test_continuing_equals_never_having_stopped(place: Path, talks: Corpus, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(copy / "tuned")
    judge, calls = TuningRun.judge, []

    def stop(run: object) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return judge(run)  # type: ignore[arg-type]

    monkeypatch.setattr(TuningRun, "judge", stop)
    with pytest.raises(KeyboardInterrupt):
        tune(talks, str(copy / "models" / "base"), copy / "tuned", LOW, cross_fit=2, quiet=True)
    half = copy / "tuned" / "fold-0.training.safetensors"
    names = {name.partition(".")[0] for name in load_tensors(half)[0] if "lora_" not in name and ".classify." not in name}
    assert names == {"optimizer"}  # the encoder itself is in no file
    tune(talks, str(copy / "models" / "base"), copy / "tuned", LOW, cross_fit=2, quiet=True)
    for file in (f"fold-0/{ADAPTER}", f"fold-0/{HEAD}", f"fold-1/{ADAPTER}"):
        ours, theirs = (load_tensors(one / "tuned" / file)[0] for one in (copy, place))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    tensors, metadata = load_tensors(copy / "tuned" / "fold-0" / ADAPTER)
    shutil.rmtree(copy / "tuned" / "fold-0")
    save_tensors(half, {f"model.{name}": value for name, value in tensors.items()}, {"figures": "[]", **metadata})
    with pytest.raises(
        CheckpointError, match=r"not the state of this fine-tuning \(other weights\); remove the file to begin the fine-tuning again"
    ):
        tune(talks, str(copy / "models" / "base"), copy / "tuned", LOW, cross_fit=2, quiet=True)


def test_less_memory_gives_the_same(place: Path, talks: Corpus, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(copy / "tuned" / "fold-0")
    sparing = replace(LOW, gradient_checkpointing=True)
    tune(talks, str(copy / "models" / "base"), copy / "tuned", sparing, cross_fit=2, quiet=True)
    ours, theirs = (load_tensors(one / "tuned" / "fold-0" / ADAPTER)[0] for one in (copy, place))
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name])
    from transformers import BertModel

    monkeypatch.setattr(BertModel, "supports_gradient_checkpointing", False)
    shutil.rmtree(copy / "tuned" / "fold-0")
    with pytest.raises(
        ConfigError, match=r"gradient_checkpointing: expected a model that supports gradient checkpointing, found BertModel"
    ):
        tune(talks, str(copy / "models" / "base"), copy / "tuned", sparing, cross_fit=2, quiet=True)


def test_the_encoder_is_found_beside_it_and_another_is_refused(place: Path, copy: Path, tiny_encoder: Path) -> None:
    torch.testing.assert_close(TunedEncoder(copy / "tuned")(TEXTS), TunedEncoder(place / "tuned")(TEXTS))  # both folders moved
    weights, metadata = load_tensors(copy / "models" / "base" / "model.safetensors")
    weights["embeddings.LayerNorm.weight"] = weights["embeddings.LayerNorm.weight"] + 1
    save_tensors(copy / "models" / "base" / "model.safetensors", weights, metadata)
    with pytest.raises(
        CheckpointError,
        match=r"tuned: these encoders were fine-tuned from \.\./models/base; expected version sha256:\w+ of this model, found",
    ):
        TunedEncoder(copy / "tuned")
    shutil.rmtree(copy / "models")
    with pytest.raises(
        CheckpointError, match=r"tuned: the low-rank matrices in this folder are for an encoder that cannot be found: .*no such folder"
    ):
        TunedEncoder(copy / "tuned")


def test_matrices_of_another_encoder_are_refused(copy: Path, tiny_encoder: Path, talks: Corpus, tmp_path: Path) -> None:
    base = causal("gpt2", tmp_path / "gpt2", tiny_encoder)
    tune(talks, str(base), tmp_path / "tuned", replace(LOW, epochs=1), quiet=True)
    for folder, other in ((copy / "tuned", base), (tmp_path / "tuned", copy / "models" / "base")):
        about = json.loads((folder / ABOUT).read_text())
        (folder / ABOUT).write_text(json.dumps({**about, "model": str(other), "revision": "unknown"}))
        with pytest.raises(CheckpointError, match="the low-rank matrices belong to another encoder"):
            TunedEncoder(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"r": 3},
        {"r": "4"},
        {"peft_type": "IA3"},
        {"use_dora": 1},
        {"target_modules": []},
        {"target_modules": 1},
        {"lora_alpha": "8"},
        None,
        *({"lora_alpha": value} for value in (10**400, float("inf"), float("nan"))),
    ],
)
def test_what_is_of_another_form_is_refused(change: dict[str, object] | None, copy: Path) -> None:
    folder = copy / "tuned" / "fold-1"
    if change is None:
        matrices, _ = load_tensors(folder / ADAPTER)
        save_tensors(folder / ADAPTER, {name: value * torch.nan for name, value in matrices.items()})
    else:
        about = json.loads((folder / ADAPTER_CONFIG).read_text())
        (folder / ADAPTER_CONFIG).write_text(json.dumps({**about, **change}))
    with pytest.raises(CheckpointError, match=r"fold-1: expected low-rank matrices as `erc-graph features --fine-tune --lora` writes them"):
        read_low_rank(folder)


@pytest.mark.parametrize("change", [{"settings": {"lora": 4, "quantize": "2bit"}}, {"settings": {"lora": "x"}}, {"revision": None}])
def test_foreign_descriptions_are_refused(change: dict[str, object], copy: Path) -> None:
    about = {**json.loads((copy / "tuned" / ABOUT).read_text()), **change}
    if about["revision"] is None:
        del about["revision"]
    (copy / "tuned" / ABOUT).write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match="incomplete or damaged"):
        TunedEncoder(copy / "tuned")


def test_a_model_without_linear_layers() -> None:
    for put in (add_low_rank, with_low_rank):
        with pytest.raises(ConfigError, match="lora: expected a model with linear layers, found Embedding, which has none"):
            put(nn.Embedding(3, 2), 2)
    assert linear_layers(nn.ModuleDict({"a": nn.Linear(2, 2), "pooler": nn.ModuleDict({"dense": nn.Linear(2, 2)})})) == ["a"]
