"""What the site takes from outside of docs/: results of benchmarks, the changelog, contributing."""

from pathlib import Path

from mkdocs.structure.files import File

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
    """Links to results, which lie outside of docs/ in the repository, lead into the site."""
    return markdown.replace("](../benchmarks/results/", "](benchmarks/")


def _lower(page):
    """The page with its headings one level lower, those in code aside."""
    lines, code = [], False
    for line in page.splitlines():
        code ^= line.startswith("```")
        lines.append(f"#{line}" if line.startswith("#") and not code else line)
    return "\n".join(lines)
