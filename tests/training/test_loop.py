from __future__ import annotations

import logging
import os
import signal
from dataclasses import replace

import pytest
import torch

from erc_graph.data.files.storage import load_tensors
from erc_graph.errors import CheckpointError, ConfigError, CorpusError, StorageError
from erc_graph.methods.stage import Stage, infer
from erc_graph.training import checkpoint
from erc_graph.training.checkpoint import BEST, LAST, State
from erc_graph.training.config import TrainingConfig
from erc_graph.training.history import History
from erc_graph.training.loop import check_fit, fit
from erc_graph.training.losses import counted
from erc_graph.training.metrics import evaluate

CONFIG = TrainingConfig(epochs=6, batch_size=8, learning_rate=0.01, weight_decay=1e-3, ema=0.9, schedule="cosine", warmup=0.1)


def run(pipeline, train, dev, config=CONFIG, **options):
    return fit(pipeline, train, dev, config, **{"seed": 3, "device": "cpu", "quiet": True, **options})


def same_weights(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def interrupt_after(pipeline, steps, how):
    left = [steps]

    def count():
        left[0] -= 1
        if left[0] < 0:
            how()

    pipeline.on_step = count


def test_it_learns_and_reports_what_it_did(build, train, dev, caplog):
    pipeline = build()
    keep = counted(dev, pipeline.task)
    before = evaluate(infer(pipeline, dev).scores[keep], dev.target[keep], pipeline.task)["accuracy"]
    with caplog.at_level(logging.INFO, logger="erc_graph"):
        history = run(pipeline, train, dev, replace(CONFIG, epochs=25), description="seed 3")
    after = evaluate(infer(pipeline, dev).scores[keep], dev.target[keep], pipeline.task)
    assert after["accuracy"] > max(before, 0.6)
    assert history.dev["accuracy"] == after["accuracy"]  # the chosen epoch's weights are in the pipeline
    assert [stage.name for stage in history.stages] == ["first", "second"]
    assert [len(stage.epochs) for stage in history.stages] == [25, 25]
    assert history.stages[0].epochs[-1].loss < history.stages[0].epochs[0].loss
    assert history.seconds_per_epoch > 0
    assert pipeline.calls == ["start 0 40", "start 0 15", "start 1 40", "start 1 15"]
    assert [message.split(":")[0] for message in caplog.messages] == ["seed 3 first", "seed 3 second"]


@pytest.mark.parametrize("selection", ["dev", "last"])
def test_the_rate_falls_where_the_figure_stands_still(build, train, dev, selection, monkeypatch):
    rates = []
    config = replace(CONFIG, schedule="plateau", plateau=0, plateau_factor=0.5, selection=selection, warmup=0.0, ema=0.0)
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, *a, **k: (rates.append(self.param_groups[0]["lr"]), step(self, *a, **k))[1])
    history = run(build(), train, None if selection == "last" else dev, config)
    lower = selection == "last"
    first = history.stages[0].epochs
    figures = [epoch.loss if lower else epoch.dev[config.criterion] for epoch in first]
    per_epoch = len(rates) // sum(len(stage.epochs) for stage in history.stages)
    best, expected = figures[0], 2 * [rates[0]]
    for figure in figures[1:-1]:
        better = figure < best if lower else figure > best
        expected.append(expected[-1] if better else 0.5 * expected[-1])
        best = figure if better else best
    assert rates[: per_epoch * len(first) : per_epoch] == pytest.approx(expected)


def test_same_seed_same_result_and_another_seed_another(build, train, dev):
    one, two, three = build(), build(), build()
    assert run(one, train, dev) == run(two, train, dev)
    run(three, train, dev, seed=4)
    assert same_weights(one, two)
    assert not same_weights(one, three)


@pytest.mark.parametrize(
    ("steps", "options"),  # five steps an epoch: first epoch, fourth, last of stage one, first of stage two, fifth
    [
        *((steps, {}) for steps in (2, 17, 29, 33, 50)),
        *((steps, {"ema": 0.0, "decay": "decoupled", "schedule": "linear"}) for steps in (17, 50)),
        *((steps, {"selection": "last"}) for steps in (29, 50)),
        *((steps, {"patience": 2, "epochs": 12}) for steps in (8, 33)),
        *((steps, {"schedule": "plateau", "plateau": 0, "plateau_factor": 0.1}) for steps in (17, 50)),
        *((steps, {"loss": "focal", "class_weights": "balanced", "mixed_precision": "bf16"}) for steps in (17, 50)),
    ],
)
def test_resume_is_bit_for_bit(build, train, dev, tmp_path, options, steps):
    config = replace(CONFIG, **options)
    whole = build()
    expected = run(whole, train, dev, config, folder=tmp_path / "whole")

    killed = build()
    interrupt_after(killed, steps, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(killed, train, dev, config, folder=tmp_path / "killed")

    resumed = build(seed=77)  # other initial weights: all comes from the file
    torch.rand(5)
    history = run(resumed, train, dev, config, folder=tmp_path / "killed", resume=True) if steps > 5 else None
    if history is None:  # killed before the first whole epoch: nothing to continue from, so the run begins again
        assert not (tmp_path / "killed" / LAST).exists()
        resumed = build()
        history = run(resumed, train, dev, config, folder=tmp_path / "killed", resume=True)
    assert same_weights(whole, resumed)
    assert history == expected
    for name in (BEST, LAST):
        left, right = build(5), build(6)
        if name == BEST:
            left.load_state_dict(load_tensors(tmp_path / "whole" / name)[0])
            right.load_state_dict(load_tensors(tmp_path / "killed" / name)[0])
            assert same_weights(left, right) and same_weights(left, whole)
        else:
            assert State.load(tmp_path / "killed" / name).finished


def test_a_finished_run_is_not_trained_again(build, train, dev, tmp_path):
    first, again = build(), build(9)
    history = run(first, train, dev, folder=tmp_path)
    interrupt_after(again, 0, lambda: pytest.fail("a step was made"))
    assert run(again, train, dev, folder=tmp_path, resume=True) == history
    assert same_weights(first, again)


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "seed"])
def test_lost_weights_of_a_finished_run_come_from_its_state(build, train, dev, tmp_path, damage):
    first = build()
    run(first, train, dev, folder=tmp_path)
    path = tmp_path / BEST
    good = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(good[:-9])
    else:
        checkpoint.save_weights(build(5) if damage == "other" else first, path, {"seed": "3" if damage == "other" else "4"})
    run(build(9), train, dev, folder=tmp_path, resume=True)
    assert path.read_bytes() == good
    stamp = path.stat().st_mtime_ns
    run(build(9), train, dev, folder=tmp_path, resume=True)
    assert path.stat().st_mtime_ns == stamp  # what is in order is left alone


def test_a_new_run_forgets_the_old_one_in_its_folder(build, train, dev, tmp_path):
    run(build(), train, dev, folder=tmp_path)
    killed = build()
    interrupt_after(killed, 1, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(killed, train, dev, folder=tmp_path)
    assert not (tmp_path / LAST).exists()


def test_the_interrupted_pipeline_can_still_be_trained(build, train, dev):
    pipeline = build()
    interrupt_after(pipeline, 40, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(pipeline, train, dev)
    assert all(parameter.requires_grad for parameter in pipeline.parameters())


def test_only_the_stage_is_trained(build, train, dev):
    pipeline, seen = build(epochs=2), []

    def look():
        seen.append((pipeline.encode.training, pipeline.second.training, pipeline.second[0].weight.requires_grad))
        if len(seen) == 1:
            seen.append({name: value.clone() for name, value in pipeline.second.state_dict().items()})

    pipeline.on_step = look
    initial = {name: value.clone() for name, value in build(epochs=2).encode.state_dict().items()}
    run(pipeline, train, dev)
    modes = [entry for entry in seen if isinstance(entry, tuple)]
    assert set(modes[:10]) == {(True, False, False)}
    assert set(modes[10:]) == {(False, True, True)}
    assert not torch.equal(pipeline.encode.state_dict()["1.running_mean"], initial["1.running_mean"])


def test_stage_two_starts_from_the_best_of_stage_one(build, train, dev):
    pipeline, starts = build(), {}
    original = pipeline.start_stage

    def note(index, batch):
        starts.setdefault(index, {name: value.clone() for name, value in pipeline.first.state_dict().items()})
        return original(index, batch)

    pipeline.start_stage = note
    history = run(pipeline, train, dev)
    assert all(torch.equal(starts[1][name], value) for name, value in pipeline.first.state_dict().items())
    keep = counted(dev, pipeline.task)
    scores = infer(pipeline, dev, forward=pipeline.ask_first).scores
    figures = evaluate(scores[keep], dev.target[keep], pipeline.task)
    assert figures["weighted_f1"] == history.stages[0].best.dev["weighted_f1"]
    assert figures["weighted_f1"] == max(epoch.dev["weighted_f1"] for epoch in history.stages[0].epochs)


def test_early_stopping_and_selection(build, train, dev):
    config = replace(CONFIG, epochs=60, patience=3, criterion="loss", learning_rate=0.05)
    stage = run(build(), train, dev, config).stages[1]
    losses = [epoch.dev["loss"] for epoch in stage.epochs]
    assert stage.chosen == losses.index(min(losses)) + 1
    assert len(losses) == stage.chosen + 3 < 60
    last = run(build(), train, None, replace(CONFIG, selection="last", patience=1))
    assert [stage.chosen for stage in last.stages] == [6, 6]
    assert last.stages[0].epochs[0].dev == {}


def test_unlabelled_and_unjudged_rows_have_no_influence_as_targets(build, train, dev):
    torch.manual_seed(8)
    noise = torch.randint(0, 3, (train.utterances,))
    other = replace(train, target=torch.where(train.judged, train.target, noise))
    one, two = build(), build()
    assert run(one, train, dev) == run(two, other, dev)
    assert same_weights(one, two)
    changed = replace(train, target=torch.where(train.judged, noise, train.target))
    three = build()
    run(three, changed, dev)
    assert not same_weights(one, three)


def test_dialogues_without_a_judged_row_make_no_step(build, train, dev):
    silent = replace(train, judged=train.judged & (train.dialogue == 0))
    pipeline, steps = build(), []
    pipeline.on_step = lambda: steps.append(1)
    run(pipeline, silent, dev, replace(CONFIG, epochs=3, batch_size=1))
    assert len(steps) == 2 * 3  # one batch per epoch and stage


def test_training_loss_is_the_mean_over_judged_utterances(build, train, dev):
    class Plain(type(build())):
        def stages(self):
            return [Stage(name="only", module=self.second, forward=self.still)]

        def still(self, batch):
            answer = self.forward(batch)
            answer.auxiliary = {}
            return answer

    pipeline = Plain(build().task)
    pipeline.second[2].p = 0.0
    pipeline.eval()
    history = run(pipeline, train, dev, replace(CONFIG, epochs=1, learning_rate=1e-12, ema=0.0, warmup=0.0))
    scores = infer(pipeline, train).scores.log_softmax(-1)
    rows = [i for i in range(train.utterances) if train.judged[i] and train.target[i] >= 0]
    expected = -sum(float(scores[i, train.target[i]]) for i in rows) / len(rows)
    assert history.stages[0].epochs[0].loss == pytest.approx(expected, rel=1e-4)


def test_score_task(build, batches, score_task):
    train, dev = batches(40, 1, score=True), batches(15, 2, score=True)
    history = run(build(task=score_task), train, dev, replace(CONFIG, epochs=20, criterion="mae"))
    assert history.dev["mae"] < history.stages[0].epochs[0].dev["mae"]
    assert history.dev["pearson"] > 0.5


def test_check_fit_is_what_fit_refuses_first(build, train, dev, tmp_path):
    task = build().task
    assert check_fit(task, train, dev, CONFIG, "cpu").device.type == "cpu"
    silent = replace(dev, judged=torch.zeros_like(dev.judged))
    for message, part, config, device in (
        (r"dev: expected labelled utterances that count in the loss, .* or set training\.selection to 'last'", silent, CONFIG, "cpu"),
        (r"training\.selection: expected 'last'", None, CONFIG, "cpu"),
        (r"training\.criterion: expected one of", dev, replace(CONFIG, criterion="mae"), "cpu"),
        (r"device: expected one of", dev, CONFIG, "tpu"),
        (r"training\.mixed_precision: expected", dev, replace(CONFIG, mixed_precision="fp16"), "cpu"),
    ):
        with pytest.raises((ConfigError, CorpusError), match=message):
            check_fit(task, train, part, config, device)
        with pytest.raises((ConfigError, CorpusError), match=message):
            run(build(), train, part, config, device=device, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_last_epoch_needs_no_labelled_development_part(build, train, dev):
    config = replace(CONFIG, epochs=2, selection="last")
    silent = replace(dev, target=torch.full_like(dev.target, -1))
    one, two = build(), build()
    history = run(one, train, silent, config)
    assert history.dev == {}
    assert history == run(two, train, None, config)
    assert same_weights(one, two)
    assert run(build(), train, dev, config).dev["accuracy"] > 0


def test_a_batch_may_be_larger_than_any_part(build, train, dev):
    one, two = build(), build()
    config = replace(CONFIG, epochs=1)
    assert run(one, train, dev, replace(config, batch_size=2**63 - 1)) == run(two, train, dev, replace(config, batch_size=len(train)))
    assert same_weights(one, two)


def test_refusals(build, train, dev, batches, score_task):
    silent = replace(train, judged=torch.zeros_like(train.judged))
    with pytest.raises(CorpusError, match="train: expected labelled utterances that count in the loss, found none"):
        run(build(), silent, dev)
    with pytest.raises(CorpusError, match="dev: expected labelled utterances that count in the loss, found none"):
        run(build(), train, silent)
    with pytest.raises(ConfigError, match=r"training\.selection: expected 'last'"):
        run(build(), train, None)
    with pytest.raises(ConfigError, match=r"training\.criterion: expected one of .* found 'mae'"):
        run(build(), train, dev, replace(CONFIG, criterion="mae"))
    with pytest.raises(ConfigError, match=r"device: expected one of auto, cpu, cuda, found 'tpu'"):
        run(build(), train, dev, device="tpu")
    with pytest.raises(ConfigError, match=r"training\.mixed_precision: expected a precision that the device supports, found 'fp16'"):
        run(build(), train, dev, replace(CONFIG, mixed_precision="fp16"))
    broken = replace(train, features={"x": train.features["x"] * float("nan")})
    with pytest.raises(ConfigError, match=r"training\.learning_rate: the loss of stage first, epoch 1 is nan"):
        run(build(), broken, dev)


@pytest.mark.parametrize("judged", [True, False])
def test_an_epoch_whose_last_step_diverges_is_refused_and_not_kept(build, train, dev, tmp_path, judged):
    """With one step per epoch the loss is that of the weights before it."""
    config = TrainingConfig(epochs=1, batch_size=100, learning_rate=3e38, selection="dev" if judged else "last")
    with pytest.raises(ConfigError, match=r"training\.learning_rate: the scores after an epoch of stage second are not finite"):
        run(build(), train, dev if judged else None, config, folder=tmp_path)
    weights = load_tensors(tmp_path / BEST)[0]
    assert all(value.isfinite().all() for value in weights.values())
    with pytest.raises(ConfigError, match=r"the development loss after an epoch of stage second is inf; lower the rate \(1e\+37\)"):
        run(build(), train, dev, replace(config, learning_rate=1e37, selection="dev"), folder=tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda(build, train, dev):
    with pytest.raises(ConfigError, match="expected a visible CUDA device, found none"):
        run(build(), train, dev, device="cuda")


def half_way(build, train, dev, folder, steps=17):
    killed = build()
    interrupt_after(killed, steps, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(killed, train, dev, folder=folder)


def test_checkpoints_that_cannot_be_continued(build, train, dev, tmp_path):
    half_way(build, train, dev, tmp_path)
    with pytest.raises(CheckpointError, match=r"learning_rate 0.01 → 0.5.*start in another folder"):
        run(build(), train, dev, replace(CONFIG, learning_rate=0.5), folder=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r"seed 3 → 4"):
        run(build(), train, dev, folder=tmp_path, resume=True, seed=4)
    wide = replace(train, features={"x": train.features["x"].repeat(1, 2)})
    with pytest.raises(CheckpointError, match="the file does not fit this method, or is damaged"):
        run(build(width=10), wide, wide, folder=tmp_path, resume=True)

    path, good = tmp_path / LAST, (tmp_path / LAST).read_bytes()
    for damaged in (
        b"",
        good[: len(good) // 2],
        b"\x80\x04" + good[2:],
        good.replace(b"optimizer.0.exp_avg", b"optimizer.9.exp_avg"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=LAST + ".*; delete it to train this seed again"):
            run(build(), train, dev, folder=tmp_path, resume=True)
    path.write_bytes((tmp_path / BEST).read_bytes())
    with pytest.raises(CheckpointError, match="expected erc_graph training state, version 1, found erc_graph weights, version 1"):
        run(build(), train, dev, folder=tmp_path, resume=True)


def test_full_disk_leaves_the_previous_checkpoint(build, train, dev, tmp_path, monkeypatch):
    expected = build()
    run(expected, train, dev)

    def full(path, tensors, metadata):
        if path.name == LAST and metadata["progress"].count('"seconds"') > 3:
            raise StorageError(f"{path}: no space left on the device")
        original(path, tensors, metadata)

    original = checkpoint.save_tensors
    monkeypatch.setattr(checkpoint, "save_tensors", full)
    with pytest.raises(StorageError, match="no space left"):
        run(build(), train, dev, folder=tmp_path)
    monkeypatch.setattr(checkpoint, "save_tensors", original)
    assert len(History.from_dict(State.load(tmp_path / LAST).history).stages[0].epochs) == 3
    resumed = build()
    run(resumed, train, dev, folder=tmp_path, resume=True)
    assert same_weights(expected, resumed)


def test_really_full_disk(build, train, dev, tmp_path):
    resource = pytest.importorskip("resource")
    half_way(build, train, dev, tmp_path)
    before = (tmp_path / LAST).read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(StorageError, match="could not be written"):
            run(build(), train, dev, folder=tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / LAST).read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {LAST, BEST}


def test_a_run_begun_before_a_setting_existed_can_be_continued(build, train, dev, tmp_path):
    expected = build()
    run(expected, train, dev)
    half_way(build, train, dev, tmp_path)
    state = State.load(tmp_path / LAST)
    assert state.config.pop("batch_tokens") == 0
    state.save(tmp_path / LAST)
    with pytest.raises(CheckpointError, match="batch_tokens 0 → 99"):
        run(build(), train, dev, replace(CONFIG, batch_tokens=99), folder=tmp_path, resume=True)
    resumed = build()
    run(resumed, train, dev, folder=tmp_path, resume=True)
    assert same_weights(expected, resumed)


def test_a_budget_of_utterances_is_kept_and_resumes(build, train, dev, tmp_path):
    config, seen = replace(CONFIG, epochs=2, batch_tokens=24, batch_size=99), []
    pipeline = build()
    original = pipeline.ask_first

    def look(batch):
        if pipeline.first.training:
            seen.append((len(batch), len(batch) * batch.longest))
        return original(batch)

    pipeline.ask_first = look
    run(pipeline, train, dev, config)
    assert max(padded for _, padded in seen) <= 24
    assert len({dialogues for dialogues, _ in seen}) > 2
    killed = build()
    interrupt_after(killed, 25, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(killed, train, dev, config, folder=tmp_path)
    resumed = build(5)
    run(resumed, train, dev, config, folder=tmp_path, resume=True)
    assert same_weights(pipeline, resumed)
