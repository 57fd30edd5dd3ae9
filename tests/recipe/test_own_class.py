"""Classes of one's own by their names, and what is wrong with them."""

import pytest

from bodies import BOX, PIXEL
from hypermol.io.errors import InputError
from hypermol.recipe.design import Grid
from hypermol.recipe.options import make_design
from hypermol.recipe.own_class import load_model
from hypermol.recipe.toml import read_recipe, write_recipe

MODULE = """
from hypermol.space.state_space import Interval


class Good:
    state_space = Interval("bend")

    def __init__(self, radius_angstrom, turns=1):
        if radius_angstrom <= 0:
            raise ValueError("radius_angstrom must be positive")

    def init(self, key): ...
    def fourier(self, theta, k, tau): ...
    def log_prior(self, theta): ...


class Half:
    def init(self, key): ...
    def fourier(self, theta, k, tau): ...
"""


@pytest.mark.parametrize(
    ("spec", "arguments", "said"),
    [
        ("my_molecules", {}, "write it as 'package.module:Class'"),
        ("no_such_module:Good", {}, "module no_such_module is not found: install it, put it besid"),
        ("hypermol.nowhere:Good", {}, r"module hypermol\.nowhere is not found"),
        ("my_molecules:Bad", {}, "my_molecules has no class Bad: it has Good, Half"),
        (
            "my_molecules:Good",
            {"size": 3},
            r"unexpected .*'size'\): it takes Good\(radius_angstrom, t",
        ),
        ("my_molecules:Good", {"radius_angstrom": -1}, "must be positive"),
        (
            "my_molecules:Half",
            {},
            r"no molecule yet: add state_space = .*; def log_prior\(self, theta",
        ),
        ("needs_more:X", {}, "needs_more needs absent_dependency, which is not installed"),
        ("broken:X", {}, "importing broken fails with SyntaxError"),
    ],
)
def test_classes_that_cannot_be_loaded(tmp_path, spec, arguments, said):
    (tmp_path / "my_molecules.py").write_text(MODULE)
    (tmp_path / "needs_more.py").write_text("import absent_dependency\n")
    (tmp_path / "broken.py").write_text("def (\n")
    with pytest.raises(InputError, match=said):
        load_model(spec, arguments, tmp_path)


def test_a_class_of_ones_own(tmp_path):
    (tmp_path / "my_molecules.py").write_text(MODULE)
    path = tmp_path / "model.toml"
    path.write_text(
        '[model]\ntype = "my_molecules:Good"\n\n[model.arguments]\nradius_angstrom = 50.0\n'
    )
    design = make_design(read_recipe(path), BOX, PIXEL)
    assert type(design.model).__name__ == "Good" and not design.is_linear
    assert design.molecule(Grid(BOX, PIXEL, 5, 60.0), design.n_terms).molecule is design.model
    assert design.state_space(BOX, PIXEL).names == ("bend",)
    write_recipe(tmp_path / "again.toml", read_recipe(path))
    assert read_recipe(tmp_path / "again.toml") == read_recipe(path)
