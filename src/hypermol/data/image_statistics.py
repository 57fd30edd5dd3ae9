"""Grey values of images: what is measured of each, and which images differ from the others.

Pure functions of arrays; `data.inspection` says what follows for a fit.
"""

from typing import NamedTuple

import numpy as np

#: An image differs if its sd is this many times the median's (or the median its), and ...
_SCALE_FACTOR = 2.0
#: ... if that is more than this many robust sd of all images' log sd,
_ROBUST_SD = 8.0
#: which is taken as no smaller than this.
_LEAST_SPREAD = 0.05
#: A pixel stands out by at least this many sd, and by half the box, where it adds to each Fourier
#: coefficient a quarter of the noise's variance; and by three times the usual largest pixel.
_PEAK_SD, _PEAK_TIMES_USUAL = 10.0, 3.0
#: One pixel is to blame, and not the image's scale, if it is so many of the image's own sd out.
_PEAK_OF_ITS_OWN = 8.0
_FLAT_SHARE = 0.2
_CORNER_SD, _CORNER_ROBUST_SD = 1.5, 10.0
_MAD_TO_SD = 1.4826
#: Below this share of an image's sd, the corners hold no noise to normalise by.
_LEAST_CORNER_SHARE = 0.2
_LEAST_CORNER_PIXELS = 200
#: White noise of sd 1 has second differences along both axes of sd 6.
_SECOND_DIFFERENCE = np.sqrt(np.pi / 2.0) / 6.0
#: Images whose typical noise is less than this share of their sd are mostly signal.
_LEAST_NOISE_SHARE = 0.3


class ImageStatistics(NamedTuple):
    """Measurements of N images, each float64 [N]; nan where an image has values not finite.

    Attributes:
        mean, sd: of all pixels.
        low, high: the least and the largest pixel.
        corner_mean, corner_sd: of the pixels beyond the inscribed circle.
        centre: mean within a quarter of the box less the corners' mean.
        flat: share of pixels that equal their right neighbour.
        noise: sd of white noise that has the image's mean absolute second difference along both
            axes, which a particle hardly adds to.
        spike: how far a pixel stands out from its neighbours at most: the largest such difference,
            as the height of one pixel on flat ground.
    """

    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray
    corner_mean: np.ndarray
    corner_sd: np.ndarray
    centre: np.ndarray
    flat: np.ndarray
    noise: np.ndarray
    spike: np.ndarray

    @property
    def is_finite(self) -> np.ndarray:
        """bool [N]."""
        return np.isfinite(self.sd)

    @property
    def is_constant(self) -> np.ndarray:
        """bool [N], whether all pixels are the same."""
        return self.low == self.high

    def take(self, chosen: np.ndarray) -> "ImageStatistics":
        """The images `chosen` (integers or a mask)."""
        return ImageStatistics(*(values[chosen] for values in self))

    def rescaled(self, offset: np.ndarray, factor: np.ndarray) -> "ImageStatistics":
        """What is measured of (image - offset) * factor, factor positive; both [N]."""
        return ImageStatistics(
            mean=(self.mean - offset) * factor,
            sd=self.sd * factor,
            low=(self.low - offset) * factor,
            high=(self.high - offset) * factor,
            corner_mean=(self.corner_mean - offset) * factor,
            corner_sd=self.corner_sd * factor,
            centre=self.centre * factor,
            flat=self.flat,
            noise=self.noise * factor,
            spike=self.spike * factor,
        )


def measure(images: np.ndarray) -> ImageStatistics:
    """Statistics of images [N, box, box]."""
    values = np.asarray(images, dtype=np.float64)
    broken: np.ndarray = ~np.all(np.isfinite(values), axis=(1, 2))
    values = np.where(broken[:, None, None], 0.0, values)
    radius = _radius(values.shape[-1])
    corners = values[:, radius > 0.5 * values.shape[-1]]
    corner_mean = corners.mean(axis=1)
    mirrored = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    curved = np.abs(np.diff(np.diff(mirrored, n=2, axis=1), n=2, axis=2))
    found = ImageStatistics(
        mean=values.mean(axis=(1, 2)),
        sd=values.std(axis=(1, 2)),
        low=values.min(axis=(1, 2)),
        high=values.max(axis=(1, 2)),
        corner_mean=corner_mean,
        corner_sd=corners.std(axis=1),
        centre=values[:, radius < 0.25 * values.shape[-1]].mean(axis=1) - corner_mean,
        flat=(values[:, :, 1:] == values[:, :, :-1]).mean(axis=(1, 2)),
        noise=_SECOND_DIFFERENCE * curved[:, 1:-1, 1:-1].mean(axis=(1, 2)),
        spike=0.25 * curved.max(axis=(1, 2)),
    )
    return ImageStatistics(*(np.where(broken, np.nan, column) for column in found))


def join(pieces: list[ImageStatistics]) -> ImageStatistics:
    """Statistics of all pieces' images, in their order."""
    return ImageStatistics(*(np.concatenate(columns) for columns in zip(*pieces, strict=True)))


def _radius(box: int) -> np.ndarray:
    """Distance [box, box] of each pixel from the centre, in pixels."""
    axis = np.arange(box) - box // 2
    return np.hypot(axis[:, None], axis[None, :])


def unusable(statistics: ImageStatistics) -> dict[int, str]:
    """Images that no fit can take: index and what is wrong, to follow the image's name."""
    found = {
        int(place): "has values that are not finite"
        for place in np.flatnonzero(~statistics.is_finite)
    }
    return found | {
        int(place): "has the same value in every pixel"
        for place in np.flatnonzero(statistics.is_constant)
    }


def is_mostly_noise(statistics: ImageStatistics) -> bool:
    """Whether noise makes up the typical image, as in all but simulations."""
    return bool(np.median(statistics.noise / statistics.sd) > _LEAST_NOISE_SHARE)


def grey_scale(statistics: ImageStatistics) -> np.ndarray:
    """What grey scales are compared by [N]: the noise's sd, the image's if there is little noise.

    The signal's own sd differs by a factor of several between views and defoci.
    """
    return statistics.noise if is_mostly_noise(statistics) else statistics.sd


def normalisation(statistics: ImageStatistics, box: int) -> tuple[np.ndarray, np.ndarray]:
    """(offset [N], factor [N]) that bring each image's background to mean 0 and sd 1.

    The background are the corners, as at RELION's extraction; the whole image where corners are
    small or, in images without noise, empty.
    """
    enough = np.count_nonzero(_radius(box) > 0.5 * box) >= _LEAST_CORNER_PIXELS
    if enough and np.all(statistics.corner_sd > _LEAST_CORNER_SHARE * statistics.sd):
        return statistics.corner_mean, 1.0 / statistics.corner_sd
    return statistics.mean, 1.0 / statistics.sd


def outliers(statistics: ImageStatistics, box: int) -> dict[int, str]:
    """Images that differ from the others: index and, in words, how. All must be usable."""
    found: dict[int, str] = {}
    typical_sd = float(np.median(statistics.sd))
    peak = statistics.spike / typical_sd
    limit = max(_PEAK_SD, 0.5 * box, _PEAK_TIMES_USUAL * float(np.median(peak)))
    for place in np.flatnonzero(peak > limit):
        found[int(place)] = f"sd {statistics.sd[place] / typical_sd:.3g} times the median"
        if statistics.spike[place] > _PEAK_OF_ITS_OWN * statistics.sd[place]:
            found[int(place)] = f"a pixel {_count(peak[place])} sd from its neighbours"
    log_sd = np.log(statistics.sd)
    far = _is_far(log_sd, np.log(_SCALE_FACTOR), _ROBUST_SD, _LEAST_SPREAD)
    for place in np.flatnonzero(far):
        found.setdefault(int(place), f"sd {statistics.sd[place] / typical_sd:.3g} times the median")
    flat = statistics.flat - np.median(statistics.flat)
    for place in np.flatnonzero(flat > _FLAT_SHARE):
        found.setdefault(int(place), "a part with one value in all pixels")
    corner = (statistics.corner_mean - statistics.mean) / statistics.sd
    far = _is_far(corner, _CORNER_SD, _CORNER_ROBUST_SD, _LEAST_SPREAD)
    for place in np.flatnonzero(far):
        found.setdefault(int(place), f"corners {corner[place]:+.1f} sd from the mean")
    return dict(sorted(found.items()))


def common_peak(statistics: ImageStatistics, box: int) -> float | None:
    """By how many of its sd a pixel of the typical image stands out, if that is very much."""
    median = float(np.median(statistics.spike / statistics.sd))
    return median if median > max(_PEAK_SD, 0.5 * box) else None


def _count(value: float) -> str:
    return f"{value:,.0f}" if value < 1e6 else f"{value:.3g}"


def _is_far(values: np.ndarray, least: float, robust_sd: float, floor: float) -> np.ndarray:
    """bool [N]: farther from the median than `least` and than so many robust sd."""
    distance = np.abs(values - np.median(values))
    spread = max(_MAD_TO_SD * float(np.median(distance)), floor)
    return distance > max(least, robust_sd * spread)
