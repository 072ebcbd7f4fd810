from __future__ import annotations

import sys

import pytest
import torch

from erc_graph.errors import ConfigError
from erc_graph.features.functionals import Functionals


def test_is10_has_1582_numbers_and_hears_loudness() -> None:
    pytest.importorskip("opensmile")
    hear = Functionals("IS10")
    assert hear.width == 1582
    wave = torch.sin(torch.arange(16000) * 0.2) * torch.linspace(0, 0.5, 16000)
    loud, soft = hear(wave), hear(wave / 10)
    assert isinstance(loud, torch.Tensor) and isinstance(soft, torch.Tensor)
    assert loud.shape == (1582,) and loud.dtype == torch.float32 and loud.isfinite().all()
    louder = hear.smile.feature_names.index("pcm_loudness_sma_amean")
    assert loud[louder] > soft[louder]
    with pytest.raises(ConfigError, match=r"expected one of .*opensmile:IS10.*found 'opensmile:IS99'"):
        Functionals("IS99")


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(ConfigError, match=r'pip install "erc_graph\[audio\]" \(observe its licence\)'):
        Functionals()


@pytest.mark.parametrize("name", ["IS10", "eGeMAPSv02"])
@pytest.mark.parametrize("samples", [1, 80, 480])
def test_what_is_too_short_has_no_features_and_says_so(name: str, samples: int) -> None:
    pytest.importorskip("opensmile")
    found = Functionals(name)(0.1 * torch.sin(torch.arange(samples) / 9.0))
    assert found == f"{1000 * samples / 16000:.0f} ms of audio, for which openSMILE computes NaN; too short for its windows"
