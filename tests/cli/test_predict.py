from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markupsafe import escape

from erc_graph.cli.main import main
from erc_graph.cli.predict import make_parser, meter, table
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import TASKS
from erc_graph.inference.answer import Answer
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.pairwise import Pairwise
from erc_graph.methods.schema import Schema

TALK = "Ann: We won!\nBob: really?\nAnn: you are joking \x1b[31m\n"


@pytest.fixture(scope="session")
def model(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of text and audio whose text encoder is known."""
    torch.manual_seed(0)
    schema = Schema(widths={"audio": 3, "text": 24}, task=TASKS["meld7"], provenance={"extractors": {"text": str(tiny_encoder)}})
    folder = tmp_path_factory.mktemp("models")
    Pipeline(Pairwise(schema)).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    (tmp_path / "talk.txt").write_text(TALK, encoding="utf-8")
    return tmp_path / "talk.txt"


def turns(out: str) -> list[dict[str, Any]]:
    """What `--json` prints, without its notes."""
    value = json.loads(out)
    assert list(value) == ["notes", "turns"]
    found: list[dict[str, Any]] = value["turns"]
    return found


def test_a_table_of_eighty_columns(model: Path, talk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["predict", "--model", str(model), str(talk)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["turn", "speaker", "emotion", "p", "text"]
    assert [line.split()[:2] for line in lines[2:]] == [["0", "Ann"], ["1", "Bob"], ["2", "Ann"]]
    assert all(line.split()[2] in TASKS["meld7"].labels for line in lines[2:])
    assert max(map(len, lines)) <= 80 and "\x1b" not in out
    assert err.count("note: audio:") == 1 and "missing" in err


def test_json_and_csv_say_the_same(model: Path, talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--model", str(model), "--json", str(talk)]) == 0
    rows = turns(capsys.readouterr().out)
    assert [set(row) for row in rows] == [{"turn", "speaker", "text", "emotion", "probabilities"}] * 3
    assert [(row["turn"], row["speaker"]) for row in rows] == [(0, "Ann"), (1, "Bob"), (2, "Ann")]
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in rows)
    assert main(["predict", "--model", str(model), "--csv", str(talk)]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["emotion"] for row in table] == [row["emotion"] for row in rows]
    assert float(table[0]["p(joy)"]) == pytest.approx(rows[0]["probabilities"]["joy"], abs=1e-6)


def test_several_conversations_are_named(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two.json").write_text(json.dumps([[{"text": "hello"}], [{"text": "you won"}, {"text": "really"}]]))
    assert main(["predict", "--model", str(model), "--json", str(tmp_path / "two.json")]) == 0
    assert [(row["dialogue"], row["turn"]) for row in turns(capsys.readouterr().out)] == [
        ("dialogue-0", 0), ("dialogue-1", 0), ("dialogue-1", 1),
    ]  # fmt: skip
    assert main(["predict", "--model", str(model), str(tmp_path / "two.json")]) == 0
    assert capsys.readouterr().out.count("dialogue-") == 2
    for name, files in (("g.html", ["g.html"]), ("h.svg", ["h-dialogue-0.svg", "h-dialogue-1.svg"])):
        assert main(["predict", "--model", str(model), "--draw", str(tmp_path / name), str(tmp_path / "two.json")]) == 0
        assert [Path(line[7:]).name for line in capsys.readouterr().err.splitlines() if line.startswith("drawn: ")] == files
        assert all((tmp_path / file).stat().st_size > 1000 for file in files)


@pytest.mark.parametrize("name", ["g.svg", "g.png", "g.html", "g.graphml"])
def test_the_graph_is_drawn(model: Path, talk: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--model", str(model), "--json", "--draw", str(tmp_path / name), str(talk)]) == 0
    assert (tmp_path / name).stat().st_size > 2000
    out, err = capsys.readouterr()
    assert len(turns(out)) == 3 and f"drawn: {tmp_path / name}" in err


def test_the_sound_beside_a_transcript_is_heard(tiny_encoder: Path, talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile = pytest.importorskip("soundfile")
    torch.manual_seed(0)
    made = {"extractors": {"text": str(tiny_encoder), "audio": "mfcc"}}
    schema = Schema(widths={"audio": 40, "text": 24}, task=TASKS["meld7"], provenance=made)
    Pipeline(BiGRU(schema, BiGRUConfig(width=8))).save_pretrained(tmp_path / "model")
    command = ["predict", "--model", str(tmp_path / "model"), "--json", str(talk)]
    assert main(command) == 0
    silent = capsys.readouterr()
    assert "audio (mfcc): not in the input, and cannot be computed here" in silent.err
    soundfile.write(tmp_path / "talk_1.wav", torch.randn(8000, generator=torch.Generator().manual_seed(0)).numpy() / 8, 16_000)
    assert main(command) == 0
    heard = capsys.readouterr()
    assert heard.err == "" and heard.out != silent.out
    (tmp_path / "talk_2.wav").write_text("no sound")
    assert main(command) == 0
    assert capsys.readouterr().err.startswith("note: talk_2.wav: not a readable audio file")


def test_a_labelled_conversation_is_drawn_beside_its_labels(tmp_path: Path) -> None:
    corpus = sample_corpus(dialogues=4, seed=1)
    Pipeline(Pairwise(Schema.of(corpus))).save_pretrained(tmp_path / "model")
    corpus.subset(corpus.dialogue_ids[:1]).save(tmp_path / "one")
    assert main(["predict", "--model", str(tmp_path / "model"), "--csv", "--draw", str(tmp_path / "g.svg"), str(tmp_path / "one")]) == 0
    assert "predicted" in (tmp_path / "g.svg").read_text(encoding="utf-8")


def test_a_line_that_is_no_json_is_named(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text('{"speaker":"A","text":"hi"}\n\n{"speaker":"B","text":"oh"}\nnot json\n')
    assert main(["predict", "--model", str(model), str(path)]) == 2
    assert f"error: {path}: line 4 is not valid JSON; expected an object or a list, and the line may belong to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required"),
        (["--model", "MODEL", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["--model", "./nowhere", "TALK"], "no such file or folder"),
        (
            ["--model", "MODEL", "--draw", "g.gif", "TALK"],
            "--draw: expected a file name ending in .png, .svg, .graphml, .html, found 'g.gif'",
        ),
        (["--model", "MODEL", "--extractor", "text", "TALK"], "--extractor: expected NAME=ENCODER"),
        (["--model", "MODEL", "--extractor", "text=./nothing", "TALK"], "text encoder './nothing'"),
        (["--model", "MODEL", "--json", "--csv", "TALK"], "not allowed with"),
    ],
)
def test_one_line_and_two(
    arguments: list[str], message: str, model: Path, talk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(talk.parent)
    replaced = [{"MODEL": str(model), "TALK": str(talk)}.get(argument, argument) for argument in arguments]
    assert main(["predict", *replaced]) == 2
    out, err = capsys.readouterr()
    assert message in err and out == ""
    assert arguments == [] or "usage" in err or err.count("\n") == 1


def test_a_method_without_a_graph_cannot_be_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = sample_corpus(dialogues=3, seed=1)
    Pipeline(BiGRU(Schema.of(corpus), BiGRUConfig(width=8))).save_pretrained(tmp_path / "model")
    corpus.subset(corpus.dialogue_ids[:1]).save(tmp_path / "one")
    assert main(["predict", "--model", str(tmp_path / "model"), "--draw", str(tmp_path / "g.svg"), str(tmp_path / "one")]) == 2
    assert "the method BiGRU builds no graph" in capsys.readouterr().err


def test_help_fits_and_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert max(map(len, make_parser().format_help().splitlines())) <= 80
    code = "import sys; from erc_graph.cli.main import main; main(['predict', '--help']); assert 'torch' not in sys.modules"
    assert "examples:" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.mark.slow
def test_a_pipe_in_and_a_closed_one_out(model: Path) -> None:
    """A fresh process, ASCII terminal: the heavy libraries stay out, and nobody who stops reading sees a traceback."""
    code = f"""
import sys
from erc_graph.cli.main import main
code = main(["predict", "--model", {str(model)!r}, "-"])
loaded = [name for name in ("torch_geometric", "transformers", "matplotlib", "pandas", "torch._dynamo", "scipy") if name in sys.modules]
print(loaded, file=sys.stderr)
sys.exit(code)
"""
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], input=TALK.encode(), capture_output=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0 and done.stderr.endswith(b"[]\n"), done.stderr
    assert b"##" in done.stdout or b"#" in done.stdout
    command = f"{sys.executable} -m erc_graph predict --model {model} --json - | head -c 1"
    done = subprocess.run(["bash", "-c", command], input=TALK.encode() * 150, capture_output=True, timeout=300, check=False)
    assert done.stdout == b"{" and b"Traceback" not in done.stderr


def test_ctrl_c(model: Path, talk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("erc_graph.inference.labeller.prepare", stop)
    assert main(["predict", "--model", str(model), str(talk)]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_table_of_scores_and_of_wide_characters() -> None:
    row = Answer(dialogue="d", turn=0, speaker="王" * 30, text="日本" * 60, emotion="joy", probabilities={"joy": 0.5, "fear": 0.5})
    lines = table([row], width=60).splitlines()
    assert all(sum(2 if ord(c) > 0x2E80 else 1 for c in line) <= 60 for line in lines)
    assert "".join(lines).count("日") == 60
    scored = table([replace(row, probabilities={}, score=0.8, emotion="+0.8")])
    assert " p " not in scored.splitlines()[0] and "+0.8" in scored


@pytest.mark.parametrize(("share", "bar"), [(0, ""), (1, "████████"), (0.5, "████"), (0.52, "████▏")])
def test_bars(share: float, bar: str) -> None:
    assert meter(share) == bar


TEXT = st.text(max_size=20)
TURN = st.fixed_dictionaries(
    {},
    optional={
        "speaker": TEXT | st.none() | st.integers(),
        "text": TEXT | st.none() | st.floats(),
        "turn": st.integers(-3, 3) | TEXT,
        "dialogue": TEXT,
        "features": st.none() | st.dictionaries(st.sampled_from(["text", "audio", "x"]), st.lists(st.floats() | st.integers(), max_size=3)),
    },
)
INPUT = (
    st.lists(TURN, max_size=4).map(lambda turns: json.dumps(turns).encode())
    | st.lists(st.tuples(TEXT, TEXT), max_size=4).map(lambda lines: "\n".join(f"{a}: {b}" for a, b in lines).encode("utf-8", "replace"))
    | st.binary(max_size=40)
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=INPUT, form=st.sampled_from([["--json"], ["--csv"], []]))
def test_a_fuzzed_conversation_never_ends_in_a_traceback(
    model: Path, tmp_path: Path, content: bytes, form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fuzz").write_bytes(content)
    code = main(["predict", "--model", str(model), *form, str(tmp_path / "fuzz")])
    out, err = capsys.readouterr()
    assert code in (0, 2) and "Traceback" not in err
    assert (code == 2) == any(line.startswith("error: ") for line in err.splitlines())
    if code == 0 and form == ["--json"]:
        for row in turns(out):
            assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)


CUES = "WEBVTT\n\n00:00:03.120 --> 00:00:05.000\n<v Ann Berg>we won</v>\n\n01:00:05.400 --> 01:00:07.900\n<v Bob>really</v>\n"


def test_times_come_out_again(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "talk.vtt").write_text(CUES)
    (tmp_path / "chat.txt").write_text("5/4/19, 14:59 - Ann: we won\n5/4/19, 15:00 - Bob: <Media omitted>\n5/4/19, 15:01 - Bob: really\n")
    command = ["predict", "--model", str(model), str(tmp_path / "talk.vtt")]
    assert main(command) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:3] == ["turn", "time", "speaker"] and [line.split()[1] for line in table[2:4]] == ["0:03", "1:00:05"]
    assert main([*command, "--json"]) == 0
    assert [(row["start"], row["end"]) for row in turns(capsys.readouterr().out)] == [(3.12, 5.0), (3605.4, 3607.9)]
    assert main([*command, "--csv"]) == 0
    assert capsys.readouterr().out.startswith("dialogue,turn,start,end,speaker,text,emotion")
    command[-1] = str(tmp_path / "chat.txt")
    assert main(command) == 0
    assert "5/4/19, 14:59" in capsys.readouterr().out
    assert main([*command, "--csv"]) == 0
    assert [row["time"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == ["5/4/19, 14:59", "5/4/19, 15:01"]


def test_what_is_assumed_is_a_note(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "talk.csv").write_text('text,mood\nwe won,x\nreally,"y"\n')
    assert main(["predict", "--model", str(model), "--json", str(tmp_path / "talk.csv")]) == 0
    out, err = capsys.readouterr()
    notes = json.loads(out)["notes"]
    assert [line.removeprefix("note: ") for line in err.splitlines()] == notes
    assert [re.split("[:,]", note)[0] for note in notes] == [
        "columns not used for labels", "no speakers are named (CSV; columns", "no dialogues are named", "audio",
    ]  # fmt: skip
    assert main(["predict", "--model", str(model), "--csv", str(tmp_path / "talk.csv")]) == 0
    assert [row["mood"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == ["x", "y"]
    (tmp_path / "long.txt").write_text(f"Ann: {'we won ' * 40}\n")
    assert main(["predict", "--model", str(model), str(tmp_path / "long.txt")]) == 0
    assert "note: 1 utterance is longer than 32 tokens" in capsys.readouterr().err


def test_of_what_is_refused_the_error_alone_is_said(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "talk.html").write_text("<html><body>Ann: Hi</body></html>")
    assert main(["predict", "--model", str(model), str(tmp_path / "talk.html")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ") and "this is a web page (HTML)" in err


def page_of(path: Path) -> tuple[str, dict[str, Any]]:
    """A page, and the data of its scripts."""
    text = path.read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    return text, found


def test_a_page_for_people(model: Path, talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", "--model", str(model), str(talk), "--html", str(tmp_path / "new" / "talk.html")]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert out.startswith("turn  speaker") and f"written: {tmp_path / 'new' / 'talk.html'}" in err
    text, found = page_of(tmp_path / "new" / "talk.html")
    assert "<h1>talk.txt</h1>" in text and "Pairwise reads audio and text" in text
    (shown,) = found["conversations"]
    assert shown["t"] == ["We won!", "really?", "you are joking \x1b[31m"] and shown["n"] == ["Ann", "Bob"] and "u" not in shown
    assert main([*command, "--json", "--draw", str(tmp_path / "graph.html")]) == 0
    out, err = capsys.readouterr()
    assert [found["labels"][kind] for kind in shown["p"]] == [row["emotion"] for row in turns(out)]
    assert shown["q"] == [round(100 * p) for row in turns(out) for p in row["probabilities"].values()]
    assert "drawn: " in err and "written: " in err and (tmp_path / "graph.html").is_file()


def test_several_conversations_and_what_is_noted_are_on_the_page(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "das hier versteht der kleine Kodierer bestimmt nicht weil er nur wenige englische kennt"
    (tmp_path / "two.json").write_text(json.dumps([[{"text": words}], [{"text": "you won", "start": 62.5}, {"text": "really"}]]))
    assert main(["predict", "--model", str(model), str(tmp_path / "two.json"), "--html", str(tmp_path / "two.htm"), "--csv"]) == 0
    noted = [line.removeprefix("note: ") for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    text, found = page_of(tmp_path / "two.htm")
    assert [one["i"] for one in found["conversations"]] == ["dialogue-0", "dialogue-1"] and found["conversations"][1]["w"] == ["1:02", ""]
    assert any("if the language or domain differs from that of the encoder" in note for note in noted) and len(noted) > 1
    assert re.findall(r'<p class="note" role="note">(.*?)</p>', text) == [str(escape(note)) for note in noted]


def test_unsure_turns_are_marked_everywhere(model: Path, talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", "--model", str(model), str(talk)]
    assert main([*command, "--json"]) == 0
    sure = [max(row["probabilities"].values()) for row in turns(capsys.readouterr().out)]
    middle = sorted(sure)[1]  # itself not below
    wanted = [chance < middle for chance in sure]
    assert sum(wanted) == 1
    command += ["--unsure", repr(middle)]
    assert main([*command, "--json", "--html", str(tmp_path / "talk.html")]) == 0
    alone = turns(capsys.readouterr().out)
    assert [row["unsure"] for row in alone] == wanted
    text, found = page_of(tmp_path / "talk.html")
    assert found["conversations"][0]["u"] == [wanted.index(True)] and "1 of 3" in text
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[3] == "?" for line in lines] == wanted
    assert main([*command, "--csv"]) == 0
    printed = capsys.readouterr().out
    assert [row["unsure"] for row in csv.DictReader(io.StringIO(printed))] == [str(mark).lower() for mark in wanted]
    for form, name in (("--json", "talk.txt.jsonl"), ("--csv", "talk.txt.csv")):
        assert main([*command, form, "--out", str(tmp_path / form[2:])]) == 0
        written = (tmp_path / form[2:] / name).read_text()
        assert written == printed if form == "--csv" else [json.loads(line)["unsure"] for line in written.splitlines()] == wanted
    capsys.readouterr()
    assert main([*command[:-1], "1", "--json", "--out", str(tmp_path / "json")]) == 2
    assert "made with another value of --unsure; repeat the earlier options" in capsys.readouterr().err


def test_unsure_turns_of_parquet(model: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist([{"text": "we won", "unsure": "mine"}, {"text": "really"}]), tmp_path / "talk.parquet")
    for bound, mark in (("0", False), ("1", True)):
        out = tmp_path / bound
        assert main(["predict", "--model", str(model), str(tmp_path / "talk.parquet"), "--unsure", bound, "--out", str(out)]) == 0
        rows = parquet.read_table(out / "talk.parquet.parquet").to_pylist()
        assert [(row["unsure"], row["given_unsure"]) for row in rows] == [(mark, "mine"), (mark, None)]


def test_scores_have_a_page_and_no_probability(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = Schema(widths={"text": 3}, task=TASKS["sentiment"])
    Pipeline(BiGRU(schema, BiGRUConfig(width=8))).save_pretrained(tmp_path / "model")
    (tmp_path / "talk.json").write_text(json.dumps([{"text": f"{n}", "features": {"text": [n, 1, -n]}} for n in range(3)]))
    command = ["predict", "--model", str(tmp_path / "model"), "--html", str(tmp_path / "a.html"), str(tmp_path / "talk.json")]
    assert main([*command, "--json"]) == 0
    rows = turns(capsys.readouterr().out)
    _, found = page_of(tmp_path / "a.html")
    assert found["labels"] == ["-3", "-2", "-1", "+0", "+1", "+2", "+3"]
    assert found["conversations"][0]["v"] == [value for row in rows for value in (None, round(row["score"], 1))]
    assert [kind - 3 for kind in found["conversations"][0]["p"]] == [round(row["score"]) for row in rows]
    for more in ([], ["--out", str(tmp_path / "out")]):
        command = ["predict", "--model", str(tmp_path / "model"), str(tmp_path / "talk.json"), "--unsure", "0.5", *more]
        assert main(command) == 2
        assert "--unsure: expected a model that predicts emotions, found one that predicts a score" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--html", "a.txt", "TALK"], "--html: expected a file name ending in .html, found 'a.txt'"),
        (["--html", "a.html", "--out", "labelled", "TALK"], "--html: expected one input and no --out"),
        (["--html", "a.html", "TALK", "TALK"], "--html: expected one input and no --out"),
        (["--html", "a.html", "--draw", "a.html", "TALK"], "--html: a.html is already the input or the file of --draw; give another"),
        (["--html", "a.html", "./a.html"], "--html: a.html is already the input or the file of --draw; give another"),
        (["--html", "TALK/a.html", "TALK"], "could not be written"),
        *(
            (["--unsure", value, "TALK"], f"argument --unsure: expected a probability from 0 to 1, found '{value}'")
            for value in ("1.5", "-0.1", "nan", "50%", "")
        ),
    ],
)
def test_pages_and_marks_that_cannot_be(
    arguments: list[str], message: str, model: Path, talk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(talk.parent)
    assert main(["predict", "--model", str(model), *(argument.replace("TALK", str(talk)) for argument in arguments)]) == 2
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert len(errors) == 1 and message in errors[0] and out == ""
    assert [file.name for file in talk.parent.iterdir()] == ["talk.txt"]
