"""What the site takes from outside of docs/: results of benchmarks, the changelog, contributing."""

import dataclasses
from pathlib import Path

from mkdocs.structure.files import File

from jaxgfo import REGISTRY, core

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = {"changelog.md": ROOT / "CHANGELOG.md", "contributing.md": ROOT / "CONTRIBUTING.md"}


def on_files(files, config):
    """Add them; the pages of all benchmarks become one."""
    for uri, path in PAGES.items():
        files.append(File.generated(config, uri, content=path.read_text(encoding="utf-8")))
    pages = [path.read_text(encoding="utf-8") for path in sorted(RESULTS.glob("*.md"))]
    whole = "\n\n".join(_lower(page) for page in pages)
    head = "# Benchmarks\n\nAll tables are made by `python -m benchmarks report`.\n\n"
    files.append(File.generated(config, "benchmarks/index.md", content=head + whole))
    for path in RESULTS.glob("*.svg"):
        files.append(File.generated(config, f"benchmarks/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links to results lead into the site; an algorithm's page gets the table of its fields."""
    markdown = markdown.replace("](../benchmarks/results/", "](benchmarks/")
    folder, _, name = page.file.src_uri.removesuffix(".md").partition("/")
    if folder != "algorithms" or name not in REGISTRY:
        return markdown
    before, heading, after = markdown.partition("## Hyperparameters\n")
    return f"{before}{heading}\n{fields(REGISTRY[name])}\n{after}"


def fields(cls):
    """A table of an algorithm's fields, from the class itself, so that no default goes stale."""
    rows = ["| field | default | legal | changes compile again |", "|---|---|---|---|"]
    for field in dataclasses.fields(cls):
        choices = core.choices(cls).get(field.name)
        low, high = field.metadata.get("range", (None, None))
        legal = ", ".join(map(str, choices or ()))
        if low is not None:
            legal = f"from {low}" if high == float("inf") else f"{low} to {high}"
        static = "yes" if field.metadata.get("static") else ""
        rows.append(f"| `{field.name}` | `{field.default}` | {legal} | {static} |")
    return "\n".join(rows) + "\n"


def _lower(page):
    """The page with its headings one level lower, those in code aside."""
    lines, code = [], False
    for line in page.splitlines():
        code ^= line.startswith("```")
        lines.append(f"#{line}" if line.startswith("#") and not code else line)
    return "\n".join(lines)
