from __future__ import annotations

import os

import pytest

from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.manifest import read_manifest
from erc_graph.errors import CorpusError


@pytest.fixture
def write(tmp_path):
    """Write a manifest into a folder with two files; the result is the manifest's path."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.csv").write_text("x")
    (folder / "text.npz").write_text("x")
    (tmp_path / "outside.csv").write_text("x")

    def write(text: str | bytes):
        path = folder / "corpus.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_whole_manifest(write):
    path = write(
        '\ufeffdataset = "meld"\nname = "mine"\nannotations = ["a.csv", "a.csv"]\ntask = "meld3"\nlabels = ["yes", "no"]\n'
        '[features]\ntext = "./text.npz"\n[extractors]\ntext = "free words"\n'
    )
    manifest = read_manifest(path)
    assert manifest.annotations == [path.parent / "a.csv"] * 2
    assert manifest.features == {"text": path.parent / "text.npz"}
    assert (manifest.dataset, manifest.name, manifest.task, manifest.labels) == ("meld", "mine", "meld3", ["yes", "no"])
    assert manifest.extractors == {"text": "free words"}
    assert manifest.splits is None


def test_one_file_is_enough(write):
    path = write('annotations = "a.csv"')
    assert read_manifest(path).annotations == [path.parent / "a.csv"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'datset = "meld"',
            r"datset: unknown key; known: annotations, dataset, splits, features, sequences, extractors, task, labels, name",
        ),
        ("dataset = 7", r"dataset: expected a valid string; found 7"),
        ('dataset = ""', r"dataset: String expected at least 1 character; found ''"),
        ('task = "iemocap5"', r"task: expected one of dailydialog7, .*; found 'iemocap5'"),
        ('labels = ["a"]', r"labels: expected two or more different names in index order; found \['a'\]"),
        ('labels = ["a", "a"]', r"labels: expected two or more different names"),
        ("labels = [1, 2]", r"labels\.0: expected a valid string; found 1\n  labels\.1: "),
        ('splits = "none.json"', r"splits: no such file in .*mine; found 'none.json'"),
        ('splits = ["a.csv"]', r"splits: expected the path of a file, relative to the manifest, as a string"),
        ('splits = "a\\u0000b"', r"splits: expected the path of a file"),
        (
            '[features]\ntext = "../outside.csv"',
            r"features\.text: expected a path within the manifest's folder, .*found '../outside.csv'",
        ),
        ('[features]\ntext = "/etc/passwd"', r"features\.text: expected a path within the manifest's folder"),
        ('[features]\ntext = "C:\\\\data\\\\x.npz"', r"features\.text: expected a path within the manifest's folder"),
        ('[features]\ntext = "link.csv"', r"features\.text: a link leads out of the manifest's folder; copy the file into the folder"),
        ('[features]\n"te.xt" = "text.npz"', r"features: modality 'te.xt': expected letters, digits and '_'"),
        ('features = "text.npz"', r"features: expected a valid dictionary; found 'text.npz'"),
        ("[extractors]\ntext = 1", r"extractors\.text: expected a valid string; found 1"),
    ],
)
def test_what_is_wrong_is_named(write, line, message):
    path = write(f'annotations = "a.csv"\n{line}\n')
    os.symlink(path.parent.parent / "outside.csv", path.parent / "link.csv")
    with pytest.raises(CorpusError, match=message) as error:
        load_corpus(path.parent)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("line", ["", "annotations = []", "annotations = 3", "[annotations]\na = 'a.csv'"])
def test_annotations_are_needed(write, line):
    with pytest.raises(CorpusError, match=r"one problem\n  annotations: .*expected"):
        read_manifest(write(line))


def test_all_problems_come_at_once(write):
    path = write('annotations = ["none.pkl", "a.csv"]\ncolour = 1\ntask = "x"\n[features]\ntext = "no.npz"\naudio = "text.npz"\n')
    with pytest.raises(CorpusError, match=r"4 problems") as error:
        load_corpus(path)
    for part in ("annotations.0: no such file", "colour: unknown key", "task: expected one of", "features.text: no such file"):
        assert part in str(error.value)


def test_links_in_a_circle(write):
    path = write('annotations = "one.csv"')
    os.symlink("two.csv", path.parent / "one.csv")
    os.symlink("one.csv", path.parent / "two.csv")
    with pytest.raises(CorpusError, match=r"annotations\.0: (the path cannot be followed|no such file)"):
        load_corpus(path)


def test_a_name_too_long_for_the_file_system(write):
    with pytest.raises(CorpusError, match=r"annotations\.0: (the path cannot be followed|no such file)"):
        read_manifest(write(f'annotations = "{"x" * 5000}"'))


def test_links_within_the_folder_are_fine(write):
    path = write('annotations = "link.csv"')
    os.symlink("a.csv", path.parent / "link.csv")
    assert read_manifest(path).annotations == [path.parent / "link.csv"]


def test_what_is_not_toml(write):
    with pytest.raises(CorpusError, match=r"corpus\.toml: not valid TOML: .*line 2"):
        load_corpus(write('annotations = "a.csv"\nlabels = [1,,2]').parent)


def test_a_manifest_that_cannot_be_read(tmp_path):
    with pytest.raises(CorpusError, match=r"none\.toml: cannot be read \(No such file"):
        read_manifest(tmp_path / "none.toml")
