"""Fourier shell correlation, and the per-image FSC area of CryoBench (Jeon et al. 2024).

The benchmark compares, for each of about 100 images, the map that a method predicts for that
image with the image's true map. The curve runs over frequencies 0, 1/n, 2/n, ... below Nyquist
(1/px), is 1 at zero frequency, and the score is its trapezoid area: at most (n/2 - 1) / n, i.e.
0.484 for a box of 64, 0.492 for 128 and 0.496 for 256.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import scipy.fft

from hypermol.space.fourier import frequency_radii

#: How voxels are gathered into shells. "nearest": shell i holds round(|k|) = i. "cryobench": entry
#: i holds i - 1 <= |k| < i, which is how the CryoBench scripts label their shells.
ShellRule = Literal["nearest", "cryobench"]


#: Maps that agree so well in every shell do not have noise of their own.
_SAME_MAP = 0.99999


class PerImageFsc(NamedTuple):
    """Per-image FSCs of a set of images.

    Attributes:
        images: int [M], which images were scored.
        curves: float [M, n // 2 + 1], one FSC per image.
        areas: float [M], area under each curve in 1/px.
    """

    images: np.ndarray
    curves: np.ndarray
    areas: np.ndarray

    @property
    def mean(self) -> float:
        """The benchmark's number: the mean area over images."""
        return float(self.areas.mean())


@lru_cache(maxsize=4)
def _shell_index(n: int, rule: ShellRule) -> np.ndarray:
    """Shell of each coefficient of `rfftn` on an n-cube, flattened."""
    radius = frequency_radii(n)
    shells = np.rint(radius) if rule == "nearest" else np.floor(radius) + 1.0
    return shells.astype(np.intp).ravel()


@lru_cache(maxsize=4)
def _half_weights(n: int) -> np.ndarray:
    """How many coefficients of the full transform each `rfftn` coefficient stands for."""
    column = np.full(n // 2 + 1, 2.0)
    column[0] = 1.0
    if n % 2 == 0:
        column[-1] = 1.0
    return np.broadcast_to(column, (n, n, n // 2 + 1)).ravel()


def _transform(volume: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Flattened `rfftn` of a (masked) cube; the origin's phase cancels in an FSC."""
    real = np.asarray(volume, dtype=np.float64)
    if real.ndim != 3 or len(set(real.shape)) != 1:
        raise ValueError(f"an FSC needs cubic volumes, not shape {real.shape}")
    return scipy.fft.rfftn(real if mask is None else real * mask).ravel()


def _curve(first: np.ndarray, second: np.ndarray, n: int, rule: ShellRule) -> np.ndarray:
    """FSC [n // 2 + 1] of two flattened transforms."""
    shells, weights = _shell_index(n, rule), _half_weights(n)
    n_shells = n // 2 + 1

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(shells, weights * values, minlength=n_shells)[:n_shells]

    cross = total(first.real * second.real + first.imag * second.imag)
    power = total(np.abs(first) ** 2) * total(np.abs(second) ** 2)
    curve = np.divide(cross, np.sqrt(power), out=np.zeros(n_shells), where=~(power <= 0))
    curve[0] = 1.0
    return curve


def fsc(
    volume_a: np.ndarray,
    volume_b: np.ndarray,
    mask: np.ndarray | None = None,
    shells: ShellRule = "nearest",
) -> np.ndarray:
    """Fourier shell correlation of two volumes.

    Args:
        volume_a: real [n, n, n].
        volume_b: real [n, n, n].
        mask: [n, n, n] multiplied into both volumes first.
        shells: how voxels are gathered into shells.

    Returns:
        float [n // 2 + 1]: the correlation at frequencies i / n in 1/px; entry 0 is 1.
    """
    if np.shape(volume_a) != np.shape(volume_b):
        raise ValueError(
            f"an FSC needs two volumes of one shape, not {np.shape(volume_a)} and "
            f"{np.shape(volume_b)}: resample one of them first"
        )
    n = np.shape(volume_a)[-1]
    return _curve(_transform(volume_a, mask), _transform(volume_b, mask), n, shells)


def fsc_area(curve: np.ndarray, box: int) -> np.ndarray:
    """Area under FSC curves over the shells below Nyquist, as CryoBench integrates.

    The last point is shell n/2 - 1: the Nyquist shell itself is half aliased and left out. A
    perfect map scores (n/2 - 1) / n.

    Args:
        curve: [..., at least box // 2] FSC at frequencies i / box.
        box: side of the volume in pixels.

    Returns:
        [...] trapezoid area in 1/px.
    """
    n_points = (box + 1) // 2
    return np.trapezoid(np.asarray(curve)[..., :n_points], dx=1.0 / box, axis=-1)


def benchmark_images(n_images: int, n_selected: int = 100) -> np.ndarray:
    """Images that the benchmark scores: every (n_images // n_selected)-th, from the first.

    CryoBench's rule, kept as it is: when the division leaves a remainder, a few more than
    `n_selected` images come back. Fewer images than `n_selected` are all scored.

    Returns:
        int [about n_selected].
    """
    return np.arange(0, n_images, max(n_images // n_selected, 1))


def per_image_fsc(
    predicted: Callable[[int], np.ndarray],
    truth: Callable[[int], np.ndarray],
    images: Sequence[int] | np.ndarray,
    mask: np.ndarray | None = None,
    shells: ShellRule = "nearest",
) -> PerImageFsc:
    """CryoBench's score: FSC between each image's predicted and true volume.

    With `shells="cryobench"` the area is that of |FSC|, as in the benchmark's own scripts;
    otherwise of the signed FSC, which noise cannot raise. On a 64-box the two rules differ by
    about 0.002 for a good map.

    Args:
        predicted: image index -> volume [n, n, n], in the truth's gauge (`analysis.gauge`).
        truth: image index -> true volume [n, n, n].
        images: [M] indices, usually `benchmark_images(n_images)`.
        mask: [n, n, n] multiplied into both volumes.
        shells: how voxels are gathered into shells.

    Returns:
        Curves [M, n // 2 + 1] and areas [M].
    """
    indices = np.asarray(images, dtype=np.intp)
    if indices.size == 0:
        raise ValueError("a per-image FSC needs at least one image")
    curves = np.stack(
        [fsc(predicted(int(i)), truth(int(i)), mask=mask, shells=shells) for i in indices]
    )
    box = np.shape(truth(int(indices[0])))[-1]
    scored = np.abs(curves) if shells == "cryobench" else curves
    return PerImageFsc(indices, curves, fsc_area(scored, box))


def fsc_problem(curve: np.ndarray, threshold: float) -> str | None:
    """Why no resolution can be read from an FSC curve, in words; None where one can.

    Args:
        curve: [shells] FSC from frequency 0 to the last shell that is modelled.
        threshold: as in `resolution_at`.
    """
    values = np.asarray(curve, dtype=np.float64)[1:]
    if not np.all(np.isfinite(values)):
        return "the curve has values that are not numbers"
    if np.all(values == 0.0):
        return "one of the two maps is empty"
    if np.all(values > _SAME_MAP):
        return "the two maps are the same"
    if values[0] < threshold:
        return f"the two maps agree at no frequency (below {threshold:g} from the first shell on)"
    return None


def resolution_at(curve: np.ndarray, threshold: float, pixel_size: float) -> float:
    """Resolution at which an FSC curve first falls below a threshold.

    The crossing is interpolated linearly in frequency. A curve that stays above the threshold
    gives the resolution of its last shell.

    Args:
        curve: [n // 2 + 1] FSC at frequencies i / n, n even (as `fsc` returns for even boxes).
        threshold: 0.143 between half sets, 0.5 against a known map.
        pixel_size: Angstrom per pixel.

    Returns:
        Angstrom; infinity when even shell 1 is below the threshold, as beside an empty map; nan
        when the curve is not a number before it crosses. Neither is a resolution: see
        `fsc_problem`.
    """
    values = np.asarray(curve, dtype=np.float64)
    box = 2 * (len(values) - 1)
    below = np.flatnonzero(~(values[1:] >= threshold))
    if below.size and not np.isfinite(values[1 + below[0]]):
        return float("nan")
    if below.size == 0:
        return box * pixel_size / (len(values) - 1)
    shell = int(below[0]) + 1
    if shell == 1:
        return float("inf")
    high, low = values[shell - 1], values[shell]
    crossing = shell - 1 + (high - threshold) / (high - low)
    return float(box * pixel_size / crossing)
