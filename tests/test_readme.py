"""The README's Python runs as it stands, and its test command is the one that the CI runs."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxgfo

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 4
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["result"].best_fitness < names["result"].history[0].best
    assert any((tmp_path / "tuned").glob("*.safetensors"))


def test_the_test_command_is_the_one_that_ci_runs():
    command = re.search(r"^(pip install -e '\.\[test\]' && python -m pytest.*)$", README, re.M)[1]
    install, tests = command.split(" && ")
    assert f"{install} --quiet && {tests}\n" in (ROOT / ".ci" / "run").read_text()


def test_every_algorithm_is_in_the_table():
    for name, cls in jaxgfo.REGISTRY.items():
        assert re.search(rf"^\| `{name}` \| `{cls.__name__}` \|", README, re.M), name


def test_the_skeleton_for_a_new_algorithm_works():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    source = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    names = {}
    source = source.replace("from ..", "from jaxgfo.").replace("jaxgfo. import", "jaxgfo import")
    exec(source, names)
    search, key = names["MySearch"](), jax.random.key(0)
    state = jaxgfo.init(search, key, jnp.ones(4))
    for _ in range(40):
        population, state = jaxgfo.ask(search, key := jax.random.fold_in(key, 1), state)
        state, _ = jaxgfo.tell(search, key, state, population, jnp.sum(population**2, axis=1))
    assert state.fitness < 1.0  # 4 at the start
