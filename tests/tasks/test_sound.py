"""Vowels: louder near their formants, cut into frames of the right number and size."""

import math

import pytest
import torch

from attn.tasks import sound


def test_a_sound_is_as_long_as_its_vowels_and_its_loudest_sample_is_one():
    samples = sound.vowels("aiu", seconds=0.15)
    assert samples.shape == (3 * 1200,)
    assert samples.dtype == torch.float32
    assert samples.abs().max() == 1
    assert samples.isfinite().all()
    assert samples[[0, -1]].abs().max() < 1e-6  # no click at the ends


@pytest.mark.parametrize("letter", sound.FORMANTS)
@pytest.mark.parametrize("pitch", [90.0, 120.0])
def test_a_vowel_is_loud_near_its_first_two_formants(letter, pitch):
    samples = sound.vowels(letter, seconds=0.5, pitch=pitch).double()
    loudness = torch.fft.rfft(samples).abs()
    frequency = torch.fft.rfftfreq(len(samples), 1 / sound.RATE).double()
    for formant in sound.FORMANTS[letter][:2]:
        near = loudness[(frequency - formant).abs() < pitch].max()
        for away in (-4, 4):
            other = loudness[(frequency - formant - away * pitch).abs() < pitch / 2]
            others = [f for f in sound.FORMANTS[letter] if f != formant]
            crowded = any(abs(f - formant - away * pitch) < 3 * pitch for f in others)
            if len(other) and formant + away * pitch > pitch and not crowded:
                assert near > other.max(), (letter, formant, away)


def test_the_pitch_is_the_distance_of_the_harmonics():
    samples = sound.vowels("a", seconds=1.0, pitch=200.0).double()
    loudness = torch.fft.rfft(samples).abs()  # one entry per Hz
    peaks = [int(loudness[f - 50 : f + 50].argmax()) + f - 50 for f in (200, 400, 600)]
    assert peaks == [200, 400, 600]


def test_frames_are_25_ms_every_10_ms():
    samples = torch.arange(8000.0)
    pieces = sound.frames(samples)
    assert pieces.shape == (1 + (8000 - 200) // 80, 200)
    assert pieces[:3, 0].tolist() == [0, 80, 160]
    assert torch.equal(pieces[1, :120], pieces[0, 80:])  # they overlap
    assert sound.frames(samples, width=0.1, step=0.1).shape == (10, 800)
    assert sound.frames(samples[:200]).shape == (1, 200)


def test_spectra_find_the_frequency_of_a_tone():
    time = torch.arange(2000) / sound.RATE
    loud = sound.spectra(sound.frames(torch.sin(2 * math.pi * 1000 * time)))
    assert loud.shape == (23, 101)
    assert set(loud.argmax(-1).tolist()) == {25}  # 25 * 8000 / 200 = 1000 Hz
    assert loud.max() == 0
    assert loud.min() == -60


def test_silence_has_a_spectrum_too():
    assert (sound.spectra(torch.zeros(3, 200)).isnan()).sum() == 0


@pytest.mark.parametrize("letters", ["", "ax", "A"])
def test_unknown_vowels_are_refused(letters):
    with pytest.raises(ValueError, match="letters must be some of i, e, a, o, u"):
        sound.vowels(letters)


@pytest.mark.parametrize("pitch", [0.0, -1.0, 4000.0, math.nan])
def test_a_pitch_that_cannot_be_heard_is_refused(pitch):
    with pytest.raises(ValueError, match="pitch must lie between"):
        sound.vowels("a", pitch=pitch)


def test_too_short_a_sound_is_refused():
    with pytest.raises(ValueError, match="a frame has 200 samples, the sound only 199"):
        sound.frames(torch.zeros(199))
    with pytest.raises(ValueError, match="one sample at least"):
        sound.frames(torch.zeros(300), step=0.0)
