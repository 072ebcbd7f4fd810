from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erc_graph.data.files.toml import read_toml
from erc_graph.errors import ConfigError, CorpusError


def test_values(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes('\ufeffa = 1\n[b]\nc = ["ü"]\n'.encode())
    assert read_toml(path, ConfigError) == {"a": 1, "b": {"c": ["ü"]}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = ", r"a\.toml: not valid TOML: Invalid value"),
        (b"a = 1\na = 2\n", r"not valid TOML: .*line 2"),
        (b'name = "\xff"', "expected UTF-8 text, found byte 0xff at 8"),
        (b"a = " + b"[" * 100_000, "not valid TOML: nested too deeply"),
        (b".".join([b"a"] * 400) + b" = 1", "not valid TOML: nested too deeply"),
        (b"a = " + b"9" * 5000, "not valid TOML: Exceeds the limit"),
    ],
)
def test_what_is_no_toml_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        read_toml(tmp_path / "a.toml", CorpusError)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^graph recipe .*none\.toml: cannot be read \(No such file"):
        read_toml(tmp_path / "none.toml", ConfigError, what="graph recipe")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory"):
        read_toml(tmp_path, ConfigError)
    with pytest.raises(ConfigError, match="null byte"):
        read_toml("a\0.toml", ConfigError)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text("[]{}=\"'#\n. a1-:", max_size=60).map(str.encode))
def test_a_fuzzed_file_is_read_or_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    try:
        assert isinstance(read_toml(tmp_path / "a.toml", ConfigError), dict)
    except ConfigError as error:
        assert str(tmp_path) in str(error)
