"""The worked examples run, and find what they say they find."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

_FOLDER = Path(__file__).resolve().parents[1] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, _FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_breathing_ct(tmp_path: Path):
    """A scan of half the size: phases to 0.9 or better, a movie and a montage."""
    example = load("breathing_ct")
    scan = example.Scan(views=256, coarse=5, fine=7, sweeps=(2, 3, 5), kept=3)
    scores = example.run(scan, tmp_path)
    assert scores.correlation > 0.9
    assert scores.median_error < 0.03
    with Image.open(tmp_path / "breathing.gif") as movie:
        assert movie.n_frames == example.FRAMES
    with Image.open(tmp_path / "breathing.png") as montage:
        assert montage.width > montage.height
