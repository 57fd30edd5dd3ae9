"""The page of made-up runs: whole, self-contained, and honest about what is missing."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from hypermol.io.errors import InputError
from hypermol.report import style, write_report

from .synthetic import World, make_run

_ANCHORS = ("molecule", "occupancy", "poses", "resolution", "states", "sampler", "files")
_VOID = {"meta", "img", "br", "link"}


class _Checker(HTMLParser):
    """Fails on tags that are not closed in order, and collects what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in _VOID:
            self.open.append(tag)
        if "src" in values:
            self.sources.append(values["src"])
        if tag == "a":
            self.links.append(unquote(values["href"]))

    def handle_data(self, data):
        self.texts.append(data)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read_page(path: Path) -> tuple[str, _Checker]:
    html = path.read_text(encoding="utf-8")
    checker = _Checker()
    checker.feed(html)
    assert checker.open == []
    return html, checker


@pytest.fixture(scope="module", autouse=True)
def coarse_pictures():
    """Pictures of few pixels: nobody looks at them here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "_DPI", 40)
        yield


@pytest.fixture(scope="module")
def interval(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("interval")
    return write_report(make_run(folder, World()))


def test_page_is_self_contained(interval):
    html, checker = read_page(interval)
    assert checker.sources
    assert all(source.startswith("data:image/") for source in checker.sources)
    assert "http://" not in html and "https://" not in html
    assert "@import" not in html and "url(" not in html and "<script" not in html
    assert sum(source.startswith("data:image/gif") for source in checker.sources) == 1


def test_every_section_is_there_and_links_lead_somewhere(interval):
    html, checker = read_page(interval)
    for anchor in _ANCHORS:
        assert f'<section id="{anchor}">' in html
    for link in checker.links:
        target = f'id="{link[1:]}"' in html if link[0] == "#" else (interval.parent / link).exists()
        assert target, link


def test_pictures_are_left_as_files(interval):
    names = {path.name for path in (interval.parent / "figures").iterdir()}
    assert {"montage.png", "slices.png", "movie.gif", "occupancy.png", "fsc.png"} <= names
    assert {"poses.png", "views.png", "spectra.png", "leaks.png", "trace.png"} <= names


def test_names_paths_and_remarks_are_escaped(tmp_path):
    """What a file or a person named reaches the reader letter by letter, and adds no tag."""
    nasty = """<script>a & "b" 'c'"""
    # a STAR file has no way to write a name with blanks and both kinds of quotes
    folder = tmp_path / "<script>a & 'c'"
    folder.mkdir()
    path = make_run(folder, World(state_name=nasty))
    path = path.rename(folder / f"run {nasty}")
    change_info(path, remarks=[f"5 rows of {nasty} have no defocus"])
    (path / "volumes").mkdir()
    (path / "volumes" / f"{nasty} #1?.mrc").touch()
    html, checker = read_page(write_report(path))
    assert "<script" not in html
    said = "".join(checker.texts)
    assert f"along {nasty} by" in said
    assert str(folder / "particles.star") in said
    assert f"5 rows of {nasty} have no defocus" in said
    assert f"volumes/{nasty} #1?.mrc" in checker.links
    assert all((path / link).exists() for link in checker.links if link[0] != "#")


def change_info(run: Path, **entries: object) -> None:
    """Write entries into the run.json of a run."""
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | entries))


def test_remarks_have_a_section_only_where_there_are_some(interval, tmp_path):
    html, _ = read_page(interval)
    assert "Remarks on the input" not in html
    run = make_run(tmp_path, World(space="point", draws=4))
    change_info(run, remarks=["first remark", "second remark"])
    html, _ = read_page(write_report(run))
    listed = html.split('<section id="remarks">')[1].split("</section>")[0]
    assert re.findall(r"<li>(.*?)</li>", listed) == ["first remark", "second remark"]
    change_info(run, remarks=[])
    html, _ = read_page(write_report(run))
    assert "Remarks on the input" not in html


def test_nothing_missing_is_noted_as_missing(interval):
    html, _ = read_page(interval)
    assert 'class="missing"' not in html


def test_rigid_run(tmp_path):
    html, checker = read_page(write_report(make_run(tmp_path, World(space="point"))))
    assert "rigid" in html
    assert html.count('class="missing"') == 2
    assert not any("image/gif" in source for source in checker.sources)


def test_short_circle_run_with_fixed_poses_and_parts_missing(tmp_path):
    world = World(space="circle", chains=1, draws=3, poses="fixed")
    run = make_run(tmp_path, world, halves=False)
    (tmp_path / "particles.star").unlink()  # nobody asks for it any more
    (run / "input.npz").unlink()
    (run / "trace.jsonl").unlink()
    html, _ = read_page(write_report(run))
    notes = re.findall(r'class="missing">([^<]*)<', html)
    for part in ("input.npz", "halves.npz", "four samples", "trace.jsonl"):
        assert any(part in note for note in notes), part
    assert "Only one chain" in html
    assert "Poses were held fixed" in html


def test_run_without_samples_says_what_to_do(tmp_path):
    run = make_run(tmp_path, World(draws=0), halves=False)
    with pytest.raises(InputError, match="--resume"):
        write_report(run)


def test_no_run_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        write_report(tmp_path)
