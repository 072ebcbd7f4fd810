"""The options of `erc-graph features`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from erc_graph.errors import ConfigError, expect
from erc_graph.features.pretrained import Quantize
from erc_graph.features.text import Layer, Pooling

POOLINGS = {"text": ("own", "cls", "mean", "cls+mean", "last", "words", "tokens"), "audio": ("own", "frames"), "visual": ("own", "frames")}


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Options of a feature extraction.

    Attributes:
        data: Path of the corpus: a folder with `corpus.toml`, an annotation file, or a saved corpus.
        model: Feature extractor: a name such as `all-MiniLM-L6-v2`, the folder of a model, or a name on the Hugging Face hub. For audio,
            `mfcc` and feature sets of openSMILE (`opensmile:IS10`) are also possible. For visual, `timm:NAME` is also possible.
        out: Feature file to write; its name ends in `.safetensors`.
        modality: Modality of the input.
        source: For audio and visual: folder with one file per utterance; the name of the file is the id of the utterance. For visual, a
            file is a video, an array or a folder of images. Default: the waveforms or face frames in the corpus.
        pooling: How hidden states become features. `own`: the pooling in the files of a text encoder; for audio and visual, the mean over
            time. Text: `cls`, `mean`, `cls+mean`, `last` (the last token, for causal language models), `words` (the states of all tokens),
            `tokens` (the ids of all tokens). Audio, visual: `frames` (the states of all frames).
        layer: Layer of the hidden states: 0 is the embeddings, 1 the first layer, -1 the last layer. `last4`: the last four layers,
            concatenated; `last4-mean`: the mean of the last four layers.
        output: Output of a fine-tuned encoder: its `features`, or the `log-probabilities` of the classes.
        pca: Number of principal components of the vectors of a text encoder. The components are fitted to the training dialogues and saved
            next to the feature file. 0: no projection.
        half: Write 16-bit numbers (float16).
        quantize: Load the weight matrices of a text encoder in `8bit` or `4bit`, with bitsandbytes on a GPU; `no`: unchanged.
        fine_tune: First fine-tune the text encoder on the single utterances of the training split.
        lora: Rank of the low-rank matrices that are trained and saved in place of the weights of the encoder; 0: train and save all
            weights.
        cross_fit: Number of folds of the training dialogues, and of encoders to fine-tune; each encoder is trained without one fold. A
            training utterance is encoded by the encoder that was not trained on its dialogue. 0: one encoder, trained on all training
            dialogues.
        repeats: Number of repetitions of the cross-fitting, with other folds and initial weights. The features of a training utterance are
            the mean over all encoders that were not trained on its dialogue.
        encoders: Folder of the fine-tuned encoders. Finished encoders in the folder are reused, and interrupted trainings are continued.
            Default: the path of the feature file, with `.tuned` in place of `.safetensors`.
        task: Label set for fine-tuning, for example `iemocap4`. Default: the default label set of the corpus.
        tokens: Largest number of tokens per batch, including padding.
        device: `auto`, `cpu` or `cuda`.
        precision: Precision of matrix products: `bf16` (16 bits), `no` (32 bits); `auto`: `bf16` on a GPU that supports `bf16`.
        seconds: Largest duration of a recording; longer recordings are cut.
        frames: Largest number of images per utterance. If there are more images, images at equal distances are used.
        strict: Stop if an input is too long or a file cannot be read. Otherwise long inputs are cut, and unreadable files are left out.
    """

    data: str
    model: str
    out: str
    modality: Literal["text", "audio", "visual"] = "text"
    source: str | None = None
    pooling: Pooling = "own"
    layer: Layer = -1
    output: Literal["features", "log-probabilities"] = "features"
    pca: int = 0
    half: bool = False
    quantize: Quantize = "no"
    fine_tune: bool = False
    lora: int = 0
    cross_fit: int = 0
    repeats: int = 1
    encoders: str | None = None
    task: str | None = None
    tokens: int = 4096
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "no", "bf16"] = "auto"
    seconds: float = 30.0
    frames: int = 32
    strict: bool = False

    def __post_init__(self) -> None:
        fixed = self.model == "mfcc" or self.model.startswith("opensmile:")
        expect(
            "features",
            self,
            out=(self.out.endswith(".safetensors"), "a file name ending in .safetensors"),
            modality=(not fixed or self.modality == "audio", f"audio, because {self.model} computes features of audio"),
            layer=(not fixed or self.layer == -1, f"none, because {self.model} has no layers"),
            tokens=(self.tokens >= 1, "1 or more"),
            seconds=(self.seconds > 0, "a number above 0"),
            frames=(self.frames >= 1, "1 or more"),
            pooling=(self.pooling in POOLINGS[self.modality], f"one of {', '.join(POOLINGS[self.modality])} for {self.modality}"),
            source=(self.source is None or self.modality != "text", "no folder for text, because the corpus has the texts"),
            encoders=(self.encoders != "", "a folder"),
            pca=(self.pca >= 0, "1 or more, or 0"),
            half=(not self.half or self.pooling != "tokens", "false for token ids, which do not fit into 16 bits"),
            quantize=(self.quantize == "no" or self.modality == "text", "no, because only text encoders can be quantized"),
            lora=(self.lora >= 0, "a rank of 1 or more, or 0"),
            fine_tune=(not self.fine_tune or self.modality == "text", "false for other modalities than text"),
            cross_fit=(self.cross_fit == 0 or self.cross_fit >= 2, "0, or 2 folds or more"),
            repeats=(self.repeats >= 1, "1 or more"),
        )
        for name, usual, modality in (("seconds", 30.0, "audio"), ("frames", 32, "visual")):
            if getattr(self, name) != usual and self.modality != modality:
                raise ConfigError(
                    f"features.{name}: expected --modality {modality}, to which this option belongs, found --modality {self.modality}"
                )
        tuned = {
            "cross_fit": self.cross_fit, "repeats": self.repeats > 1, "encoders": self.encoders, "task": self.task,
            "output": self.output != "features", "lora": self.lora,
        }  # fmt: skip
        for name, given in tuned.items():
            if given and not self.fine_tune:
                raise ConfigError(f"{name}: expected --fine-tune as well, because this option belongs to fine-tuning")
        if self.pca and (self.modality != "text" or self.fine_tune or self.pooling in ("words", "tokens")):
            raise ConfigError(
                "pca: expected one vector per utterance of a text encoder that is not fine-tuned; omit --fine-tune and --pooling "
                "words or tokens"
            )
        if self.fine_tune and (self.pooling != "own" or self.layer != -1):
            raise ConfigError(
                "fine_tune: expected no option --pooling or --layer, because a fine-tuned encoder uses the mean of the states of "
                "its last layer"
            )
