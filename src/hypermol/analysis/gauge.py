"""The gauge of a reconstruction (paper, sec. 6.2): global rotation, shift and hand.

A reconstruction is known only up to these three; nothing inside the kernels fixes them. A `Gauge`
takes an estimate to a reference. With J = diag(1, 1, -1) when the hand is flipped (identity
otherwise), rotation G and shift c (molecule coordinates, Angstrom),

    V'(r) = V(J G^T (r - c)),        R' = (J R J) G^T,        s' = s - (R' c)_xy.

The pose rule follows from the image I(r') = integral over z of V(R^T (r' - s)): substituting V'
gives V'(R'^T (r' - s')) = V(J G^T (R'^T (r' - s') - c)) = V((J R' G J)^T J (r' - s' - R' c)), and J
only reverses the axis that is integrated over. Images are therefore unchanged when volume and
poses are transformed together.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from hypermol.analysis.coverage import mean_rotation
from hypermol.space.fourier import crop_or_pad_volume
from hypermol.space.rotation import angle_between

_MIRROR = np.diag([1.0, 1.0, -1.0])


@dataclass(frozen=True)
class Gauge:
    """What takes an estimated molecule to the reference: flip, then rotate, then shift.

    Attributes:
        rotation: [3, 3] matrix G.
        shift_angstrom: [3] vector c (x, y, z).
        flipped: whether the estimate has the opposite hand (mirrored in z first).
        score: how well the two agree afterwards: correlation of volumes, or minus the median
            angle in degrees between poses. nan if not measured.
    """

    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    shift_angstrom: np.ndarray = field(default_factory=lambda: np.zeros(3))
    flipped: bool = False
    score: float = float("nan")

    @property
    def angle_deg(self) -> float:
        """Angle of the rotation in degrees."""
        return float(np.degrees(Rotation.from_matrix(self.rotation).magnitude()))

    @property
    def matrix(self) -> np.ndarray:
        """Orthogonal [3, 3] matrix G J that takes molecule points to the reference's frame."""
        return self.rotation @ _MIRROR if self.flipped else self.rotation

    def inverse(self) -> "Gauge":
        """The gauge that takes the reference back to the estimate."""
        if not self.flipped:
            return Gauge(self.rotation.T, -self.rotation.T @ self.shift_angstrom, False)
        rotation = _MIRROR @ self.rotation.T @ _MIRROR
        return Gauge(rotation, -self.matrix.T @ self.shift_angstrom, True)


def compose(second: Gauge, first: Gauge) -> Gauge:
    """The gauge that applies `first` and then `second`; its score is the second's."""
    matrix = second.matrix @ first.matrix
    flipped = second.flipped != first.flipped
    shift = second.matrix @ first.shift_angstrom + second.shift_angstrom
    return Gauge(matrix @ _MIRROR if flipped else matrix, shift, flipped, second.score)


def flip_hand(volume: np.ndarray) -> np.ndarray:
    """Mirror volumes [..., n, n, n] in z about voxel n // 2."""
    n = volume.shape[-3]
    flipped = np.flip(volume, axis=-3)
    return np.roll(flipped, 1, axis=-3) if n % 2 == 0 else flipped


def shift_volume(volume: np.ndarray, shift_px: np.ndarray) -> np.ndarray:
    """Move a volume [n, n, n] by `shift_px` [3] (x, y, z) with Fourier phases: V(r - c)."""
    n = volume.shape[-1]
    frequency, half = np.fft.fftfreq(n), np.fft.rfftfreq(n)
    phase = (
        frequency[:, None, None] * shift_px[2]
        + frequency[None, :, None] * shift_px[1]
        + half * shift_px[0]
    )
    transform = np.fft.rfftn(volume) * np.exp(-2j * np.pi * phase)
    return np.fft.irfftn(transform, s=volume.shape, axes=(0, 1, 2))


def rotate_volume(volume: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """V(M^T r) for an orthogonal matrix M [3, 3] (x, y, z), about voxel n // 2.

    The volume is resampled to half the voxel size in Fourier space, then interpolated by quintic
    splines: errors stay near 1e-3 of the signal up to Nyquist. What turns in from outside the box
    is zero.
    """
    n = volume.shape[-1]
    fine = crop_or_pad_volume(np.asarray(volume, dtype=np.float64), 2 * n)
    coefficients = ndimage.spline_filter(fine, order=5, mode="grid-wrap")
    axis = np.arange(n) - n // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    # row vectors: M^T r is r @ M
    source = np.stack([x, y, z], axis=-1).reshape(-1, 3) @ matrix
    indices = 2.0 * source[:, ::-1].T + n
    out = ndimage.map_coordinates(coefficients, indices, order=5, mode="grid-wrap", prefilter=False)
    inside = (np.abs(source) <= n / 2).all(axis=-1)
    return np.where(inside, out, 0.0).reshape(n, n, n)


def apply_to_volume(gauge: Gauge, volume: np.ndarray, pixel_size: float) -> np.ndarray:
    """V'(r) = V(J G^T (r - c)): an estimated volume in the reference's gauge.

    Args:
        gauge: from `align_volumes` or `align_poses`.
        volume: real [n, n, n].
        pixel_size: Angstrom per voxel.

    Returns:
        real [n, n, n], the volume's own type.
    """
    moved = np.asarray(volume, dtype=np.float64)
    if gauge.angle_deg > 1e-6:
        moved = rotate_volume(moved, gauge.matrix)
    elif gauge.flipped:
        moved = flip_hand(moved)
    if np.any(gauge.shift_angstrom != 0.0):
        moved = shift_volume(moved, np.asarray(gauge.shift_angstrom) / pixel_size)
    return moved.astype(np.result_type(volume, np.float32), copy=False)


def apply_to_poses(
    gauge: Gauge, rotations: np.ndarray, shifts_angstrom: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """R' = (J R J) G^T and s' = s - (R' c)_xy: poses in the reference's gauge.

    Args:
        gauge: from `align_volumes` or `align_poses`.
        rotations: [..., 3, 3], molecule to microscope.
        shifts_angstrom: [..., 2] (x, y).

    Returns:
        rotations [..., 3, 3] and shifts [..., 2].
    """
    turned = np.asarray(rotations, dtype=np.float64)
    if gauge.flipped:
        turned = _MIRROR @ turned @ _MIRROR
    turned = turned @ gauge.rotation.T
    return turned, np.asarray(shifts_angstrom) - (turned @ gauge.shift_angstrom)[..., :2]


def _pose_rotation(estimated: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, float]:
    """Rotation G with true ~ estimated G^T, and the median angle left (degrees).

    The chordal mean of true^T estimated, then of the particles within three times the median
    angle, so that a minority of lost poses does not pull it.
    """
    relative = np.swapaxes(true, -1, -2) @ estimated
    rotation = mean_rotation(relative)
    for _ in range(5):
        angles = angle_between(relative, np.broadcast_to(rotation, relative.shape))
        near = angles <= 3.0 * np.median(angles) + 1e-9
        rotation = mean_rotation(relative[near])
    return rotation, float(np.median(angle_between(relative, rotation)))


def align_poses(
    estimated: tuple[np.ndarray, np.ndarray], true: tuple[np.ndarray, np.ndarray]
) -> Gauge:
    """Gauge that takes estimated poses to true ones, without looking at any volume.

    Both hands are tried; the one that leaves the smaller median angle is kept. The shift solves
    s_true = s - (R' c)_xy for c by least squares. Particles farther than three times the median
    angle are left out of both.

    Args:
        estimated: rotations [N, 3, 3] and shifts in Angstrom [N, 2].
        true: the same for the reference.
    """
    rotations, shifts = (np.asarray(a, dtype=np.float64) for a in estimated)
    true_rotations, true_shifts = (np.asarray(a, dtype=np.float64) for a in true)
    plain, plain_angle = _pose_rotation(rotations, true_rotations)
    mirrored, mirrored_angle = _pose_rotation(_MIRROR @ rotations @ _MIRROR, true_rotations)
    flipped = mirrored_angle < plain_angle
    gauge = Gauge(
        mirrored if flipped else plain,
        np.zeros(3),
        flipped,
        -min(plain_angle, mirrored_angle),
    )
    aligned, _ = apply_to_poses(gauge, rotations, shifts)
    angles = angle_between(aligned, true_rotations)
    near = angles <= 3.0 * np.median(angles) + 1e-9
    design = aligned[near, :2, :].reshape(-1, 3)
    shift = np.linalg.lstsq(design, (shifts - true_shifts)[near].reshape(-1), rcond=None)[0]
    return Gauge(gauge.rotation, shift, flipped, gauge.score)


def pose_errors(
    gauge: Gauge,
    estimated: tuple[np.ndarray, np.ndarray],
    true: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Pose errors after the gauge has been applied to the estimates.

    Args:
        gauge: from `align_volumes` or `align_poses`.
        estimated: rotations [N, 3, 3] and shifts in Angstrom [N, 2].
        true: the same for the reference.

    Returns:
        angles in degrees [N] and shift distances in Angstrom [N].
    """
    rotations, shifts = apply_to_poses(gauge, *estimated)
    distance = np.linalg.norm(shifts - np.asarray(true[1]), axis=-1)
    return angle_between(rotations, np.asarray(true[0])), distance
