"""Which small bugs are made of a piece of code, and what is left alone."""

from __future__ import annotations

import pytest
from mutate import mutants_of


def made(code: str, file: str = "search/verdict/x.py") -> set[str]:
    """The bugs of a line in a function."""
    source = f"def f():\n    {code}\n".encode()
    changed = {mutant.applied(source).decode() for mutant in mutants_of(file, source)}
    return {text.removeprefix("def f():\n    ").removesuffix("\n") for text in changed}


@pytest.mark.parametrize(
    ("code", "bugs"),
    [
        ("x = a < b", {"x = a <= b"}),
        ("x = a is not b", {"x = a is b"}),
        ("x = a and not b", {"x = a or not b", "x = a and (b)"}),
        ("x = a + b // c", {"x = a - b // c", "x = a + b * c"}),
        ("x = a[0], a[-1]", {"x = a[-1], a[-1]", "x = a[0], a[0]"}),
        ("x = 3, 0.5, True", {"x = 4, 0.5, True", "x = 3, 1.0, True", "x = 3, 0.5, False"}),
        ("x = a | b", {"x = a"}),
        ("x = a['name']", {"x = a['xxname']"}),
        ("x = g(a, b)", {"x = g(b, a)"}),
        ("x = g(a=b)", {"x = g()"}),
        ("x = sorted(a)", {"x = (a)"}),
        ("x = min(a, b)", {"x = max(a, b)"}),
        ("x = q.where(a, b)", {"x = q", "x = q.where(a, )", "x = q.where(b)"}),
        ("x = q.desc()", {"x = q.asc()"}),
        ("x = ', '.join(a)", set()),
        ("x = np.maximum(a, b)", set()),
        ("x = -a if b else c", {"x = a if b else c", "x = -a if not (b) else c"}),
        ("x = [a for a in b if c]", {"x = [a for a in b if not (c)]"}),
        ("return a", {"return None"}),
        ("a.b = c", {"pass"}),
        ("a.b()", {"pass"}),
        ("a += b", {"pass", "a -= b"}),
        ("raise ValueError(f'{1 + 2}')", {"pass"}),
        ("while a: break", {"while not (a): break", "while a: pass"}),
        ("x = f'{a + b}: {c}'", {"x = f'{a - b}: {c}'"}),
    ],
)
def test_a_bug_is_one_small_change(code: str, bugs: set[str]) -> None:
    assert made(code) == bugs


@pytest.mark.parametrize(
    "code",
    [
        '"A docstring of 1 line."',
        "x: dict[str, int | None]",
        "assert a < 1",
        "x = zip(a, strict=True)",
        "import a.b",
        "log.warning('%d of 2', a)",
        "x = 'A sentence for people.'",
        "if TYPE_CHECKING: a.b()",
    ],
)
def test_what_no_test_can_be_asked_for_is_left_alone(code: str) -> None:
    assert made(code) == set()


def test_the_looks_of_the_report_are_left_alone() -> None:
    code = "x = {'color': a + b, 'y': a + b}"
    assert len(made(code)) == 4
    assert made(code, "search/report/x.py") == {"x = {'color': a + b, 'y': a - b}"}
    for statement in ("x |= {'color': 0}", "x['color'] = 0", "y = chart(x, axis={'color': 0})"):
        assert made(statement) != set()
        assert made(statement, "search/report/x.py") == set()
        assert made(statement.replace("color", "y"), "search/report/x.py") != set()
