"""Functionals of openSMILE: statistics of acoustic features, which give one vector per recording.

Sources: Schuller et al., *The INTERSPEECH 2010 Paralinguistic Challenge*, INTERSPEECH 2010; Eyben et al., *openSMILE*, ACM Multimedia 2010.
The package `opensmile` (extra `[audio]`) may be used for research and private purposes. Commercial use needs a licence from audEERING.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from erc_graph.data.ragged import SAMPLING_RATE
from erc_graph.errors import ConfigError


class Functionals:
    """A feature set of openSMILE, which computes one vector per recording.

    Args:
        name: Name of the feature set in openSMILE: `IS10` (1582 numbers), `eGeMAPSv02` (88 numbers) or `ComParE_2016` (6373 numbers).

    Attributes:
        width: Width of the vector of a recording.

    Raises:
        ConfigError: openSMILE is not installed, or has no feature set of this name.
    """

    def __init__(self, name: str = "IS10") -> None:
        try:
            import opensmile
        except ImportError as error:
            raise ConfigError(f'openSMILE is not installed: pip install "erc_graph[audio]" (observe its licence) ({error})') from None
        known = [one.name for one in opensmile.FeatureSet]
        if name not in known:
            raise ConfigError(f"model: expected one of {', '.join(f'opensmile:{one}' for one in known)}, found 'opensmile:{name}'")
        self.smile = opensmile.Smile(feature_set=opensmile.FeatureSet[name], feature_level=opensmile.FeatureLevel.Functionals)
        self.width = self.smile.num_features

    def __call__(self, wave: Tensor) -> Tensor | str:
        """Compute the vector `(width,)` float32 of a waveform `(samples,)` at 16 kHz.

        If the recording is too short for the windows of openSMILE, the result is a text with the reason.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Segment too short")  # said by what is returned
            found = self.smile.process_signal(wave.numpy(), SAMPLING_RATE)
        values = torch.from_numpy(found.to_numpy(dtype="float32", copy=True)[0])
        if values.isfinite().all():
            return values
        return f"{1000 * len(wave) / SAMPLING_RATE:.0f} ms of audio, for which openSMILE computes NaN; too short for its windows"
