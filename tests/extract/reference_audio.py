"""The two code bases' sound features, step by step, for comparison: plain calls, one sample at a time.

Written from the facts about AffectGPT and MERTools; shares nothing with merstore.extract but the
reading of a file. Hidden states are gathered layer by layer, as transformers 4 did: the embedding,
then every layer's output, the last one after the final norm where the architecture has one.
"""

from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

Array = npt.NDArray[Any]


def hidden_states(model: Any, values: torch.Tensor) -> list[torch.Tensor]:
    """Of HuBERT, wav2vec 2.0, WavLM and data2vec: [rows, samples] to their states [rows, T, D]."""
    steps = model.feature_extractor(values).transpose(1, 2)
    projected = model.feature_projection(steps)
    hidden = projected[0] if isinstance(projected, tuple) else projected
    encoder = model.encoder
    norm_last = getattr(model.config, "do_stable_layer_norm", False)
    hidden = hidden + encoder.pos_conv_embed(hidden)
    if not norm_last:
        hidden = encoder.layer_norm(hidden)
    states = [hidden]
    bias = None
    for index, layer in enumerate(encoder.layers):
        if model.config.model_type == "wavlm":
            hidden, bias = layer(hidden, position_bias=bias, index=index)[:2]
        else:
            output = layer(hidden)
            hidden = output[0] if isinstance(output, tuple) else output
        states.append(hidden)
    if norm_last:
        states[-1] = encoder.layer_norm(hidden)
    return states


def affectgpt(
    model: Any, extractor: Any, waveform: torch.Tensor, rate: int, clips: int = 8
) -> Array:
    """float32 [clips, D] of a waveform [channels, T]."""
    import torchaudio

    if rate != 16_000:
        waveform = torchaudio.functional.resample(waveform, rate, 16_000)
    if waveform.shape[0] == 2:
        waveform = torch.mean(waveform, dim=0, keepdim=True)
    if waveform.shape[1] < 32_000:
        waveform = torch.nn.functional.pad(waveform, (0, 32_000 - waveform.shape[1]))
    # PyTorchVideo's sampler counts in fractions from a duration in floating point.
    from fractions import Fraction

    room = max(Fraction(waveform.shape[1] / 16_000) - 2, 0)
    starts = [i * room / clips for i in range(clips)]
    pieces = [waveform[:, int(s * 16_000) : int((s + 2) * 16_000)] for s in starts]
    raw_audio = torch.stack(pieces)[None]  # [1, clips, channels, 32000]
    for clip in raw_audio[0]:
        clip -= clip.mean()  # what the unused mel spectrogram leaves behind
    values = raw_audio[:, :, 0, :].reshape(clips, 32_000)
    values = extractor(values, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        states = torch.stack(hidden_states(model, values[0]))
        return states[[-4, -3, -2, -1]].mean(dim=0).mean(dim=1).numpy()


def mertools(model: Any, extractor: Any, wav: Path) -> Array:
    """float32 [T, D] of a mono WAV file at 16 kHz."""
    import soundfile

    samples, rate = soundfile.read(wav)
    assert rate == 16_000
    assert samples.ndim == 1
    values = extractor(samples, sampling_rate=rate, return_tensors="pt").input_values
    length = values.shape[1]
    if length > 160_000:
        chunks = torch.zeros((1, -(-length // 160_000) * 160_000))
        chunks[:, :length] = values
        values = chunks.view(-1, 160_000)
    with torch.no_grad():
        states = torch.stack(hidden_states(model, values))
        summed = states[[-4, -3, -2, -1]].sum(dim=0)
        return summed.reshape(-1, summed.shape[2]).numpy()


def mertools_whisper(model: Any, extractor: Any, wav: Path) -> Array:
    """float32 [2, D]: the decoder's last states after two start tokens."""
    import soundfile

    samples, rate = soundfile.read(wav)
    features = extractor(samples, sampling_rate=rate, return_tensors="pt").input_features
    start = torch.tensor([[1, 1]]) * model.config.decoder_start_token_id
    with torch.no_grad():
        return model(features, decoder_input_ids=start).last_hidden_state[0].numpy()
