"""The padded transform against NumPy's of a volume that was padded first."""

import numpy as np
import pytest

from hypermol.molecule.spatial_basis.oversampled import padded_transform


@pytest.mark.parametrize(
    ("n", "padded", "radius"), [(6, 12, 4), (7, 14, 5), (6, 10, 5), (8, 12, 6), (6, 10, 6)]
)
def test_it_is_the_transform_of_the_padded_volume(n: int, padded: int, radius: int):
    """Up to one step beyond Nyquist, where the grid ends in zeros."""
    volumes = np.random.default_rng(n).normal(size=(3, n, n, n)).astype(np.float32)
    before = padded // 2 - n // 2
    whole = np.pad(volumes, ((0, 0), *[(before, padded - n - before)] * 3))
    axes = (1, 2, 3)
    expected = np.fft.fftn(np.fft.ifftshift(whole, axes=axes), axes=axes)
    steps = np.arange(-radius, radius + 1)
    found = np.asarray(padded_transform(volumes, padded, radius))
    assert found.shape == (len(steps), len(steps), radius + 1, 6)
    seen = min(radius, padded // 2) + 1
    assert not np.any(found[:, :, seen:])
    expected = np.moveaxis(expected[np.ix_(range(3), steps, steps, range(seen))], 0, -1)
    np.testing.assert_allclose(found[:, :, :seen, :3], expected.real, atol=2e-4)
    np.testing.assert_allclose(found[:, :, :seen, 3:], expected.imag, atol=2e-4)
