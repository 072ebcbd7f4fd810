"""openSMILE's functionals: one vector per recording, such as the 1582 numbers of the INTERSPEECH 2010 paralinguistic challenge (IS10).

Schuller et al., *The INTERSPEECH 2010 Paralinguistic Challenge*, INTERSPEECH 2010; Eyben et al., *openSMILE*, ACM Multimedia 2010. The
package `opensmile` (extra `[audio]`) may be used for research and private purposes; commercial use needs a licence of audEERING.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from erc_graph.data.ragged import SAMPLING_RATE
from erc_graph.errors import ConfigError


class Functionals:
    """A feature set of openSMILE.

    Args:
        name: As openSMILE has it: `IS10` (1582 numbers), `eGeMAPSv02` (88), `ComParE_2016` (6373).

    Attributes:
        width: Numbers per recording.

    Raises:
        ConfigError: openSMILE is not installed, or has no such set.
    """

    def __init__(self, name: str = "IS10") -> None:
        try:
            import opensmile
        except ImportError as error:
            raise ConfigError(f'openSMILE is not installed: pip install "erc_graph[audio]" (mind its licence) ({error})') from None
        known = [one.name for one in opensmile.FeatureSet]
        if name not in known:
            raise ConfigError(f"model: expected one of {', '.join(f'opensmile:{one}' for one in known)}, found 'opensmile:{name}'")
        self.smile = opensmile.Smile(feature_set=opensmile.FeatureSet[name], feature_level=opensmile.FeatureLevel.Functionals)
        self.width = self.smile.num_features

    def __call__(self, wave: Tensor) -> Tensor | str:
        """`(samples,)` at 16 kHz → `(width,)` float32, or why there is none: a recording that is too short for the set's windows."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Segment too short")  # said by what is returned
            found = self.smile.process_signal(wave.numpy(), SAMPLING_RATE)
        values = torch.from_numpy(found.to_numpy(dtype="float32", copy=True)[0])
        if values.isfinite().all():
            return values
        return f"{1000 * len(wave) / SAMPLING_RATE:.0f} ms of audio, for which openSMILE computes NaN; too short for its windows"
