"""Pictures appear complete or not at all, and text in them is text."""

from __future__ import annotations

from pathlib import Path

import pytest

from erc_graph.errors import ConfigError, StorageError
from erc_graph.report.figure import picture


def draw(path: Path, text: str = "a $x^2$ b") -> None:
    with picture(path, 2, 1) as figure:
        axes = figure.add_subplot()
        axes.set_title(text)
        axes.set_xticks([0, 1], [text, "100 $"])


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")])
def test_kinds(tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / "new" / f"picture{suffix}"
    draw(path)
    assert path.read_bytes().startswith(start)
    assert list(path.parent.iterdir()) == [path]


def test_the_same_picture_gives_the_same_file(tmp_path: Path) -> None:
    for suffix in (".png", ".svg", ".pdf"):
        draw(tmp_path / f"a{suffix}")
        draw(tmp_path / f"b{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("text", ["a $x^2$ b", r"$\frac{", "50 $ and 60 $", r"\alpha_{", "😀 喜び", "tab\there"])
def test_text_is_data(tmp_path: Path, text: str) -> None:
    draw(tmp_path / "a.png", text)
    draw(tmp_path / "a.svg", text)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_dollars_are_drawn_as_dollars(tmp_path: Path) -> None:
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().count("a $x^2$ b") >= 2  # title and tick


def test_a_failure_leaves_the_old_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    draw(path)
    old = path.read_bytes()
    with pytest.raises(RuntimeError, match="in between"), picture(path, 2, 1) as figure:
        figure.add_subplot()
        raise RuntimeError("in between")
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def test_other_file_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a file name ending in .png, .svg, .pdf, found 'a.gif'"):
        draw(tmp_path / "a.gif")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="could not be written"):
        draw(tmp_path / "file" / "a.png")


def test_no_global_state(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw(tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before
