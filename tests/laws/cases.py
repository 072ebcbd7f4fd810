"""What the laws run over: found in the package, never listed.

A case is a method with a configuration, the modalities that it is given, and their form. Of every method there are

- `plain` cases: {default, causal where it can be} × {all modalities, each one alone}, and ensembles of the default and the causal one;
- `form` cases: the default in every other form that it reads (vectors, sequences);
- `option` cases: every option with few values (true or false, a word of several, a recipe), one changed at a time;
- `around` cases: every option of `[inputs]` and `[prior]` that a forward pass shows, and a task of scores;
- `settings` cases: every committed settings file, at a small size.

The default run asks every law of every method with all modalities, causal or not, or, where a law is dear (training, files,
explanations), of its default alone. All else is `slow`; the default run does not even build it. An operator is asked about every recipe
in `tests/conv`; here a method has its own recipe, none, and one other.

A combination that is refused with a `ConfigError` is no case: it is kept in `REFUSED`, with the reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.files.toml import read_toml
from erc_graph.data.ragged import Ragged
from erc_graph.data.tasks import Task
from erc_graph.errors import ConfigError
from erc_graph.inference.saved import Network
from erc_graph.inference.version_1 import moved_options
from erc_graph.methods import METHODS
from erc_graph.methods.base import NONE, Method
from erc_graph.methods.ensemble import Ensemble
from erc_graph.methods.inputs import Inputs, InputsConfig
from erc_graph.methods.prior import PriorConfig
from erc_graph.methods.schema import Kind, Schema

MODALITIES = ("audio", "text", "visual")
WIDTHS = {"audio": 3, "text": 5, "visual": 4, "bert": 6, "speaker": 2, "said": 3}  # the last three are asked for by options
THREE = Task(name="three", labels=("sad", "angry", "happy"))
SCORE = Task(name="score", kind="score", column="score")
SETTINGS = Path(__file__).resolve().parents[2] / "experiments"
SLOW = re.search(r"(?<!not )\bslow\b", os.environ.get("PYTEST_CHOSEN", "slow")) is not None  # asked for; `tests/conftest.py` says it
KEYWORD = os.environ.get("PYTEST_KEYWORD", "")
ONLY = [] if "not" in KEYWORD.split() else [name for name in METHODS if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", KEYWORD)]
"""Methods that `-k` names; the laws build only their cases then."""

# -- small configurations ----------------------------------------------------------------------------------------------------------

# The last word of a field's name → the most that it is set to. Widths are even and have all these heads as divisors.
SIZES = {
    "width": 12, "hidden": 12, "feedforward": 12, "middle": 6, "codes": 4, "channels": 8, "bases": 2, "rank": 4, "units": 12, "dim": 12,
    "heads": 2, "layers": 2, "depth": 2, "deep": 2, "positions": 4, "samples": 2,
}  # fmt: skip


def small(config: Any) -> Any:
    """A configuration at a small size, wherever in it the sizes are; a pretrained model that it names is left out."""
    values: dict[str, Any] = {}
    for one in fields(config):
        value = getattr(config, one.name)
        most = SIZES.get(one.name.rpartition("_")[2])
        if is_dataclass(value):
            values[one.name] = small(value)
        elif one.name == "folder":
            values[one.name] = ""
        elif type(value) is int and most is not None:
            values[one.name] = min(value, most)
        elif isinstance(value, list) and most is not None:
            values[one.name] = [min(number, most) if type(number) is int else number for number in value]
    return replace(config, **values)


def options(config: Any) -> Iterator[tuple[str, Any]]:
    """Every option with few values, one changed at a time: what was changed, and the configuration."""
    hints = get_type_hints(type(config))
    for one in fields(config):
        value = getattr(config, one.name)
        if is_dataclass(value):
            yield from ((f"{one.name}.{name}", replace_later(config, one.name, inner)) for name, inner in options(value))
            continue
        others = [NONE, "window" if value == "speaker" else "speaker"] if one.name == "graph" else few(hints[one.name])
        yield from ((f"{one.name}={other}", replace_later(config, one.name, other)) for other in others if other != value)


def replace_later(config: Any, name: str, value: Any) -> Callable[[], Any]:
    """The changed configuration, made when it is asked for, since it may be refused."""
    return lambda: replace(config, **{name: value() if callable(value) else value})


def few(hint: Any) -> list[Any]:
    """All values of a type that has few."""
    if hint is bool:
        return [False, True]
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    if get_origin(hint) in (UnionType, Union):
        return [value for part in get_args(hint) if part is not NoneType for value in few(part)]
    return []


# -- cases -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Case:
    """A method, as it is built.

    Attributes:
        kind: `plain`, `form`, `option`, `around` or `settings`.
        name: For the test's name.
        method: Its name in `METHODS`.
        config: Its options, when asked; a `ConfigError` is a refusal.
        modalities: What it is given.
        form: In which form.
        task: What is predicted.
        inputs: The table `[inputs]`.
        prior: The table `[prior]`.
        members: Networks of an ensemble; 0: none.
    """

    kind: str
    name: str
    method: str
    config: Callable[[], Any]
    modalities: tuple[str, ...] = MODALITIES
    form: Kind = "features"
    task: Task = THREE
    inputs: InputsConfig = field(default_factory=InputsConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    members: int = 0

    @property
    def whole(self) -> bool:
        """Whether it has all modalities, in the form that the method reads first, and nothing is changed but `causal`."""
        return self.kind == "plain" and len(self.modalities) == len(MODALITIES)

    @property
    def schema(self) -> Schema:
        """What there is to read."""
        second = [name for name in ("bert", "speaker", "said") if self.kind == "around" and name in self.extras]
        if self.form == "features":
            return Schema(widths={name: WIDTHS[name] for name in sorted([*self.modalities, *second])}, task=self.task)
        sequences = {name: (WIDTHS[name],) for name in self.modalities}
        return Schema(widths={name: WIDTHS[name] for name in second}, sequences=sequences, task=self.task)

    @property
    def extras(self) -> tuple[str, ...]:
        """Feature sets that an option asks for."""
        given = [self.inputs.second_text or "", "speaker" if self.inputs.given_speakers else "", *self.prior.features]
        return tuple(filter(None, given))

    def build(self) -> Network:
        """A new network, with the package's first weights."""
        kind = METHODS[self.method]
        members = [kind(self.schema, self.config(), inputs=self.inputs, prior=self.prior) for _ in range(max(1, self.members))]
        return Ensemble(members) if self.members else members[0]


REFUSED: dict[str, str] = {}
"""Combination → the error that refuses it."""


def defaults(method: str) -> dict[str, Callable[[], Any]]:
    """Configurations of the plain cases."""
    config = METHODS[method].Config
    found: dict[str, Callable[[], Any]] = {"default": lambda: small(config())}
    if METHODS[method].can_be_causal and any(one.name == "causal" for one in fields(config)):
        found["causal"] = lambda: replace(small(config()), causal=True)
    return found


def wanted(method: str) -> Iterator[Case]:
    """All combinations of a method, refused ones too."""
    kind = METHODS[method]
    first: Kind = kind.reads[0]
    for label, config in defaults(method).items():
        for names in (MODALITIES, *((name,) for name in MODALITIES if SLOW)):
            heard = "" if len(names) > 1 else f", {names[0]} alone"
            yield Case("plain", f"{method}: {label}{heard}", method, config, names, first)
        if SLOW:
            yield Case("plain", f"{method}: {label}, ensemble", method, config, form=first, members=2)
    if not SLOW:
        return
    plain = small(kind.Config())
    for form in kind.reads[1:]:
        yield Case("form", f"{method}: {form}", method, lambda plain=plain: plain, form=form)
    for name, config in options(plain):
        yield Case("option", f"{method}: {name}", method, config, form=first)
    for name, around in AROUND.items():
        yield Case("around", f"{method}: {name}", method, lambda plain=plain: plain, form=first, **around)
    for path in sorted((SETTINGS / method).glob("*.toml")):
        yield from from_settings(path)


AROUND: dict[str, dict[str, Any]] = {
    "score": {"task": SCORE},
    "speaker relative": {"inputs": InputsConfig(speaker_relative=["audio"])},
    "given speakers": {"inputs": InputsConfig(given_speakers=True)},
    "second text": {"inputs": InputsConfig(second_text="bert")},
    "prior": {"prior": PriorConfig(features=["said"])},
    "prior as a stream": {"prior": PriorConfig(features=["said"], stream=True)},
    "prior around": {"prior": PriorConfig(features=["said"], around=True)},
}


def from_settings(path: Path) -> Iterator[Case]:
    """The case of a settings file, if it is one: its own options, inputs and prior, for three modalities."""
    values = read_toml(path)
    method = values.get("method")
    if method not in METHODS or "training" not in values:
        return
    from pydantic import TypeAdapter

    kind = METHODS[method]
    own, inputs, prior = moved_options(kind.__name__, values.get("pipeline", {}))
    config = TypeAdapter(kind.Config).validate_python(own)
    inputs = {**inputs, **values.get("inputs", {})}
    inputs.pop("text_layers", None)  # needs token states of a text encoder
    prior = {**prior, **values.get("prior", {})}
    name = path.relative_to(SETTINGS).with_suffix("").as_posix()
    for form in kind.reads:  # the first that all its options are made for
        case = Case(
            "settings",
            f"{method}: {name}",
            method,
            lambda: small(config),
            form=form,
            inputs=TypeAdapter(InputsConfig).validate_python(inputs),
            prior=TypeAdapter(PriorConfig).validate_python(prior),
        )
        if form == kind.reads[-1] or not refusal(case):
            yield case
            return


def refusal(case: Case) -> str | None:
    """Why a combination is refused; `None`: it is not."""
    try:
        with torch.random.fork_rng(devices=[]):
            case.build()
    except ConfigError as error:
        return str(error)
    return None


@cache
def cases_of(method: str) -> tuple[Case, ...]:
    """All combinations of a method that are not refused."""
    found = []
    for case in wanted(method):
        if reason := refusal(case):
            REFUSED[case.name] = reason
        else:
            found.append(case)
    return tuple(found)


def every_case() -> tuple[Case, ...]:
    """Those of all methods, or of the ones that `-k` names."""
    return tuple(case for method in ONLY or METHODS for case in cases_of(method))


def over(default: Callable[[Case], bool], every: Callable[[Case], bool] = lambda case: True) -> pytest.MarkDecorator:
    """Run a law over cases.

    Args:
        default: Those of the default run; the others are `slow`.
        every: Those that the law is about.
    """
    chosen = [case for case in every_case() if (SLOW or default(case)) and every(case)]
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=case.name, marks=() if default(case) else pytest.mark.slow) for case in chosen]
    )


def whole(case: Case) -> bool:
    """Default and causal, with all modalities; no ensembles."""
    return case.whole and not case.members


def first(case: Case) -> bool:
    """The default, with all modalities."""
    return whole(case) and ": default" in case.name


def of_each_kind(case: Case) -> bool:
    """The default and the causal one of the first method of every kind."""
    kinds = {kind.family: name for name, kind in reversed(list(METHODS.items()))}
    return whole(case) and case.method in kinds.values()


def anything(case: Case) -> bool:
    """Every case."""
    return True


# -- networks and conversations ----------------------------------------------------------------------------------------------------


def stir(module: nn.Module) -> nn.Module:
    """In float64 and evaluation mode, with no parameter at a special value such as zero."""
    module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return module


def without_dropout(module: nn.Module) -> nn.Module:
    """Training mode stays, chance goes."""
    for part in module.modules():
        for name in ("p", "dropout"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
        if isinstance(part, Inputs):
            part.config = replace(part.config, swap_noise={}, modality_dropout=0.0)
    return module


@cache
def stirred(case: Case) -> Network:
    """The network of a case, stirred; built once, and not to be changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = stir(case.build())
    assert isinstance(network, Network)
    return network


def conversations(
    case: Case | None,
    lengths: Sequence[int],
    seed: int = 1,
    *,
    speakers: Sequence[int] | None = None,
    missing: float = 0.25,
    dtype: torch.dtype = torch.float64,
) -> Batch:
    """Random dialogues with missing vectors, unlabelled and unjudged utterances; the second has nothing at all.

    Args:
        case: Whose features there are; unset: all, as vectors.
        lengths: Of the dialogues.
        seed: Of everything.
        speakers: Of all utterances; unset: up to three at random.
        missing: Share of what is missing.
        dtype: Of the features.
    """
    random = torch.Generator().manual_seed(seed)
    length, rows = torch.tensor(lengths), sum(lengths)
    task = case.task if case else THREE
    target = torch.randint(-1, 3, (rows,), generator=random)
    heard = list(speakers) if speakers else torch.randint(0, 3, (rows,), generator=random).tolist()
    orders: list[int] = []
    for part in torch.tensor(heard, dtype=torch.long).split(list(lengths)):
        first = list(dict.fromkeys(part.tolist()))
        orders.extend(first.index(speaker) for speaker in part.tolist())
    features, present, sequences = {}, {}, {}
    for name, width in WIDTHS.items():
        here = torch.rand(rows, generator=random) >= missing
        if missing:
            here[1:2] = False
        if case is None or name in case.schema.widths:
            features[name] = torch.randn(rows, width, generator=random, dtype=dtype)
            present[name] = here
        elif name in case.schema.sequences:
            items = torch.where(here, torch.randint(1, 4, (rows,), generator=random), 0)
            values = torch.randn(int(items.sum()), width, generator=random, dtype=dtype)
            sequences[name] = Ragged(values, torch.cat([items.new_zeros(1), items.cumsum(0)]))
    if "said" in features:
        features["said"] = features["said"].log_softmax(-1)
    return Batch(
        ptr=torch.cat([length.new_zeros(1), length.cumsum(0)]),
        speaker=torch.tensor(orders, dtype=torch.long),
        target=target if task.labels else torch.where(target < 0, float("nan"), target - 1.0),
        judged=torch.rand(rows, generator=random) < 0.8,
        row=torch.arange(rows),
        features=features,
        present=present,
        sequences=sequences,
    )


def leaves(batch: Batch) -> tuple[Batch, dict[str, Tensor]]:
    """The batch with features and sequences that want a gradient, and these."""
    found = {name: value.clone().requires_grad_() for name, value in batch.features.items()}
    items = {name: value.values.clone().requires_grad_() for name, value in batch.sequences.items()}
    sequences = {name: Ragged(items[name], value.ptr) for name, value in batch.sequences.items()}
    return replace(batch, features=found, sequences=sequences), {**found, **items}


def by_row(batch: Batch, gradients: dict[str, Tensor | None]) -> Tensor:
    """`(N,)` whether anything of a row has a gradient."""
    moved = torch.zeros(batch.utterances, dtype=torch.bool)
    for name, gradient in gradients.items():
        if gradient is None:
            continue
        if name in batch.features:
            moved |= gradient.flatten(1).abs().sum(1) > 0
        else:
            sequences = batch.sequences[name]
            row = torch.repeat_interleave(torch.arange(batch.utterances), sequences.lengths)
            moved[row[gradient.flatten(1).abs().sum(1) > 0]] = True
    return moved


def scores(network: nn.Module, batch: Batch) -> Tensor:
    """`(N, C)`."""
    found: Tensor = network(batch).scores
    return found


def networks(network: Network) -> list[Method]:
    """The members of an ensemble, or the one method."""
    return network.networks if isinstance(network, Ensemble) else [network]
