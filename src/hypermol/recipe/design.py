"""What a fit models, before grids are chosen: it builds the molecules of the march."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, final

from hypermol.molecule.composite import Composite, composite, expansion
from hypermol.molecule.parts import Part, Place
from hypermol.molecule.protocol import Molecule, SlicedMolecule
from hypermol.molecule.region import Ball, Mask, Region
from hypermol.molecule.spatial_basis.base import SpatialBasis
from hypermol.molecule.spatial_basis.gaussians import GaussianGrid
from hypermol.molecule.spatial_basis.prolates import Prolates
from hypermol.molecule.spatial_basis.voxels import Voxels, voxels_in
from hypermol.molecule.state_basis import (
    BASES,
    Constant,
    ProductBasis,
    Variation,
    named_state_basis,
)
from hypermol.molecule.symmetry import group_of
from hypermol.molecule.trajectory import Still, Trajectory
from hypermol.space.state_space import StateSpace


class Grid(NamedTuple):
    """Images and resolution of a level, and the radius of the ball that holds everything."""

    box: int
    pixel_size_angstrom: float
    kmax: int
    radius_angstrom: float

    @property
    def voxels(self) -> Voxels:
        """Voxels in the ball."""
        return Voxels(*self)


class AnyDesign(Protocol):
    """A molecule at any resolution and number of state terms: of parts, or a class of one's own."""

    @property
    def kind(self) -> str:
        """Name of the generic molecule's state basis, composite, or own."""
        ...

    @property
    def is_linear(self) -> bool:
        """Whether the molecule is linear in its maps."""
        ...

    @property
    def n_terms(self) -> int:
        """Largest number of state terms of a part."""
        ...

    @property
    def rising(self) -> frozenset[str]:
        """Names of the parts whose number of state terms is left to the images."""
        ...

    @property
    def n_knobs(self) -> int:
        """How many states a particle has that deform it."""
        ...

    @property
    def axes(self) -> str | None:
        """Point group whose axes are all that the model knows of a frame, C1 if it knows nothing;
        None where it has a frame of its own."""
        ...

    @property
    def bases(self) -> tuple[tuple[str, str, int], ...]:
        """(part, name of its state basis, its terms) of every part."""
        ...

    def molecule(self, grid: Grid, n_terms: int) -> SlicedMolecule:
        """The molecule of a level with at most so many state terms."""
        ...

    def subspace(self, grid: Grid, n_components: int) -> SlicedMolecule:
        """Its linear subspace."""
        ...

    @property
    def parts(self) -> "tuple[PartDesign, ...]":
        """What it is composed of; none for a class of one's own."""
        ...

    def written(self, grid: Grid) -> Molecule:
        """The molecule as its maker wrote it."""
        ...

    @property
    def shown_parts(self) -> tuple[dict[str, Any], ...]:
        """Part tables that samples are read by, where the recipe's own do not say."""
        ...

    def state_space(self, box: int, pixel_size_angstrom: float) -> StateSpace:
        """Where its states live."""
        ...


#: Resolution of a molecule that only its states are asked of.
_COARSE_KMAX = 4


def consensus(grid: Grid) -> Composite:
    """The rigid molecule that every march begins with."""
    return expansion(grid.voxels, Constant())


#: Standard deviation of Gaussians as a share of the resolution: they fall to 1 / 6 there.
_GAUSSIAN_SHARE = 0.3


def _ball(region: Region) -> tuple[float, tuple[float, float, float]]:
    ball = region.bounding_ball() if isinstance(region, Mask) else region
    return ball.radius_angstrom, ball.centre_angstrom


def _prolates(region: Region, box: int, pixel_size_angstrom: float, kmax: int) -> Prolates:
    return Prolates(box, pixel_size_angstrom, kmax, *_ball(region))


def _gaussians(region: Region, box: int, pixel_size_angstrom: float, kmax: int) -> GaussianGrid:
    width = _GAUSSIAN_SHARE * box * pixel_size_angstrom / kmax
    return GaussianGrid(box, pixel_size_angstrom, kmax, width, *_ball(region))


#: Spatial bases by name; a mask softens voxels alone, the others take its bounding ball.
SPATIAL_BASES = {"voxels": voxels_in, "prolates": _prolates, "gaussians": _gaussians}


@final
@dataclass(frozen=True)
class PartDesign:
    """A part of a composite before its grid is chosen; see `parts.Part`.

    Attributes:
        name: unique.
        region: where its density may be; None takes the ball that holds everything.
        spatial_basis: one of `SPATIAL_BASES`.
        states: (state basis, terms, knob) for each of its own knobs; constant for a rigid part.
            The bases of several knobs are multiplied, up to the largest frequency of one.
        trajectory: its rigid motion.
        places: its copies.
        constant: whether it has a density that is the same in all states; without, it is what
            varies on top of another part (`Variation`).
        rises: whether a march may go beyond its terms, for nobody asked for so many.
    """

    name: str
    region: Region | None
    spatial_basis: str
    states: tuple[tuple[str, int, str], ...]
    trajectory: Trajectory
    places: tuple[Place, ...]
    constant: bool = True
    rises: bool = False

    @property
    def n_terms(self) -> int:
        """Terms of the basis of one knob, the largest."""
        return max(n for _, n, _ in self.states)

    @property
    def own_knobs(self) -> tuple[str, ...]:
        """The names that its state basis and then its trajectory use, each once."""
        spaces = [named_state_basis(*state).space for state in self.states]
        names = [name for space in (*spaces, self.trajectory.space) for name in space.names]
        return tuple(dict.fromkeys(names))

    @property
    def deforming(self) -> frozenset[str]:
        """The knobs that its state basis reads, in all its places."""
        own = [knob for kind, _, knob in self.states if kind != "constant"]
        named = [dict(zip(self.own_knobs, place.knobs, strict=False)) for place in self.places]
        return frozenset(names.get(knob, knob) for names in named for knob in own)

    @property
    def is_centred(self) -> bool:
        """Whether it is the same in every frame that has the axes of its places: in a ball about
        the origin, at rest."""
        about = self.region is None or self.region.is_centred
        return about and self.trajectory == Still()

    @property
    def group(self) -> str | None:
        """Point group of its places; C1 of a single one, None where they make none."""
        return group_of([place.rotation for place in self.places])

    def risen(self, n_terms: int) -> "PartDesign":
        """With so many terms, if it rises."""
        if not self.rises:
            return self
        ((kind, _, knob),) = self.states
        return replace(self, states=((kind, BASES[kind].capped(n_terms, n_terms), knob),))

    def part(self, grid: Grid, n_terms: int) -> Part:
        """The part at a resolution, with at most so many state terms."""
        make = SPATIAL_BASES[self.spatial_basis]
        region = self.region or Ball((0.0, 0.0, 0.0), grid.radius_angstrom)
        basis: SpatialBasis = make(region, grid.box, grid.pixel_size_angstrom, grid.kmax)
        most = n_terms if self.constant else max(n_terms, 3)  # one pair of fourier is left
        each = [
            named_state_basis(kind, BASES[kind].capped(n, most), k) for kind, n, k in self.states
        ]
        largest = max(float(one.frequencies.max()) for one in each)
        states = each[0] if len(each) == 1 else ProductBasis(tuple(each), largest)
        if not self.constant:
            states = Variation(states)
        return Part(self.name, basis, states, self.trajectory, self.places)


@final
@dataclass(frozen=True)
class Design:
    """A molecule at any resolution and number of state terms (eq. 25).

    Attributes:
        parts: names are unique; the generic molecule is one part whose name is "".
    """

    parts: tuple[PartDesign, ...]

    is_linear = True
    shown_parts: ClassVar[tuple[dict[str, Any], ...]] = ()

    @property
    def kind(self) -> str:
        """Name of the generic molecule's state basis, or composite."""
        return "composite" if self.parts[0].name else self.parts[0].states[0][0]

    @property
    def n_terms(self) -> int:
        """Largest number of state terms of a part."""
        return max(part.n_terms for part in self.parts)

    @property
    def rising(self) -> frozenset[str]:
        """Names of the parts whose terms may rise beyond those that it begins with."""
        return frozenset(part.name for part in self.parts if part.rises)

    @property
    def n_knobs(self) -> int:
        """How many states a particle has that deform it; knobs of one name are one."""
        return len({knob for part in self.parts for knob in part.deforming})

    @property
    def axes(self) -> str | None:
        """Point group whose axes it stands by, C1 if none; None where parts stand somewhere."""
        groups = {part.group for part in self.parts} - {"C1"} or {"C1"}
        if not all(part.is_centred for part in self.parts) or len(groups) > 1:
            return None
        return groups.pop()

    @property
    def bases(self) -> tuple[tuple[str, str, int], ...]:
        """(part, name of its state basis, its terms) of every part."""
        return tuple((part.name, kind, n) for part in self.parts for kind, n, _ in part.states)

    def molecule(self, grid: Grid, n_terms: int) -> Composite:
        """The molecule of a level with at most so many state terms: all parts on one grid.

        Of more terms than it begins with are the parts that rise.
        """
        risen = n_terms > self.n_terms
        parts = [part.risen(n_terms) for part in self.parts] if risen else self.parts
        return composite(tuple(part.part(grid, n_terms) for part in parts))

    def written(self, grid: Grid) -> Composite:
        """With all of its terms."""
        return self.molecule(grid, self.n_terms)

    def subspace(self, grid: Grid, n_components: int) -> Composite:
        """Its linear subspace (PPCA), which finds the motion without any start: parts that deform
        as subspaces, the others at rest."""
        found = self.molecule(grid, self.n_terms).subspace(n_components)
        if found is None:
            raise ValueError("no part deforms: there is no subspace")
        return found

    def state_space(self, box: int, pixel_size_angstrom: float) -> StateSpace:
        """Where its states live."""
        grid = Grid(box, pixel_size_angstrom, _COARSE_KMAX, 0.5 * box * pixel_size_angstrom)
        return self.molecule(grid, self.n_terms).state_space
