"""Which way imports run, how long files are, what `import jaxgfo` costs."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxgfo

PACKAGE = Path(jaxgfo.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
CORE = {"core", "draws", "tree"}
PARTS = {  # a part of the package -> the parts it may know
    "core": {"tree"},
    "draws": set(),
    "tree": {"draws"},
    "memory": set(),
    "processes": set(),
    "flops": set(),
    "clock": set(),
    "describe": set(),
    "embedded": set(),
    "bounds": CORE,
    "noise": CORE,
    "shaping": CORE,
    "low_rank": CORE | {"noise"},
    "mesh": CORE,
    "population": CORE | {"bounds", "low_rank", "mesh", "noise"},
    "operators": CORE | {"bounds", "mesh", "noise", "population", "shaping"},
    "algorithms": CORE | {"bounds", "mesh", "noise", "population", "operators", "shaping"},
    "boxes": {"algorithms", "bounds"},
    "evosax": CORE | {"operators", "population", "shaping"},
    "spaces": CORE,
    "models": CORE,
    "objectives": CORE,
    "generation": CORE,
    "evaluation": CORE
    | {"flops", "low_rank", "memory", "mesh", "processes", "population", "spaces"},
    "optional": CORE,
    "batches": CORE | {"mesh"},
    "best": CORE | {"evaluation", "population"},
    "budget": set(),
    "loop": CORE
    | {"batches", "best", "budget", "clock", "evaluation", "mesh", "optional", "population"}
    | {"processes", "spaces"},
    "needs": CORE | {"best", "evaluation", "spaces"},
    "planning": CORE
    | {"batches", "best", "optional"}
    | {"evaluation", "flops", "memory", "needs", "processes", "spaces"},
    "io": CORE | {"models", "objectives", "loop"},
    "options": CORE | {"batches", "embedded", "io", "mesh", "models", "objectives", "processes"},
    "tune": CORE
    | {"batches", "budget", "optional"}
    | {"embedded", "io", "loop", "mesh", "models", "objectives", "options", "planning", "processes"}
    | {"spaces"},
    "choices": CORE | {"algorithms", "bounds", "describe", "evosax"},
    "cli": CORE
    | {"algorithms", "bounds", "choices", "describe", "evosax", "io", "planning", "tune"},
}


def imported(file):
    """Parts of the package that a file imports, anywhere in it, and other packages."""
    package = ("jaxgfo", *file.relative_to(PACKAGE).parent.parts)
    parts, others = set(), set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *filter(None, [node.module])])
            names = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            parts |= {*rest[:1]} - {"__version__"} if first == "jaxgfo" else set()
            others |= {first} - {"jaxgfo"}
    return parts, others


@pytest.mark.parametrize("part", PARTS)
def test_imports_run_one_way(part):
    files = [f for f in FILES if f.relative_to(PACKAGE).parts[0] in (part, f"{part}.py")]
    assert files
    known = set().union(*(imported(file)[0] for file in files)) - {part}
    assert known <= PARTS[part], f"{part} imports {sorted(known - PARTS[part])}"


def test_algorithms_and_models_never_meet():
    search, language = {"algorithms", "operators"}, {"models", "objectives", "spaces", "io"}
    reach = {part: set(direct) for part, direct in PARTS.items()}
    for _ in PARTS:
        for known in reach.values():
            known |= set().union(*(reach[part] for part in known))
    assert not any(reach[part] & (language | {"evaluation", "loop"}) for part in search)
    assert not any(reach[part] & search for part in language)


def test_every_part_is_in_the_table():
    tops = {f.relative_to(PACKAGE).parts[0].removesuffix(".py") for f in FILES}
    assert tops - {"__init__"} == set(PARTS)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_a_file_is_short_and_safe(file):
    source = file.read_text()
    assert len(source.splitlines()) < 300
    assert not imported(file)[1] & {"pickle", "dill", "cloudpickle", "joblib", "torch"}
    assert not re.search(r"trust_remote_code|(?<![.\w])(?:eval|exec)\(|allow_pickle", source)
    assert ast.get_docstring(ast.parse(source))


def test_import_is_light():
    heavy = (
        "transformers flax torch optax rich tyro matplotlib safetensors tokenizers evosax".split()
    )
    code = f"import jaxgfo, sys; print(*(m for m in {heavy} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


PUBLIC = [
    n for n in vars(jaxgfo) if not n.startswith("_") and not inspect.ismodule(getattr(jaxgfo, n))
]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name):
    thing = getattr(jaxgfo, name)
    if name == "REGISTRY":
        return
    assert len(thing.__doc__ or "") > 20
    # A dataclass or a NamedTuple without a docstring gets its signature as one.
    assert not thing.__doc__.startswith(f"{name}(")


def test_public_names_are_the_registry_and_more():
    assert {cls.__name__ for cls in jaxgfo.REGISTRY.values()} <= set(PUBLIC)
