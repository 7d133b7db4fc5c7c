"""Sound as a sequence of vectors: vowels made of formants, cut into frames, each frame as its spectrum.

A vowel is a buzz from the throat, whose harmonics the mouth makes louder near a few frequencies, the
formants. Which vowel we hear depends on where the formants lie, not on how high the voice is.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

RATE = 8_000  # samples per second: telephone quality, enough for the first three formants

# The first three formants in Hz: means of 33 men (Peterson and Barney 1952, table II). The letters are those
# of the words beside them.
FORMANTS = {
    "i": (270.0, 2290.0, 3010.0),  # heed
    "e": (530.0, 1840.0, 2480.0),  # head
    "a": (730.0, 1090.0, 2440.0),  # hod
    "o": (570.0, 840.0, 2410.0),  # hawed
    "u": (300.0, 870.0, 2240.0),  # who'd
}
_BANDWIDTHS = (60.0, 90.0, 150.0)  # Hz; how far around each formant the mouth still helps


def vowels(
    letters: str, *, seconds: float = 0.2, pitch: float = 120.0, rate: int = RATE
) -> Float[Tensor, " samples"]:
    """One vowel after the other, `seconds` each, at a steady `pitch` in Hz; the loudest sample is 1.

    Harmonic k of the pitch has amplitude 1/k, times each formant's gain (the source and filter of Fant 1960).
    Errors: ValueError for no letter, one that FORMANTS lacks, or a pitch that is not above 0 and below
    rate / 2.
    """
    if not letters or set(letters) - set(FORMANTS):
        raise ValueError(f"letters must be some of {', '.join(FORMANTS)}; given {letters!r}")
    if not 0 < pitch < rate / 2:
        raise ValueError(f"pitch must lie between 0 and {rate / 2} Hz, given {pitch}")
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    harmonic = torch.arange(1, math.ceil(rate / 2 / pitch), dtype=torch.float64)
    waves = torch.sin(2 * math.pi * pitch * harmonic[:, None] * time)  # (harmonics, samples)
    said = []
    for letter in letters:
        amplitude = _gain(harmonic * pitch, FORMANTS[letter]) / harmonic
        one = amplitude @ waves
        fade = torch.minimum(time, time.flip(0)).div(0.01).clamp(max=1.0)  # no click between two vowels
        said.append(one / one.abs().max() * fade)
    sound = torch.cat(said)
    return (sound / sound.abs().max()).float()


def frames(
    samples: Float[Tensor, " samples"], *, rate: int = RATE, width: float = 0.025, step: float = 0.010
) -> Float[Tensor, "frames width"]:
    """Pieces of `width` seconds, one every `step` seconds: 25 ms every 10 ms, as speech recognisers take
    them. They overlap; samples after the last whole frame are left out.

    Errors: ValueError for a sound shorter than one frame, or a step of less than one sample.
    """
    wide, apart = round(width * rate), round(step * rate)
    if apart < 1 or wide < 1:
        raise ValueError(f"frames need a width and a step of one sample at least; given {width} s, {step} s")
    if len(samples) < wide:
        raise ValueError(f"a frame has {wide} samples, the sound only {len(samples)}")
    return samples.unfold(0, wide, apart)


def spectra(pieces: Float[Tensor, "frames width"]) -> Float[Tensor, "frames frequencies"]:
    """How loud each frequency is in each frame: decibels below the loudest entry, cut at -60.

    Frequency j stands for j rate / width Hz, from 0 to rate / 2. Each frame is faded in and out first (Hann).
    """
    window = torch.hann_window(pieces.size(-1), periodic=False, dtype=pieces.dtype)
    loudness = torch.fft.rfft(pieces * window).abs()
    loudest = loudness.max().clamp(min=torch.finfo(loudness.dtype).tiny)
    return 20 * torch.log10((loudness / loudest).clamp(min=1e-3))


def _gain(frequency: Tensor, formants: tuple[float, ...]) -> Tensor:
    """How much louder the mouth makes each frequency: two poles per formant, gain 1 at 0 Hz."""
    gain = torch.ones_like(frequency)
    for centre, width in zip(formants, _BANDWIDTHS, strict=True):
        below = (centre**2 - frequency**2) ** 2 + (width * frequency) ** 2
        gain = gain * centre**2 / below.sqrt()
    return gain
