"""The documentation: its code runs, and nothing public is left out of it."""

import ast
import re
from pathlib import Path

import pytest

import jaxgfo

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    DOCS / "tutorial.md",
    *sorted(DOCS.glob("how-to/*.md")),
    *sorted(DOCS.glob("algorithms/*.md")),
]
CODE = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]
SLOW = ("tutorial", "int8")
ALGORITHMS = {cls.__name__ for cls in jaxgfo.REGISTRY.values()}


def public():
    """The names that `jaxgfo/__init__.py` imports for its users."""
    source = Path(jaxgfo.__file__).read_text(encoding="utf-8")
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
    return [alias.asname for node in imports for alias in node.names if alias.asname]


def described():
    """How many pages describe a name, by name."""
    found = {}
    for page in sorted(DOCS.rglob("*.md")):
        for name in re.findall(r"^::: jaxgfo\.(\w+)", page.read_text(encoding="utf-8"), re.M):
            found[name] = found.get(name, 0) + 1
    return found


def left_out(names, pages):
    """What is wrong with the reference: names without a docstring, or not on exactly one page."""
    bare = [name for name, value in names.items() if not (value.__doc__ or "").strip()]
    return bare + [name for name in names if pages.get(name, 0) != 1]


def test_every_public_name_is_described_once():
    names = {name: getattr(jaxgfo, name) for name in public() if name != "REGISTRY"}
    assert set(names) >= ALGORITHMS | {"ask", "tell", "run", "for_box"}
    assert left_out(names, described()) == []
    assert set(described()) == set(names)  # and nothing is described that is not there


def test_a_name_without_docstring_or_page_would_be_noticed():
    def documented():
        """Says something."""

    def bare(): ...

    names = {"documented": documented, "bare": bare, "elsewhere": documented}
    assert left_out(names, {"documented": 1, "bare": 1}) == ["bare", "elsewhere"]
    assert left_out({"twice": documented}, {"twice": 2}) == ["twice"]


def test_every_algorithm_has_its_page_and_stands_in_the_index_and_the_navigation():
    pages = {page.stem for page in (DOCS / "algorithms").glob("*.md")} - {"index"}
    assert pages == set(jaxgfo.REGISTRY)
    index = (DOCS / "algorithms" / "index.md").read_text(encoding="utf-8")
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for name, cls in jaxgfo.REGISTRY.items():
        page = (DOCS / "algorithms" / f"{name}.md").read_text(encoding="utf-8")
        assert f"::: jaxgfo.{cls.__name__}\n" in page
        assert f"]({name}.md)" in index
        assert f"algorithms/{name}.md" in navigation


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.slow if p.stem in SLOW else ()) for p in CODE],
    ids=lambda page: page.stem,
)
def test_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "docs"}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        exec(compile(block, page.name, "exec"), namespace)
    if page.parent.name == "algorithms":
        result = namespace["result"]
        assert result.best_fitness < result.history[0].best


def test_there_is_code_on_the_tutorial_on_every_algorithms_page_and_on_most_others():
    names = [page.stem for page in CODE]
    assert {"tutorial", *jaxgfo.REGISTRY} <= set(names)
    assert len(names) > 10 + len(jaxgfo.REGISTRY)
