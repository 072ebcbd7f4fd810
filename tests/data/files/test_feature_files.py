from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from erc_graph.data.files.feature_files import join_features, read_features, read_note, write_features
from erc_graph.errors import CorpusError

IDS = ["a", "b", "c"]
ROWS = np.arange(6).reshape(3, 2)


def write(path, form, ids=IDS, rows=ROWS):
    """The same rows in one of the forms; the result is the path to read."""
    if form == "npz":
        np.savez(path / "f.npz", utterance=np.array(ids), features=rows)
        return path / "f.npz"
    if form in ("npy+txt", "npy+json"):
        np.save(path / "f.npy", rows)
        text = "\n".join(ids) + "\n" if form == "npy+txt" else json.dumps(ids)
        (path / f"f.ids.{form[4:]}").write_text(text, encoding="utf-8")
        return path / "f.npy"
    if form == "safetensors":
        save_file({"features": torch.from_numpy(rows.copy())}, path / "f.safetensors", {"utterance": json.dumps(ids)})
        return path / "f.safetensors"
    for name, row in zip(ids, rows, strict=True):
        np.save(path / f"{name}.npy", row)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int8"])
@pytest.mark.parametrize("form", ["npz", "npy+txt", "npy+json", "safetensors", "folder"])
def test_every_form_in_every_type(tmp_path, form, dtype):
    ids, array = read_features(write(tmp_path, form, rows=ROWS.astype(dtype)))
    assert ids == IDS
    assert array.tolist() == ROWS.tolist()


@pytest.mark.parametrize("form", ["npz", "npy+txt", "npy+json", "safetensors", "folder"])
def test_odd_ids(tmp_path, form):
    odd = ["é 😀", "a.b", "1"]
    assert dict(zip(*read_features(write(tmp_path, form, odd)), strict=True)).keys() == set(odd)


def test_ids_as_bytes_and_as_numbers(tmp_path):
    for ids in (np.array([b"x", b"y", b"z"]), np.array([10, 20, 30])):
        np.savez(tmp_path / "f.npz", utterance=ids, features=ROWS)
        assert read_features(tmp_path / "f.npz")[0] == [str(i.decode() if isinstance(i, bytes) else i) for i in ids.tolist()]


def test_bfloat16_is_read(tmp_path):
    save_file({"features": torch.ones(3, 2, dtype=torch.bfloat16)}, tmp_path / "f.safetensors", {"utterance": json.dumps(IDS)})
    assert read_features(tmp_path / "f.safetensors")[1].tolist() == [[1, 1]] * 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": ROWS}, r"no array 'utterance'; expected `utterance` and `features`, found features"),
        ({"utterance": IDS, "x": ROWS}, r"no array 'features'"),
        ({"utterance": ["a", "b"], "features": ROWS}, r"2 utterance ids but 3 rows of features"),
        ({"utterance": ["a", "b", "a"], "features": ROWS}, r"utterance id 'a' occurs twice \(1 duplicate rows\)"),
        ({"utterance": IDS, "features": ROWS[0]}, r"expected features of shape \(utterances, width\), found \(2,\)"),
        ({"utterance": IDS, "features": ROWS[:, :0]}, r"expected features of shape"),
        (
            {"utterance": IDS, "features": np.zeros((3, 4, 2))},
            r"shape \(3, 4, 2\); expected one row per utterance \(2-D\); list a file of sequences under \[sequences\]",
        ),
        ({"utterance": IDS, "features": np.array([["x"], ["y"], ["z"]])}, r"features of type <U1; expected numbers"),
        ({"utterance": IDS, "features": np.zeros((3, 2), complex)}, r"features of type complex128; expected numbers"),
        ({"utterance": [IDS], "features": ROWS}, r"`utterance` has type <U1 and shape \(1, 3\); expected one id per row, as text"),
        ({"utterance": [0.1, 0.2, 0.3], "features": ROWS}, r"`utterance` has type float64"),
    ],
)
def test_archives_that_do_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(CorpusError, match=rf"f\.npz: .*{message}"):
        read_features(tmp_path / "f.npz")


class Hostile:
    ran = False

    def __reduce__(self):
        return (setattr, (Hostile, "ran", True))


@pytest.mark.parametrize("key", ["utterance", "features"])
def test_object_arrays_never_run(tmp_path, key):
    np.savez(tmp_path / "f.npz", **{"utterance": IDS, "features": ROWS, key: np.array([Hostile()] * 3, dtype=object)})
    with pytest.raises(CorpusError, match=r"f\.npz: holds Python objects .*never loaded; save plain arrays"):
        read_features(tmp_path / "f.npz")
    assert not Hostile.ran


def test_broken_archives(tmp_path):
    path = write(tmp_path, "npz")
    whole = path.read_bytes()
    for damaged in (b"", b"PK\x03\x04", whole[: len(whole) // 2], whole[:-30], whole.replace(b"NUMPY", b"XXXXX")):
        path.write_bytes(damaged)
        with pytest.raises(CorpusError, match=r"f\.npz: (not a readable numpy file|holds Python objects)"):
            read_features(path)
    path.write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(CorpusError, match=r"holds Python objects"):
        read_features(path)
    np.save(tmp_path / "one.npy", ROWS)
    (tmp_path / "one.npy").rename(path)
    with pytest.raises(CorpusError, match=r"contains a single array; expected an \.npz archive"):
        read_features(path)
    with pytest.raises(CorpusError, match=r"none\.npz: no such file"):
        read_features(tmp_path / "none.npz")


@pytest.mark.parametrize("name", ["features", "utterance", "features.npy"])
def test_a_member_that_is_no_array(tmp_path, name):
    whole = write(tmp_path, "npz").read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(tmp_path / "f.npz", "w") as new:
        for member in old.namelist():
            if not member.startswith(name[:5]):
                new.writestr(member, old.read(member))
        new.writestr(name, "0.5 0.25\n")
    with pytest.raises(CorpusError, match=rf"f\.npz: the file '{name.removesuffix('.npy')}' in this archive is not a numpy array"):
        read_features(tmp_path / "f.npz")


def test_a_file_under_a_wrong_name(tmp_path):
    write(tmp_path, "npy+txt")
    np.savez(tmp_path / "g.npz", features=ROWS)
    (tmp_path / "g.npz").rename(tmp_path / "f.npy")
    with pytest.raises(CorpusError, match=r"f\.npy: contains an \.npz archive; expected a single array"):
        read_features(tmp_path / "f.npy")
    for name in ("f.npy", "f.npz"):
        (tmp_path / name).write_text("0.5 0.25\n")
        with pytest.raises(CorpusError, match=rf"{name}: the content is not in the format \.npy or \.npz"):
            read_features(tmp_path / name)
    np.savez(tmp_path / "f.npz", utterance=np.array(IDS), features=np.array(IDS))
    with pytest.raises(CorpusError, match=r"f\.npz: features of type <U1; expected numbers"):
        read_features(tmp_path / "f.npz")


def test_links_out_of_the_folder(tmp_path):
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "elsewhere.npy", np.ones(2))
    np.save(tmp_path / "f" / "a.npy", np.ones(2))
    (tmp_path / "f" / "b.npy").symlink_to("a.npy")  # stays within
    assert read_features(tmp_path / "f")[0] == ["a", "b"]
    (tmp_path / "f" / "c.npy").symlink_to("../elsewhere.npy")
    with pytest.raises(
        CorpusError, match=r"c\.npy: a symbolic link to a file outside the folder of the link; copy the file into this folder"
    ):
        read_features(tmp_path / "f")
    (tmp_path / "f" / "c.npy").unlink()
    (tmp_path / "f" / "c.npy").symlink_to("c.npy")
    with pytest.raises(CorpusError, match=r"c\.npy: a symbolic link to a file outside the folder of the link"):
        read_features(tmp_path / "f")


@pytest.mark.parametrize("kind", ["txt", "json"])
def test_an_id_list_that_is_a_link_out_of_the_folder(tmp_path, kind):
    (tmp_path / "f").mkdir()
    path = write(tmp_path / "f", f"npy+{kind}")
    (tmp_path / "f" / f"f.ids.{kind}").rename(tmp_path / "ids")
    (tmp_path / "f" / f"f.ids.{kind}").symlink_to("../ids")
    with pytest.raises(CorpusError, match=rf"f\.ids\.{kind}: a symbolic link to a file outside the folder of the link"):
        read_features(path)


def test_an_archive_that_claims_more_than_there_is(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**15, 10)})
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as archive:
        archive.writestr("features.npy", header.getvalue())
        archive.writestr("utterance.npy", header.getvalue())
    with pytest.raises(CorpusError, match=r"f\.npz: (contains an array that does not fit|not a readable numpy file)"):
        read_features(tmp_path / "f.npz")


def test_id_lists(tmp_path):
    np.save(tmp_path / "f.npy", ROWS)
    with pytest.raises(CorpusError, match=r"no utterance ids in the same folder; expected f\.ids\.txt"):
        read_features(tmp_path / "f.npy")
    beside = tmp_path / "f.ids.json"
    for text, message in (
        ("[1, 2, 3]", "expected a JSON list of utterance ids"),
        ("[", "not valid JSON"),
        ("[" * 99999, "not valid JSON"),
        (f"[{'1' * 5000}]", "not valid JSON"),
    ):
        beside.write_text(text)
        with pytest.raises(CorpusError, match=rf"f\.ids\.json: .*{message}"):
            read_features(tmp_path / "f.npy")
    beside.write_bytes(b"\xff\xfe")
    with pytest.raises(CorpusError, match="not readable as UTF-8 text"):
        read_features(tmp_path / "f.npy")


def test_safetensors_that_do_not_fit(tmp_path):
    path = tmp_path / "f.safetensors"
    for tensors, metadata, message in (
        ({"x": torch.ones(3, 2)}, {"utterance": "[]"}, "no tensor 'features'; found x"),
        ({"features": torch.ones(3, 2)}, {"utterance": f"[{'1' * 5000}]"}, "the utterance ids are not valid JSON"),
        ({"features": torch.ones(3, 2)}, {}, "no key 'utterance'"),
        ({"features": torch.ones(3, 2)}, {"utterance": "a b"}, "the utterance ids are not valid JSON"),
    ):
        save_file(tensors, path, metadata)
        with pytest.raises(CorpusError, match=rf"f\.safetensors: {message}"):
            read_features(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorpusError, match=r"f\.safetensors: not a readable safetensors file"):
        read_features(path)


def test_folders_that_do_not_fit(tmp_path):
    with pytest.raises(CorpusError, match=r"a folder without \.npy files"):
        read_features(tmp_path)
    np.save(tmp_path / "a.npy", np.ones(3))
    np.save(tmp_path / "b.npy", np.ones(4))
    with pytest.raises(CorpusError, match=r"b\.npy: expected a vector of 3 numbers, found an array of shape \(4,\)"):
        read_features(tmp_path)
    np.save(tmp_path / "b.npy", np.ones((7, 3)))
    with pytest.raises(CorpusError, match=r"b\.npy: expected one vector per utterance \(1-D\), found a sequence of shape \(7, 3\)"):
        read_features(tmp_path)
    np.save(tmp_path / "b.npy", np.array(["x", "y", "z"]))
    with pytest.raises(CorpusError, match=r"b\.npy: features of type <U1"):
        read_features(tmp_path)
    (tmp_path / "b.npy").write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(CorpusError, match=r"b\.npy: contains an \.npz archive; expected a single array"):
        read_features(tmp_path)


def test_unknown_forms(tmp_path):
    (tmp_path / "f.mat").write_text("x")
    with pytest.raises(CorpusError, match=r"f\.mat: not a feature file; expected \.npz with"):
        read_features(tmp_path / "f.mat")


NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(NAMES.filter(bool), NAMES, st.sets(st.sampled_from("abcdefgh"), max_size=2))
def test_the_join_by_loop(utterances, ids, spoilt):
    array = np.array([[ord(name), 0.5] for name in ids]).reshape(len(ids), 2)
    for i, name in enumerate(ids):
        if name in spoilt:
            array[i, 1] = (np.nan, np.inf, -np.inf, 1e300)[i % 4]  # one number is enough to mask the row
    if not set(utterances) & set(ids):
        with pytest.raises(
            CorpusError, match=r"features: none of the \d rows has the id of an utterance .*the features belong to another corpus"
        ):
            join_features(ids, array, utterances)
        return
    features, present, report = join_features(ids, array, utterances)
    assert features.dtype == np.float32 and features.shape == (len(utterances), 2)
    for i, name in enumerate(utterances):
        there = name in ids and name not in spoilt
        assert present[i] == there
        assert features[i].tolist() == ([ord(name), 0.5] if there else [0, 0])
    text = " ".join(report)
    left_over = [name for name in ids if name not in utterances]
    bad = [name for name in utterances if name in ids and name in spoilt]
    absent = [name for name in utterances if name not in ids]
    for names, sentence in (
        (left_over, f"{len(left_over)} of {len(ids)} rows match no utterance (first: {', '.join(left_over[:3])})"),
        (bad, f"{len(bad)} rows with NaN, inf or numbers beyond 1e15 are masked as missing (first: {', '.join(bad[:3])})"),
        (absent, f"{len(absent)} of {len(utterances)} utterances have no row and count as missing (first: {', '.join(absent[:3])})"),
    ):
        assert (sentence in text) == bool(names)
    assert len(report) == bool(left_over) + bool(bad) + bool(absent)
    if bad:
        with pytest.raises(
            CorpusError,
            match=rf"{len(bad)} rows with NaN, inf or numbers beyond 1e15 \(first: {bad[0]}.*which the option `strict` does not allow",
        ):
            join_features(ids, array, utterances, strict=True)


def test_what_is_written_is_read_with_its_note(tmp_path):
    write_features(tmp_path / "f.safetensors", IDS, torch.from_numpy(ROWS.astype(np.float32)), {"extractor": "m:layer=1", "cut": 2})
    ids, array = read_features(tmp_path / "f.safetensors")
    assert ids == IDS and np.array_equal(array, ROWS)
    assert read_note(tmp_path / "f.safetensors") == {"extractor": "m:layer=1", "cut": 2}
    for form in ("npz", "safetensors", "folder"):
        assert read_note(write(tmp_path, form)) == {}
    save_file({"features": torch.zeros(1, 1)}, tmp_path / "g.safetensors", {"note": "[" * 10000})
    assert read_note(tmp_path / "g.safetensors") == read_note(tmp_path / "nowhere.safetensors") == {}
