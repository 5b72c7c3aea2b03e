"""Every page is what the program does: its commands parse, its links lead somewhere, its figures have a command."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import programs
import pytest
from pages import (
    BENCHMARKS,
    DOCS,
    LIMIT,
    PAGES,
    README,
    agrees,
    page_name,
    shown,
)
from program import COMMANDS, parse


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_of_a_page_parses(page: Path) -> None:
    for words in shown(page):
        if words[0] == "pairsearch":
            parse(shlex.join(words))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_that_a_page_mentions_exists(page: Path) -> None:
    mentioned = re.findall(r"`(?:[A-Z_]+=\S+ )*pairsearch ([a-z]+)", page.read_text(encoding="utf-8"))
    assert set(mentioned) <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, heading in re.findall(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        path = page.parent / target if target else page
        assert path.exists(), f"{page_name(page)}: {target}"
        if heading and path.suffix == ".md" and "<!-- generated" not in path.read_text(encoding="utf-8"):
            assert heading in slugs(path), f"{page_name(page)}: {target}#{heading}"


def slug(title: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#{1,3} (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {slug(title) for title in titles}


def sections_with_figures(page: Path) -> list[tuple[str, str]]:
    """The heading and the text of each section of a page with a table that has a figure in it."""
    sections = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [
        (section.partition("\n")[0].removeprefix("# "), section)
        for section in sections
        if re.search(r"^\|.*\d\.\d.*\|$", section, re.MULTILINE)
    ]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_a_table_of_figures_stands_beside_the_command_that_makes_it(page: Path) -> None:
    command = r"`(?:pairsearch\s|make\s|python\s+(?:-m\s+pairsearch\.|benchmarks/))"
    without = [title for title, section in sections_with_figures(page) if not re.search(command, section)]
    assert without == []


def test_every_table_of_figures_has_a_row_in_the_list_of_published_numbers() -> None:
    links = re.findall(r"\]\(([^)#]+)#([^)]+)\)", BENCHMARKS.read_text(encoding="utf-8"))
    listed = {((BENCHMARKS.parent / target).resolve(), heading) for target, heading in links}
    explanations = [page for page in PAGES if page.parent.name == "explanation"]
    published = {
        (page, slug(title)) for page in (README, *explanations) for title, _ in sections_with_figures(page)
    }
    assert published - listed == set()


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_benchmark_that_a_page_mentions_exists_and_has_its_options(page: Path) -> None:
    mentioned = re.findall(r"`python\s+benchmarks/(\w+\.py)([^`]*)`", page.read_text(encoding="utf-8"))
    for program, arguments in mentioned:
        text = (BENCHMARKS.parent / program).read_text(encoding="utf-8")
        options = set(re.findall(r"--[\w-]+", arguments)) - {"--help"}
        assert [option for option in options if f'"{option}"' not in text] == [], program


def test_the_site_builds_without_a_warning_and_draws_its_figures(
    tmp_path: Path, chromium: str, copied_paper: programs.Prepare
) -> None:
    options = ("-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path / "site"))
    building = programs.start_forked(tmp_path, *options, module="sphinx", prepare=copied_paper)
    built = programs.ended(building, tmp_path, LIMIT)
    assert (built.code, built.err) == (0, "")
    for page in [page for page in PAGES if page.is_relative_to(DOCS)]:
        html = (tmp_path / "site" / page.relative_to(DOCS)).with_suffix(".html").read_text(encoding="utf-8")
        assert "<!-- generated" not in html
        assert "<!-- figure" not in html
        # It loads nothing from elsewhere, and a browser draws what it has.
        assert re.findall(r'(?:src|href)="https?://[^"]*\.(?:js|css|woff2?)', html) == []
        if page == DOCS / "explanation/paper.md":
            figures = html.count("plotly-graph-div")
            browser = [chromium, "--headless", "--no-sandbox", "--virtual-time-budget=5000", "--dump-dom"]
            address = (tmp_path / "site" / page.relative_to(DOCS)).with_suffix(".html").as_uri()
            drawn = subprocess.run([*browser, address], capture_output=True, text=True, check=True).stdout
            assert len(re.findall(r'class="plot-container', drawn)) == figures, page


@pytest.mark.parametrize(
    ("stated", "printed", "agree"),
    [
        ("a\n", "a\n", True),
        ("a\n", "b\n", False),
        ("a\n", "a\nb\n", False),
        ("a\n...\n", "a\nb\nc\n", True),
        ("...\nc\n", "a\nb\nc\n", True),
        ("...\nc\n", "a\nb\n", False),
        ("a\n...\nb\n", "a\nb\n", True),
        ("3 of 4 in 2.1 s\n", "3 of 4 in 58 s\n", True),
        ("3 of 4 in 2.1 s\n", "2 of 4 in 2.1 s\n", False),
        ("error 0.1234\n", "error 0.1235\n", False),
        ("worker ... ended\n", "worker host:12 ended\n", True),
        ("-----\na   b\n", "-------\na\nb\n", True),
        ("┃ a ┃ seconds ┃\n│ 1 │ 0.5 │\n", "┃ a ┃ seconds ┃\n│ 1 │ 12.5 │\n", True),
        ("┃ a ┃ seconds ┃\n│ 1 │ 0.5 │\n", "┃ a ┃ seconds ┃\n│ 2 │ 0.5 │\n", False),
    ],
)
def test_what_is_held_against_a_page(stated: str, printed: str, agree: bool) -> None:
    assert agrees(stated, printed) is agree
