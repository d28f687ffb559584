"""The benchmarks' own code: records say where they come from, and pages are made of them."""

import json
import sys

import pytest

from benchmarks import records, report


def test_a_record_says_where_it_comes_from(monkeypatch):
    argv = ["-m", "chunks", "--json", "folder/file", "--quick", "--json=other"]
    monkeypatch.setattr(sys, "argv", argv)
    found = records.record("chunks", libraries=["scipy"], seed=3, figure=2.0, spread=(1.0, 3.0))
    assert found["command"] == "python -m benchmarks chunks --quick"
    assert {"jax", "jaxlib", "numpy", "flax", "jaxgfo", "scipy", "device", "commit"} <= {*found}
    assert (found["seed"], found["figure"], found["spread"]) == (3, 2.0, [1.0, 3.0])
    assert json.loads(json.dumps(found)) == found


def test_a_library_that_is_missing_is_named(capsys):
    found = records.skipped("quality", "cocoex", dim=2)
    assert "coco-experiment is not installed" in capsys.readouterr().out
    assert (found["skipped"], found["dim"]) == ("coco-experiment", 2)


def test_every_result_becomes_a_page(tmp_path):
    lines = {}
    for path in report.RESULTS.glob("*.jsonl"):
        (tmp_path / path.name).write_text(path.read_text())
        lines[path.stem] = records.read(path)
        assert all("figure" in line and line["command"] for line in lines[path.stem])
    report.main(quick=True, json=None, results=tmp_path)
    for name, found in lines.items():
        page = (tmp_path / f"{name}.md").read_text()
        assert f"`{found[-1]['command']}`" in page
        assert found[-1]["commit"] in page


def test_a_broken_line_is_told(tmp_path):
    (tmp_path / "chunks.jsonl").write_text('{"benchmark": "chunks"}\n{"benchm\n')
    with pytest.raises(ValueError, match=r"chunks\.jsonl, line 2: expected one JSON record"):
        records.read(tmp_path / "chunks.jsonl")
