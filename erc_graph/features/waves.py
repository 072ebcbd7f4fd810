"""Pretrained speech models of transformers: wav2vec 2.0, HuBERT, WavLM and data2vec. They compute one vector per frame of a waveform.

Sources: Baevski et al., *wav2vec 2.0*, NeurIPS 2020; Chen et al., *WavLM*, IEEE JSTSP 16, 2022. A frame is 25 ms long, and a new frame
begins every 20 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from erc_graph.errors import CheckpointError, CorpusError
from erc_graph.features.pretrained import pretrained
from erc_graph.features.text import Layer, find_model, layers
from erc_graph.features.tokens import read_json


class WaveEncoder:
    """A pretrained speech model that computes a state for every frame of a recording.

    The states of a recording do not depend on the other recordings in its batch. Models with group normalisation over time (wav2vec 2.0
    base) process one recording at a time, because padding would change the statistics of the normalisation. Other models process several
    recordings together, with padding and masks, as in the training of these models.

    Args:
        name: Folder of the model, or its name on the Hugging Face hub.
        device: Device of the computation.
        layer: The layer whose states are returned: 0 is the input of the first Transformer layer, -1 is the last layer. `last4`
            concatenates the states of the last four layers, and `last4-mean` averages them.
        precision: Precision of matrix products: `bf16` (16 bits) or `no` (32 bits).

    Attributes:
        width: Width of the state of a frame.
        shortest: Number of samples of the shortest recording that has at least one frame.
        folder: Folder of the model.

    Raises:
        CheckpointError: the model is not found, is damaged, or is not a speech model.
        ConfigError: the model does not have the layer `layer`.
    """

    def __init__(
        self, name: str, *, device: torch.device | str = "cpu", layer: Layer = -1, precision: Literal["no", "bf16"] = "no"
    ) -> None:
        self.folder = folder = find_model(name, "speech model")
        self.device, self.precision = torch.device(device), precision
        self.model = pretrained(folder, device=self.device)
        config = self.model.config
        if not hasattr(config, "conv_kernel") or not hasattr(self.model, "_get_feat_extract_output_lengths"):
            raise CheckpointError(f"{folder}: expected a speech model such as wav2vec 2.0, HuBERT or WavLM, found {config.model_type}")
        self.chosen, self.join = layers(layer, config.num_hidden_layers, str(folder))
        self.width = config.hidden_size * (4 if layer == "last4" else 1)
        self.alone = getattr(config, "feat_extract_norm", "group") == "group"
        said = folder / "preprocessor_config.json"
        self.normalise = bool(read_json(said).get("do_normalize", True)) if said.is_file() else True
        self.shortest = 1
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            self.shortest = (self.shortest - 1) * stride + kernel

    @torch.no_grad()
    def __call__(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Compute the states of the `T` frames of every waveform `(samples,)`. A result is `(T, width)` float32 on the CPU.

        Raises:
            CorpusError: a waveform is too short for a frame.
        """
        if any(len(wave) < self.shortest for wave in waves):
            raise CorpusError(f"a recording has fewer than {self.shortest} samples, which is too short for a frame of this model")
        waves = [(wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt() if self.normalise else wave for wave in waves]
        groups = [[wave] for wave in waves] if self.alone else [list(waves)]
        return [frames for group in groups for frames in self._frames(group)]

    def _frames(self, waves: list[Tensor]) -> list[Tensor]:
        lengths = torch.tensor([len(wave) for wave in waves])
        padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True).to(self.device)
        mask = None if self.alone else (torch.arange(padded.shape[1]) < lengths[:, None]).long().to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            hidden = self.model(padded, attention_mask=mask, output_hidden_states=True).hidden_states
        # Some models give their last state normalised once more; the list has it as it leaves the layer.
        states = self.join([hidden[i] for i in self.chosen]).float().cpu()
        counts = self.model._get_feat_extract_output_lengths(lengths).tolist()
        return [one[:count] for one, count in zip(states, counts, strict=True)]
