"""Pictures and plain features of signals against closed forms and direct loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reprogram.errors import ConfigError, DataError
from reprogram.inputs import _convolutions, _mel, _patterns, _proportions
from reprogram.inputs._signal_planes import gramian_fields, line, recurrences, spectra
from reprogram.inputs._signals import FEATURES, laid_out
from reprogram.inputs.gramian import Gramian
from reprogram.inputs.line_plot import LinePlot
from reprogram.inputs.mel_changes import MelChanges
from reprogram.inputs.mel_spectrogram import MelSpectrogram
from reprogram.inputs.recurrence import Recurrence
from reprogram.inputs.reprogram_wave import ReprogramWave
from reprogram.inputs.signal_views import SignalViews
from reprogram.inputs.spectrogram import Spectrogram
from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.modalities._signals import as_block, filled, lengths, pad, resampled

SPEC = SourceSpec("image", 64, ("a", "b"))
PICTURES = [LinePlot, Gramian, Recurrence, Spectrogram, MelSpectrogram, MelChanges, ReprogramWave, SignalViews]


def info(channels: int = 1, length: int = 100, rate: int = 8000) -> TargetInfo:
    return TargetInfo("signals", "series", "classification", ("a", "b"), (channels, rate, length))


def signals(channels: int = 1, length: int = 100, count: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, length, generator=torch.Generator().manual_seed(seed)).cumsum(2)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(("channels", "length"), [(1, 5), (1, 3000), (2, 24), (5, 100)])
def test_every_picture_of_every_signal_is_what_a_source_reads(picture, channels, length):
    method = picture(size=32)
    method.build(SPEC, info(channels, length))
    batch = signals(channels, length).requires_grad_()
    views = method(batch)
    for view in views:
        assert view.shape == (3, 3, 32, 32) and torch.isfinite(view).all()
        assert float(view.detach().min()) >= 0 and float(view.detach().max()) <= 1
        assert float(view.detach().std()) > 0.01  # something is drawn
    sum(view.sum() for view in views).backward()
    assert torch.isfinite(batch.grad).all() and float(batch.grad.abs().max()) > 0
    alone = [method(batch.detach()[i : i + 1]) for i in range(3)]
    for place, view in enumerate(views):
        assert torch.allclose(torch.cat([one[place] for one in alone]), view, atol=1e-4)


@pytest.mark.parametrize("picture", [LinePlot, Gramian, Recurrence, MelSpectrogram])
def test_what_stands_behind_the_end_of_a_signal_is_not_seen(picture):
    method = picture(size=32)
    method.build(SPEC, info(1, 2400))
    short = signals(1, 2000)
    padded = torch.cat([short, torch.full((3, 1, 400), float("nan"))], 2)
    apart = (method(short)[0] - method(padded)[0]).abs()
    assert float(apart.mean()) < 0.02  # the grid of samples that are averaged is another one
    assert torch.allclose(method(list(short.numpy()))[0], method(short)[0])


def test_missing_values_lie_on_the_line_between_their_neighbours():
    nan = float("nan")
    block = torch.tensor([[[nan, 1.0, nan, nan, 4.0, nan]], [[nan] * 6]])
    assert torch.equal(filled(block), torch.tensor([[[1.0, 1.0, 2.0, 3.0, 4.0, 4.0]], [[0.0] * 6]]))
    assert lengths(block).tolist() == [5, 1]
    assert as_block([np.ones((1, 2)), np.ones((1, 4))]).isnan().sum() == 2


def test_resampling_is_linear_and_stretches_each_signal():
    ramp = torch.arange(5.0)[None, None]
    assert torch.allclose(resampled(ramp, 9)[0, 0], torch.linspace(0, 4, 9))
    both = torch.from_numpy(pad([np.arange(5.0)[None], np.arange(3.0)[None]]))
    assert torch.allclose(resampled(both, 5)[:, 0, -1], torch.tensor([4.0, 2.0]))


def test_a_line_is_where_the_value_is_and_keeps_every_peak():
    ramp = torch.linspace(0, 1, 64)[None, None]
    ink = 1 - line(ramp, 64)[0, 0]
    rows = (ink * torch.arange(64.0)[:, None]).sum(0) / ink.sum(0)
    assert torch.allclose(rows, torch.linspace(rows[0], rows[-1], 64), atol=0.6) and rows[0] > rows[-1] + 50
    spike = torch.zeros(1, 1, 5000)
    spike[..., 2501] = 1.0
    assert float(line(spike, 32)[0, 0].amin(1)[: 4].amin()) < 0.2  # one sample in 5,000 reaches the top


def test_gramian_fields_are_cosines_and_sines_of_angles():
    x = torch.rand(1, 1, 16, generator=torch.Generator().manual_seed(1))
    summed, apart = (field[0, 0] * 2 - 1 for field in gramian_fields(x, 16))
    angle = torch.arccos(((x - x.min()) / (x.max() - x.min()) * 2 - 1)[0, 0])
    assert torch.allclose(summed, torch.cos(angle[:, None] + angle[None]), atol=1e-3)
    assert torch.allclose(apart, torch.sin(angle[:, None] - angle[None]), atol=1e-3)


def test_recurrences_are_distances_of_states():
    x = signals(2, 20)
    got = recurrences(x, 20, (3,), 2)[0, 0]
    z = x[0] - x[0].mean(1, keepdim=True)
    z = z / z.std()
    later = torch.cat([z[:, 3:], z[:, -1:].expand(-1, 3)], 1)
    states = torch.cat([z, later]).T
    wanted = torch.cdist(states, states)
    assert torch.allclose(got, wanted / wanted.max(), atol=1e-3)


def test_the_brightest_row_of_a_tone_is_its_frequency():
    time = torch.arange(2048.0)
    tone = torch.sin(2 * torch.pi * 0.125 * time)[None, None]  # a quarter of the highest frequency
    rows = spectra(tone, 64, (0.125,))[0, 0].mean(1)
    assert abs(float(rows.argmax()) - (63 - 16)) <= 2  # low frequencies lie below
    level, _ = _mel.log_mel(torch.sin(2 * torch.pi * 1000 * time / 8000)[None, None], 8000.0, 40)
    top = 2595 * np.log10(1 + 4000 / 700)
    band = 2595 * np.log10(1 + 1000 / 700) / top * 41 - 1
    assert abs(float(level[0].mean(1).argmax()) - band) <= 1


def test_silence_around_a_sound_is_cut():
    quiet, sound = torch.zeros(4000), torch.sin(torch.arange(4000.0))
    _, ends = _mel.log_mel(torch.cat([quiet, sound, quiet])[None, None], 8000.0, 32)
    assert ends[0].tolist() == pytest.approx([4000 / 32, 8000 / 32], abs=6)


def test_competing_kernels_are_counted_as_in_a_loop():
    signal = signals(1, 30, 1)
    found = _convolutions.competing(signal, groups=2)[0]
    weights, _ = _convolutions.kernels(0, 1, 2)
    padded = torch.cat([torch.zeros(4), signal[0, 0], torch.zeros(4)])
    answers = torch.stack([(padded.unfold(0, 9, 1) * w).sum(1) for w in weights[:, 0]]).view(2, 8, 30)
    for group in range(2):
        best, worst = answers[group].argmax(0), answers[group].argmin(0)
        for kernel in range(8):
            reached = answers[group, kernel][best == kernel].sum().clamp_min(0) / 30
            assert float(found[16 * group + kernel]) ** 2 == pytest.approx(float(reached), abs=1e-4)
            share = float((worst == kernel).float().mean())
            assert float(found[16 * group + 8 + kernel]) ** 2 == pytest.approx(share, abs=1e-4)
    assert _convolutions.dilations(100) == [1, 2, 4, 8] and _convolutions.dilations(9) == [1]


def test_proportions_are_shares_of_time_as_in_a_loop():
    signal = signals(1, 30, 1)
    found = _proportions.proportions(signal)
    assert torch.allclose(_proportions.proportions(5 * signal), found) and 0 <= float(found.min()) <= float(found.max()) <= 1
    x = signal[0, 0] / signal[0, 0].std()
    padded = torch.cat([torch.zeros(4), x, torch.zeros(4)]).unfold(0, 9, 1)
    for kernel in (0, 41, 83):
        answers = padded @ _proportions.kernels()[kernel, 0]
        for place, threshold in enumerate(sign * level for level in _proportions.THRESHOLDS for sign in (-1, 1)):
            assert float(found[0, 84 * place + kernel]) == pytest.approx(float((answers > threshold).float().mean()))
    assert _proportions.steps(9) == [1] and _proportions.steps(100) == [1, 2, 3, 4, 6, 8, 11]
    several = signals(3, 12).requires_grad_()
    _proportions.proportions(several).sum().backward()
    assert float(several.grad.abs().max()) > 0  # an attack is shown a way


def test_a_pattern_is_found_in_its_part_wherever_it_lies_there():
    tone = lambda hertz: torch.sin(torch.arange(8000.0) / 8000 * 2 * torch.pi * hertz)[None, None]  # noqa: E731
    near, far = (_patterns.patterns(tone(hertz), 8000.0) for hertz in (1030, 2500))
    here = _patterns.patterns(tone(1000), 8000.0)
    assert here.shape == (1, 6144) and float((here - near).norm()) < 0.5 * float((here - far).norm())
    sound = signals(1, 4000, 1, seed=3)
    level, ends = _mel.log_mel(sound, 8000.0, 40, 0.064)
    picture = _mel.over_bands(_mel.columns(level, ends, 64))[0] / 20
    windows = torch.nn.functional.pad(picture, (2, 2, 2, 2)).unfold(0, 5, 1).unfold(1, 5, 1)
    answers = torch.einsum("btij,kij->kbt", windows, _patterns.kernels(0)[:8, 0])
    reached = torch.where(answers.argmax(0) == torch.arange(8)[:, None, None], answers.clamp_min(0), 0.0)
    parts = reached.unflatten(2, (4, 16)).unflatten(1, (4, 10)).mean((2, 4))  # [8, 4, 4]
    assert torch.allclose(_patterns.patterns(sound, 8000.0)[0, :128].square(), parts.flatten(), atol=1e-5)


def test_a_pattern_of_tones_is_the_same_whenever_it_is_heard():
    beats = lambda *tones: torch.cat([torch.sin(torch.arange(2000.0) / 8000 * 2 * torch.pi * t) for t in tones])[None, None]  # noqa: E731
    reader = SignalViews(size=32, pictures=("mel_spectrogram",), features=("mel_patterns", "tone_patterns"))
    reader.build(SPEC, info(length=10_000))
    sounds = [beats(400, 2400, 400, 400, 400), beats(400, 400, 400, 2400, 400), beats(400, 1100, 400, 400, 400)]
    early, late, other = ([v[0] for v in reader.side_features(sound).values()] for sound in sounds)
    moved = [float((a - b).norm() / (a - c).norm()) for a, b, c in zip(early, late, other, strict=True)]
    assert early[1].shape == (1920,) and moved[1] < 0.4 < 0.9 < moved[0]  # against another tone at the same time


def test_many_planes_lie_in_tiles():
    planes = torch.arange(12.0)[None, :, None, None].expand(1, 12, 8, 8) / 12
    sheet = laid_out(planes, 16)
    assert sheet.shape == (1, 3, 16, 16)
    assert torch.allclose(sheet[0, :, 0, 0], planes[0, :3, 0, 0]) and torch.allclose(sheet[0, :, -1, -1], planes[0, 9:, 0, 0])


def test_what_does_not_fit_is_told():
    with pytest.raises(ConfigError, match=r"input.pictures has 'line_plott', .*did you mean 'line_plot'"):
        SignalViews(pictures=("line_plott",)).build(SPEC, info())
    with pytest.raises(ConfigError, match=r"target.rate=NUMBER"):
        MelSpectrogram().build(SPEC, info(rate=1))
    with pytest.raises(ConfigError, match="reads signals, but the target has image inputs"):
        LinePlot().build(SPEC, TargetInfo("t", "image", "classification", ("a", "b"), (3, 8, 8)))
    method = LinePlot(features=("raw",))
    method.build(SPEC, info(2))
    with pytest.raises(DataError, match="signals of 2 channels"):
        method(signals(1))


@pytest.mark.parametrize("picture", PICTURES)
def test_a_signal_does_not_depend_on_the_others_of_its_batch(picture):
    """Also where one of them is longer than any signal of the target."""
    rng = np.random.default_rng(4)
    given = [rng.normal(size=(1, length)).cumsum(1).astype(np.float32) for length in (700, 300, 500, 1500)]
    method = picture(size=32, features=tuple(FEATURES) if picture is LinePlot else ())
    method.build(SPEC, info(length=700, rate=1000))
    with torch.no_grad():
        alone = [method([signal]) + list(method.side_features([signal]).values()) for signal in given]
        for rows in ([0, 1, 2, 3], [3, 1], [2, 1]):
            batch = [given[row] for row in rows]
            together = method(batch) + list(method.side_features(batch).values())
            for place, row in enumerate(rows):
                for one, many in zip(alone[row], together, strict=True):
                    torch.testing.assert_close(many[place], one[0], atol=1e-5, rtol=1e-5)
