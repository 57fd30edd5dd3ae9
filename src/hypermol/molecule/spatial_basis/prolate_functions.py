"""Generalized prolate spheroidal functions on the unit ball, in float64 (sec. 3.3, Slepian 1964).

They are the eigenfunctions of the Fourier transform cut to the unit ball,

    F[psi](x) = int_{|t| <= 1} psi(t) exp(i c x.t) dt,   psi_lnm(x) = Phi_ln(|x|) Y_lm(x / |x|),

so they are as concentrated in space and in frequency as functions can be. With the real harmonics
Y_lm the plane wave's expansion leaves one radial equation a degree,

    gamma_ln Phi_ln(r) = int_0^1 j_l(c r t) Phi_ln(t) t^2 dt,   F[psi_lnm] = 4 pi i^l gamma psi_lnm,

whose operator commutes with -(d/dr)(1 - r^2)(d/dr) + l (l + 1) / r^2 + c^2 r^2 acting on
r Phi(r). In the orthonormal polynomials T_k of `zernike` that operator is tridiagonal, which gives
all Phi to machine precision; gamma follows by quotients (`_eigenvalues`).
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.special import spherical_jn

#: Concentrations below this have lost digits as quotients and are continued by recursion.
_RECURSION_BELOW = 1e-4
#: Terms beyond half the bandlimit and the order: the expansion's tail falls below 1e-17.
_EXTRA_TERMS = 40


def _recurrence(degree: int, n_terms: int) -> tuple[np.ndarray, np.ndarray]:
    """Diagonal [n_terms] and off-diagonal [n_terms] of multiplication by x = 2 r^2 - 1.

    x T_k = a_{k+1} T_{k+1} + b_k T_k + a_k T_{k-1}: the Jacobi recurrence for (0, l + 1/2).
    """
    beta = degree + 0.5
    twice = 2.0 * np.arange(n_terms + 1) + beta
    diagonal = beta**2 / (twice[:-1] * (twice[:-1] + 2.0))
    k, twice = np.arange(1, n_terms + 1), twice[1:]
    return diagonal, 2.0 * k * (k + beta) / (twice * np.sqrt(twice**2 - 1.0))


def _boundary(degree: int, n_terms: int) -> np.ndarray:
    """T_k(1) = sqrt(4 k + 2 l + 3), [n_terms]: also the polynomials' normalisation."""
    return np.sqrt(4.0 * np.arange(n_terms) + 2.0 * degree + 3.0)


def zernike(degree: int, n_terms: int, radius: np.ndarray) -> np.ndarray:
    """T_k(r) = sqrt(4 k + 2 l + 3) r^l P_k^(0, l + 1/2)(2 r^2 - 1), [n_terms, n], 0 <= r <= 1.

    Orthonormal: int_0^1 T_j T_k r^2 dr = 1 if j = k. The three-term recurrence is stable there.
    """
    diagonal, off = _recurrence(degree, n_terms)
    x = 2.0 * radius**2 - 1.0
    table = np.empty((n_terms, radius.size))
    table[0] = np.sqrt(2.0 * degree + 3.0) * radius**degree
    previous = np.zeros_like(radius)
    for k in range(n_terms - 1):
        below = off[k - 1] * previous if k else 0.0
        table[k + 1] = ((x - diagonal[k]) * table[k] - below) / off[k]
        previous = table[k]
    return table


def _bessel_series(degree: int, expansion: np.ndarray, argument: np.ndarray) -> np.ndarray:
    """int_0^1 j_l(z t) Phi(t) t^2 dt, [n, n_points], of Phi = sum_k expansion[n, k] T_k.

    int_0^1 j_l(z t) T_k(t) t^2 dt = (-1)^k sqrt(4 k + 2 l + 3) j_{l + 2 k + 1}(z) / z; each Bessel
    function is evaluated by itself, for upward recurrences lose all digits beyond order z.
    """
    n_terms = expansion.shape[1]
    factor = _boundary(degree, n_terms) * (-1.0) ** np.arange(n_terms)
    orders = degree + 1 + 2 * np.arange(n_terms)
    bessel = spherical_jn(orders[:, None], argument[None]) / argument
    return (expansion * factor) @ bessel


def _dilation(degree: int, left: np.ndarray, right: np.ndarray) -> float:
    """int_0^1 left(r) r right'(r) r^2 dr from expansions [n_terms] in T_k.

    <T_j, r T_k'> is T_j(1) T_k(1) above the diagonal (by parts: degrees below j drop out), 2 k + l
    on it and zero below.
    """
    edge = _boundary(degree, len(left))
    above = np.cumsum((edge * right)[::-1])[::-1] - edge * right
    power = 2.0 * np.arange(len(left)) + degree
    return float(np.sum(left * edge * above) + np.sum(power * left * right))


def _eigenvalues(bandlimit: float, degree: int, expansion: np.ndarray) -> np.ndarray:
    """gamma_ln, [n], of the Phi given by `expansion` [n, n_terms] in T_k, n from 0.

    Large ones are the quotient of both sides of the integral equation where |Phi| is largest, with
    an error near machine precision times the largest. Small ones continue from their predecessor:
    multiplying the equation's dilation r d/dr by another eigenfunction gives
    gamma_m / gamma_n = <Phi_m, r Phi_n'> / <Phi_n, r Phi_m'>, which keeps relative accuracy.
    """
    radius = np.sin(np.linspace(0.0, 0.5 * np.pi, 4 * expansion.shape[1]))[1:]
    values = expansion @ zernike(degree, expansion.shape[1], radius)
    best = np.argmax(np.abs(values), axis=1)
    gamma = np.empty(len(expansion))
    for n, place in enumerate(best):
        if n and concentration(bandlimit, gamma[n - 1]) < _RECURSION_BELOW:
            up = _dilation(degree, expansion[n], expansion[n - 1])
            gamma[n] = gamma[n - 1] * up / _dilation(degree, expansion[n - 1], expansion[n])
        else:
            side = _bessel_series(degree, expansion[n : n + 1], bandlimit * radius[[place]])
            gamma[n] = side[0, 0] / values[n, place]
    return gamma


def concentration(bandlimit: float, gamma: np.ndarray) -> np.ndarray:
    """Share of each function's energy inside the band, 2 c^3 gamma^2 / pi = (c / 2 pi)^3 |4 pi
    gamma|^2, between 0 and 1.
    """
    return 2.0 * bandlimit**3 / np.pi * np.asarray(gamma) ** 2


def radial_functions(bandlimit: float, degree: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` radial functions of one degree.

    Args:
        bandlimit: c > 0.
        degree: l >= 0.
        count: orders n = 0 .. count - 1, by falling concentration.

    Returns:
        gamma [count] and the expansions of Phi in `zernike`'s T_k, [count, n_terms], unit vectors
        whose largest entry is positive.
    """
    n_terms = count + int(0.5 * bandlimit) + _EXTRA_TERMS
    diagonal, off = _recurrence(degree, n_terms)
    free = 2.0 * np.arange(n_terms) + degree
    # r^2 = (1 + x) / 2
    squared = 0.5 * bandlimit**2
    vectors = eigh_tridiagonal(
        (free + 1.0) * (free + 2.0) + squared * (1.0 + diagonal),
        squared * off[:-1],
        select="i",
        select_range=(0, count - 1),
    )[1].T
    largest = np.take_along_axis(vectors, np.argmax(np.abs(vectors), axis=1)[:, None], axis=1)
    expansion = vectors * np.sign(largest)
    return _eigenvalues(bandlimit, degree, expansion), expansion


@final
@dataclass(frozen=True, eq=False)
class ProlateFunctions:
    """The functions psi_lnm of bandlimit c whose concentration exceeds a threshold.

    Attributes:
        bandlimit: c = 2 pi R k_max for a ball of radius R and frequencies up to k_max.
        eigenvalues: for each degree l, gamma_ln, [n_l]; n_l >= 1 falls with l.
        expansions: for each degree, Phi_ln in `zernike`'s polynomials, [n_l, n_terms].
    """

    bandlimit: float
    eigenvalues: tuple[np.ndarray, ...]
    expansions: tuple[np.ndarray, ...]

    @property
    def counts(self) -> np.ndarray:
        """int [L]: radial functions of each degree."""
        return np.array([len(gamma) for gamma in self.eigenvalues])

    @property
    def n_functions(self) -> int:
        """All psi_lnm: sum over l of (2 l + 1) n_l."""
        return int(np.sum((2 * np.arange(len(self.counts)) + 1) * self.counts))

    def radial(self, degree: int, radius: np.ndarray) -> np.ndarray:
        """Phi_ln(r), [n_l, n], at radii [n] in 0 .. 1; int_0^1 Phi^2 r^2 dr = 1."""
        expansion = self.expansions[degree]
        return expansion @ zernike(degree, expansion.shape[1], radius)

    def transformed(self, degree: int, radius: np.ndarray) -> np.ndarray:
        """int_0^1 j_l(c r t) Phi_ln(t) t^2 dt, [n_l, n], at any radii [n] >= 0.

        It is gamma Phi(r) up to r = 1; beyond, the Bessel series continues it (polynomials would
        amplify their rounding errors there).
        """
        inside = radius <= 1.0
        values = np.empty((len(self.eigenvalues[degree]), radius.size))
        values[:, inside] = self.eigenvalues[degree][:, None] * self.radial(degree, radius[inside])
        values[:, ~inside] = _bessel_series(
            degree, self.expansions[degree], self.bandlimit * radius[~inside]
        )
        return values

    def band_energies(self, edges: np.ndarray) -> list[np.ndarray]:
        """For each degree, [n_l, S] int Phi_ln^2 r^2 dr between neighbouring edges [S + 1].

        They are the shares of the energy inside the band (and inside the ball, by the equation)
        that lie in shells of those radii.
        """
        nodes, weights = np.polynomial.legendre.leggauss(8 + int(self.bandlimit / len(edges)))
        half = 0.5 * np.diff(edges)[:, None]
        radius = edges[:-1, None] + half * (nodes + 1.0)
        weights = half * weights * radius**2
        values = [self.radial(d, radius.reshape(-1)) for d in range(len(self.eigenvalues))]
        return [np.sum(v.reshape(-1, *radius.shape) ** 2 * weights, axis=-1) for v in values]

    def mean_frequencies(self) -> list[np.ndarray]:
        """For each degree, int_0^1 r Phi_ln^2 r^2 dr, [n_l]: the mean radial frequency of the part
        inside the band as a share of the bandlimit (and the mean radius, by the equation).
        """
        edges = np.linspace(0.0, 1.0, 20 + 4 * int(self.bandlimit))
        middle = 0.5 * (edges[1:] + edges[:-1])
        return [energy @ middle for energy in self.band_energies(edges)]


def prolate_functions(bandlimit: float, threshold: float = 0.5) -> ProlateFunctions:
    """All functions whose concentration exceeds the threshold.

    Their number is near 2 c^3 / (9 pi) = (4 pi / 3)^2 (R k_max)^3, the product of the volumes of
    ball and band, for thresholds that are not extreme.

    Raises:
        ValueError: no function is as concentrated as that (the ball is smaller than a resolution
            element).
    """
    eigenvalues: list[np.ndarray] = []
    expansions: list[np.ndarray] = []
    count = int(bandlimit / np.pi) + 4
    while True:
        degree = len(eigenvalues)
        gamma, expansion = radial_functions(bandlimit, degree, count)
        keep = int(np.sum(concentration(bandlimit, gamma) > threshold))
        if keep == 0:
            break
        eigenvalues.append(gamma[:keep])
        expansions.append(expansion[:keep])
        count = keep + 1  # concentrations fall with l and with n
    if not eigenvalues:
        raise ValueError(f"no function of bandlimit {bandlimit:g} exceeds {threshold:g}")
    return ProlateFunctions(bandlimit, tuple(eigenvalues), tuple(expansions))
