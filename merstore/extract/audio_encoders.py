"""Frozen transformers models of sound: waveforms in, hidden states out."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from merstore.errors import EncoderError
from merstore.extract.models import FrozenModel, ModelFolder, Passes, pretrained, quiet

Array = npt.NDArray[np.float32]
Layers = Literal["mean of the last four", "sum of the last four", "last"]
LAYERS: tuple[Layers, ...] = ("mean of the last four", "sum of the last four", "last")
"""How one vector per step is made of a model's hidden states: the embedding's output and each
layer's, in that order, so that of a model with three layers "the last four" are all there is."""

_T = TypeVar("_T")

_PREPROCESSOR = "preprocessor_config.json"
_CONV_KERNEL = (10, 3, 3, 3, 3, 2, 2)
_CONV_STRIDE = (5, 2, 2, 2, 2, 2, 2)

# Samples of sound in one forward pass. A CPU gains nothing beyond a few seconds: enough for what
# one sample's clips or chunks need, which go together.
_CPU_PASS = 8 * 160_000
_GPU_PASS, _GPU_MOST = 64 * 32_000, 1024 * 32_000


class AudioEncoder(FrozenModel):
    """What both kinds share: `WaveEncoder` (HuBERT and its kin) and `WhisperEncoder`.

    Construction and `spec` read JSON files only; weights are loaded at the first `states`.

    Raises EncoderError for a folder or hub id without a usable model of these families.
    """

    families: ClassVar[dict[str, str]] = {}  # the config's model_type -> the transformers class
    _shape: ClassVar[tuple[str, ...]] = ()  # what of the config decides about the values
    _left_behind = FrozenModel._left_behind | {"_passes", "_extractor"}

    def __init__(self, folder: ModelFolder, device: str = "auto", **running: Any) -> None:
        super().__init__(folder, device, **running)
        if self.kind not in self.families:
            raise EncoderError(
                f"{self.name} is a {self.kind or 'model of an unknown kind'}; "
                f"taken here are {', '.join(self.families)}"
            )
        self.preprocessing = folder.json(_PREPROCESSOR)
        self.rate = int(self.preprocessing.get("sampling_rate", 16_000))

    @property
    def kind(self) -> str:
        return self.folder.kind

    @property
    def dim(self) -> int:
        """Values per step."""
        return int(self._value("hidden_size", 768))

    def spec(self) -> dict[str, Any]:
        """What the model is and how it is run, as JSON."""
        return {
            "architecture": self.kind,
            "shape": {key: self.folder.config.get(key) for key in self._shape},
            "weights": self.folder.weights,
            "dim": self.dim,
            "rate": self.rate,
            "preprocessing": self._preprocessing_spec(),
            "compute": self.computation(),
        }

    def states(
        self,
        units: Sequence[npt.NDArray[np.float32]],
        layers: Layers,
        finish: Callable[[int, list[Array]], _T],
        over_time: bool = False,
    ) -> list[_T]:
        """The hidden states of each unit: what `finish` makes of the unit's place and its rows'
        states, float32 [steps, dim] each, or their mean over time, [dim], where `over_time`.

        A unit is float32 [rows, ...], rows of one shape. On a CPU its rows go through the model
        together, and with no other unit's, because there the size of a pass changes the last bits;
        on a GPU all rows of one shape do. Nothing is padded.

        Raises EncoderError.
        """
        results: list[_T | None] = [None] * len(units)
        with self._lock:
            for places in self._together(units):
                rows = [row for place in places for row in units[place]]
                done: list[Array] = []

                def forward(
                    part: slice, rows: list[Array] = rows, done: list[Array] = done
                ) -> None:
                    done.extend(self._forward(np.stack(rows[part]), layers, over_time))

                self._passes.run(len(rows), forward, self.name, self._cost(rows[0]))
                for place in places:
                    count = len(units[place])
                    results[place] = finish(place, done[:count])
                    del done[:count]
        return results  # type: ignore[return-value]

    def _together(self, units: Sequence[Array]) -> list[list[int]]:
        if self.on_cpu:
            return [[place] for place in range(len(units))]
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, unit in enumerate(units):
            groups.setdefault(unit.shape[1:], []).append(place)
        return [groups[shape] for shape in sorted(groups)]

    @cached_property
    def _passes(self) -> Passes:
        if self.on_cpu:
            return Passes(_CPU_PASS)
        return Passes(_GPU_PASS, grow=True, most=_GPU_MOST)

    def _forward(self, rows: Array, layers: Layers, over_time: bool) -> Array:
        import torch

        inputs = torch.from_numpy(rows).to(self.torch_device, getattr(torch, self.compute))
        with self.running() as model:
            steps = self._steps(model, inputs, layers)
            if over_time:
                steps = steps.mean(dim=1)
            states: Array = steps.float().cpu().numpy()
        return states

    def _steps(self, model: Any, inputs: Any, layers: Layers) -> Any:
        import torch

        output = model(inputs, output_hidden_states=layers != "last")
        if layers == "last":
            return output.last_hidden_state
        # transformers 5 gives the last layer's output before the encoder's final norm (of models
        # that have one), where transformers 4, and so both code bases, had it after.
        last = torch.stack([*output.hidden_states[-4:-1], output.last_hidden_state])
        return last.mean(dim=0) if layers == "mean of the last four" else last.sum(dim=0)

    def _cost(self, row: Array) -> int:
        """Samples of sound in a row."""
        return int(row.shape[-1])

    def _preprocessing_spec(self) -> dict[str, Any]:
        raise NotImplementedError

    def _value(self, key: str, default: Any) -> Any:
        """A value of the config; transformers' default where it is left out."""
        value = self.folder.config.get(key)
        return default if value is None else value

    def _class(self) -> Any:
        import transformers

        return getattr(transformers, self.families[self.kind])


class WaveEncoder(AudioEncoder):
    """HuBERT, wav2vec 2.0, WavLM, data2vec: samples through a chain of convolutions to steps."""

    families: ClassVar = {
        "hubert": "HubertModel",
        "wav2vec2": "Wav2Vec2Model",
        "wavlm": "WavLMModel",
        "data2vec-audio": "Data2VecAudioModel",
    }
    _shape = (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
        *("hidden_act", "layer_norm_eps", "feat_extract_norm", "feat_extract_activation"),
        *("conv_dim", "conv_kernel", "conv_stride", "conv_bias", "do_stable_layer_norm"),
        *("num_conv_pos_embeddings", "num_conv_pos_embedding_groups"),
    )

    @property
    def normalises(self) -> bool:
        """Whether the model wants sound of zero mean and unit variance."""
        return bool(self.preprocessing.get("do_normalize", True))

    @property
    def stride(self) -> int:
        """Samples from one step to the next."""
        return int(np.prod(self._strides))

    @property
    def field(self) -> int:
        """Samples that one step sees; what is shorter has none."""
        field = 1
        for kernel, stride in reversed(list(zip(self._kernels, self._strides, strict=True))):
            field = (field - 1) * stride + kernel
        return field

    def steps(self, n_samples: int) -> int:
        """How many steps there are of a waveform."""
        return max(0, (n_samples - self.field) // self.stride + 1)

    def normalised(self, wave: Array) -> Array:
        """What the model's feature extractor makes of a waveform, or of several jointly (it does
        not tell them apart): transformers' Wav2Vec2FeatureExtractor, without padding, to the bit.
        """
        if not self.normalises:
            return wave
        normal: Array = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        return normal

    @property
    def _kernels(self) -> list[int]:
        return list(self._value("conv_kernel", _CONV_KERNEL))

    @property
    def _strides(self) -> list[int]:
        return list(self._value("conv_stride", _CONV_STRIDE))

    def _preprocessing_spec(self) -> dict[str, Any]:
        # return_attention_mask is not among them: without padding it changes nothing.
        return {"do_normalize": self.normalises}

    def _load(self) -> Any:
        # The mask's embedding is for training only, and not in every checkpoint; an adapter comes
        # after the states that are taken.
        unused = ["masked_spec_embed"]
        without = {"add_adapter": False} if self.folder.config.get("add_adapter") else {}
        return pretrained(self._class(), self.folder, unused=unused, **without)


class WhisperEncoder(AudioEncoder):
    """Whisper: 30 seconds of sound, as a log-mel spectrogram, to 1,500 steps; or, as MERTools has it,
    to the decoder's two first.

    part: ``"encoder"``, or ``"decoder"`` for its last hidden state after two start tokens.
    """

    families: ClassVar = {"whisper": "WhisperModel"}
    _shape = (
        *("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim"),
        *("activation_function", "num_mel_bins", "max_source_positions", "scale_embedding"),
    )
    _decoder_shape = (
        *("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim"),
        "decoder_start_token_id",
    )

    def __init__(
        self,
        folder: ModelFolder,
        device: str = "auto",
        part: Literal["encoder", "decoder"] = "encoder",
        **running: Any,
    ) -> None:
        super().__init__(folder, device, **running)
        self.part = part

    @property
    def dim(self) -> int:
        return int(self._value("d_model", 384))

    @property
    def window(self) -> int:
        """Samples that the model takes at once."""
        return int(self.preprocessing.get("chunk_length", 30)) * self.rate

    @property
    def stride(self) -> int:
        """Samples from one step of the encoder to the next."""
        return 2 * int(self.preprocessing.get("hop_length", 160))  # its second convolution's

    def features(self, wave: Array) -> Array:
        """float32 [1, mels, frames]: the log-mel spectrogram of up to `window` samples, the rest of
        which is silence.
        """
        values = self._extractor(wave, sampling_rate=self.rate, return_tensors="np")
        return np.asarray(values.input_features, np.float32)

    @cached_property
    def _extractor(self) -> Any:
        from transformers import WhisperFeatureExtractor

        try:
            with quiet():
                return WhisperFeatureExtractor.from_pretrained(self.folder.path)
        except (OSError, ValueError, TypeError) as error:
            raise EncoderError(f"{self.name}: no usable feature extractor: {error}") from error

    def _preprocessing_spec(self) -> dict[str, Any]:
        known = {"feature_size": 80, "n_fft": 400, "hop_length": 160, "chunk_length": 30}
        return {key: self.preprocessing.get(key, value) for key, value in known.items()}

    def spec(self) -> dict[str, Any]:
        spec = super().spec()
        spec["part"] = self.part
        if self.part == "decoder":
            spec["shape"] |= {key: self.folder.config.get(key) for key in self._decoder_shape}
        return spec

    @property
    def _loaded_part(self) -> str:
        return self.part

    def _load(self) -> Any:
        if self.part == "decoder":
            return pretrained(self._class(), self.folder)
        # Without the decoder's layers, which would be made at random where they are not there.
        model = pretrained(self._class(), self.folder, unused=[r"decoder\..*"], decoder_layers=0)
        return model.encoder

    def _steps(self, model: Any, inputs: Any, layers: Layers) -> Any:
        import torch

        if self.part == "encoder":
            return super()._steps(model, inputs, layers)
        start = torch.full((len(inputs), 2), self._start_token, device=inputs.device)
        return model(inputs, decoder_input_ids=start).last_hidden_state

    @property
    def _start_token(self) -> int:
        return int(self._value("decoder_start_token_id", 50257))

    def _cost(self, row: Array) -> int:
        return self.window


def audio_encoder(model: str | Path, device: str = "auto", **options: Any) -> AudioEncoder:
    """The encoder of a model's folder or hub id, of the family that its config.json names.

    options: those of `FrozenModel`, and ``part`` for Whisper. Raises EncoderError.
    """
    folder = ModelFolder(model, needed=("config.json", _PREPROCESSOR))
    if folder.kind in WhisperEncoder.families:
        return WhisperEncoder(folder, device, **options)
    options.pop("part", None)
    if folder.kind not in WaveEncoder.families:
        known = ", ".join([*WaveEncoder.families, *WhisperEncoder.families])
        raise EncoderError(
            f"{folder.name} is a {folder.kind or 'nameless'} model; taken are {known}"
        )
    return WaveEncoder(folder, device, **options)
