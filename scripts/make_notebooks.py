"""Make notebooks/*.ipynb from the .py beside them (python scripts/make_notebooks.py [NAME ...]).

Every notebook is run from its first cell to its last, in a new kernel each; one that fails is not
written. What differs from one run to the next though nothing changed is left out: times, cells'
random names, versions.
"""

import resource
import sys
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
TIMEOUT = 300  # seconds of one cell


def make(source: Path) -> None:
    """Run one and write it."""
    begun, used = time.perf_counter(), _cpu_seconds()
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    resources = {"metadata": {"path": str(FOLDER)}}
    settings = {"timeout": TIMEOUT, "record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, resources=resources, **settings).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    if warned := [output.text for output in outputs if output.get("name") == "stderr"]:
        raise SystemExit(
            f"{source.name} is not written, for it wrote to stderr:\n{''.join(warned)}"
        )
    notebook.metadata.pop("language_info", None)
    target = source.with_suffix(".ipynb")
    jupytext.write(notebook, target)
    wall, cpu = time.perf_counter() - begun, _cpu_seconds() - used
    print(f"{target.name}: {wall:.0f} s, {cpu:.0f} s of CPU, {target.stat().st_size // 1000} kB")


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    names = sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.py"))
    for name in names:
        make(FOLDER / f"{name}.py")
