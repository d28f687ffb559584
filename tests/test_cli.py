"""The command line, run in-process on tiny checkpoints."""

import dataclasses
import json
import math
import re
import shutil
import signal
import sys

import jax
import numpy as np
import pytest
from checkpoints import CONFIG, TOKENIZER, random_tensors, write
from rich.console import Console
from safetensors import safe_open

import jaxgfo
from jaxgfo import cli, describe, tune
from jaxgfo.evosax import adapted
from jaxgfo.io import log
from jaxgfo.options import Data, Options

REPORT = """algorithm space model perplexity_before perplexity_after train_before train_after
generations evaluations forward_tokens seconds compile_seconds out""".split()
ONE_LAYER = {"num_hidden_layers": 1}  # compiles sooner
TEXT = "A blue hat was lost near the old inn, and Greta asked everybody for it. " * 40


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A current folder with a model and a text in it."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "model", **ONE_LAYER)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def call(capsys, line):
    """Exit code, standard output and standard error."""
    try:
        code = cli.main(line.split())
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


TINY = "tune --model model --data text.txt --length 16 --rows 2 --generations 2"


def report_of(capsys, line):
    code, out, err = call(capsys, f"{line} --json")
    assert code == 0, err
    assert len(out.splitlines()) == 1
    return json.loads(out)


def test_version(capsys):
    assert call(capsys, "--version") == (0, f"jaxgfo {jaxgfo.__version__}\n", "")


# One for each kind of population, state and candidate; options are tested for all.
KINDS = ["ga", "cma", "openes", "lowrank-es", "spsa", "int8-es"]


@pytest.mark.parametrize("name", KINDS)
def test_tune_with_every_kind_of_algorithm(work, capsys, name):
    dtype, space = ("int8", "select:*.down.kernel") if name == "int8-es" else (None, "select:norms")
    options = f" --dtype {dtype} --space {space}" if dtype else ""
    report = report_of(capsys, f"{TINY} --algorithm {name} --pop-size 4 --seed 1{options}")
    assert set(REPORT) <= set(report)
    assert report["hyperparameters"]["pop_size"] == 4
    assert (report["algorithm"], report["space"], report["model"]) == (
        name,
        space,
        "model",
    )
    assert (report["generations"], report["evaluations"]) == (2, 8)
    assert report["forward_tokens"] == 8 * 2 * 16
    assert report["train_after"] <= report["train_before"]
    assert 0 < report["compile_seconds"] < report["seconds"]
    assert report["out"] == f"runs/{name}-1"
    assert json.loads((work / report["out"] / "jaxgfo.json").read_text()) == report
    model = jaxgfo.load_model(report["out"])
    assert model.tokenizer is not None


def test_the_default_space_is_what_there_is_to_tune():
    assert [Options(dtype=d).spec for d in (None, "int8")] == ["select:norms", "select:*.kernel"]
    assert Options(dtype="int8", space="select:norms").spec == "select:norms"


def test_the_tuned_model_has_the_perplexity_that_was_reported(work, capsys):
    (work / "held.txt").write_text(TEXT[7:500])
    report = report_of(
        capsys, f"{TINY} --algorithm random --init-scale 0.5 --generations 6 --validation held.txt"
    )
    assert report["train_after"] < report["train_before"]
    assert report["perplexity_after"] != report["perplexity_before"]
    for folder, key in [("model", "perplexity_before"), (report["out"], "perplexity_after")]:
        again = report_of(capsys, f"evaluate --model {folder} --data held.txt --length 16")
        assert again["perplexity"] == pytest.approx(report[key], rel=1e-6)
        assert again["nats_per_token"] == pytest.approx(np.log(again["perplexity"]))
        assert again["tokens"] % 15 == 0
    # Only what the space chose was changed.
    with (
        safe_open("model/model.safetensors", "numpy") as before,
        safe_open(f"{report['out']}/model.safetensors", "numpy") as after,
    ):
        changed = {
            name
            for name in before.keys()  # noqa: SIM118
            if not np.array_equal(before.get_tensor(name), after.get_tensor(name))
        }
    assert changed == {n for n in random_tensors(CONFIG | ONE_LAYER) if "norm" in n}


def test_the_run_ends_with_a_table(work, capsys):
    code, out, err = call(capsys, f"{TINY} --algorithm random --pop-size 4")
    assert code == 0
    for part in ("validation", "training", "before", "after", "2 generations", "runs/random-1"):
        assert part in out
    assert re.search(r"^random, .*\b4\b.*\b32 tokens", err, re.MULTILINE)
    assert re.search(r"^[\d,]+ parameters; population of 4: .*\bat a time\nneeds .* of ", err)
    code, out, err = call(capsys, "evaluate --model model --data text.txt --length 16")
    assert re.search(r"perplexity \d+\.\d{4} over \d+ tokens", out)
    assert re.search(r"^[\d,]+ parameters; no population, 32 at a time\nneeds .* of ", err)


def test_rows_are_drawn_for_every_generation(work, capsys):
    line = f"{TINY} --rows 6 --batch-rows 2 --algorithm de --pop-size 4 --evaluations 20 --seed 1"
    line = line.replace("--generations 2", "")
    code, out, err = call(capsys, line)
    assert code == 0
    assert re.search(r"^de, .*\b4\b.*\b32 tokens", err, re.MULTILINE)
    assert "3 generations, 20 evaluations and 6 at the end" in " ".join(out.split())
    report = json.loads((work / "runs/de-1/jaxgfo.json").read_text())
    assert (report["rows"], report["batch_rows"], report["unlearnt"]) == (6, 2, 0)
    assert report["forward_tokens"] == 20 * 2 * 16 + 6 * 6 * 16
    assert report["train_after"] <= report["train_before"]


@pytest.mark.parametrize(
    ("evaluations", "each", "seen", "totals"),
    [
        (28, 8, [4, 12, 20, 28], ["1/4", "2/4", "3/4", "4/4"]),
        (12, 4, [4, 8, 12], ["1/3", "2/3", "3/3"]),
        (40, 4, [4, 8, 16, 24], ["1/10", "2/10", "3/6", "4/6"]),  # twice the members from the third
    ],
)
def test_progress_knows_what_a_generation_costs(evaluations, each, seen, totals):
    budget = {"num_generations": None, "num_evaluations": evaluations, "num_seconds": None}
    progress = log.Progress(Console(), budget, tokens=10, evaluations=each)
    numbers = {"best": 1.0, "mean": 2.0, "lowest": 1.0, "failed": 0, "info": {}}
    for index, (count, total) in enumerate(zip(seen, totals)):
        clock = {"seconds": 1.0 + index, "compile_seconds": 1.0 * (index < 1)}
        line = progress.line(jaxgfo.Generation(index=index, evaluations=count, **numbers, **clock))
        assert line.startswith(f"generation {total} ")
    assert line.endswith("0:00 left") == (seen[-1] + each > evaluations)


def test_generations_that_taught_nothing_are_told():
    report = dict.fromkeys(REPORT, 1.0) | {"final_evaluations": 0, "unlearnt": 3}
    lines = [str(part) for part in log.summary(report)]
    assert lines[-1] == "3 generations taught nothing: all members failed or scored alike"
    assert not any("nothing" in str(part) for part in log.summary(report | {"unlearnt": 0}))
    shown = {"index": 0, "evaluations": 4, "best": 1.0, "lowest": 1.0, "failed": 0}
    shown |= {"seconds": 1.0, "compile_seconds": 0.5}
    for mean, info, taught in [
        (1.0, {}, True),
        (1.0, {"learnt": 1.0}, True),
        (1.0, {"learnt": 0.0}, False),
        (math.nan, {"learnt": 1.0}, False),
    ]:
        assert tune._unlearnt(jaxgfo.Generation(mean=mean, info=info, **shown)) != taught


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(work, capsys):
    line = f"{TINY} --algorithm ga --pop-size 4 --elites 2"
    first, second, other = (report_of(capsys, f"{line} --seed {seed}") for seed in (3, 3, 5))
    assert first["perplexity_after"] == second["perplexity_after"] != other["perplexity_after"]
    assert [r["out"] for r in (first, second, other)] == [f"runs/ga-{i}" for i in (1, 2, 3)]


def test_a_hyperparameter_changes_the_search(work, capsys):
    line = f"{TINY} --algorithm=random --pop-size=4"
    first, second = (report_of(capsys, f"{line} --init-scale {s}") for s in (0.3, 0.2))
    assert first["train_before"] == second["train_before"]
    assert first["train_after"] != second["train_after"]


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ("--weight 0.5 --strategy best/1", {"weight": 0.5, "strategy": "best/1"}),
        ("--bounds -1 2", {"bounds": jaxgfo.Bounds(-1.0, 2.0, "clip")}),
        (
            "--init-scale None --bounds 0 2 --bounds-mode wrap",
            {"init_scale": None, "bounds": jaxgfo.Bounds(0.0, 2.0, "wrap")},
        ),
        ("--batch-rows 2 --no-reevaluate", {}),
        ("", {}),
    ],
)
def test_hyperparameters_and_bounds_are_options(capsys, monkeypatch, options, fields):
    chosen = []

    def prepare(name, algorithm, options):
        chosen.append((name, algorithm, options.reevaluate))
        raise ValueError("enough")

    monkeypatch.setattr(cli, "prepare", prepare)
    assert call(capsys, f"tune --algorithm de {options}")[0] == 2
    again = "--no-reevaluate" not in options
    assert chosen == [("de", jaxgfo.DifferentialEvolution(**fields), again)]


def test_algorithms_of_evosax(work, capsys):
    line = f"{TINY} --algorithm evosax:HillClimbing --pop-size 4"
    report = report_of(capsys, f"{line} --init-scale 0.1")
    assert (report["algorithm"], report["out"]) == (
        "evosax:HillClimbing",
        "runs/evosax-HillClimbing-1",
    )
    given = {"pop_size": 4, "init_scale": 0.1}
    assert given.items() <= report["hyperparameters"].items()
    assert report["train_after"] <= report["train_before"]
    code, out, _ = call(capsys, "tune --algorithm=evosax:Open_ES --help")
    assert code == 0
    for option in (
        "--init-scale",
        "--optimizer",
        "--learning-rate",
        "--no-use-antithetic",
        "CMA_ES",
    ):
        assert (option in out) == (option != "CMA_ES")


def test_evosax_that_is_not_there(capsys, monkeypatch):
    line = "tune --algorithm evosax:"
    code, out, err = call(capsys, f"{line}PGP")
    assert (code, out) == (2, "")
    assert err.startswith("jaxgfo: evosax has no 'PGP'; closest: PGPE")
    code, out, _ = call(capsys, "algorithms")
    assert re.search(r"^evosax:NAME  of evosax: ARS, .*PGPE", out, re.MULTILINE)
    monkeypatch.setitem(sys.modules, "evosax.algorithms", None)
    adapted.cache_clear()
    for again, expected in (("algorithms", 0), (f"{line}PGPE", 2)):
        code, out, err = call(capsys, again)
        assert code == expected
        assert "pip install 'jaxgfo[evosax]'" in out + err


def test_names_and_truths_are_options(capsys, monkeypatch):
    chosen = []

    def prepare(name, algorithm, options):
        chosen.append(algorithm)
        raise ValueError("enough")

    monkeypatch.setattr(cli, "prepare", prepare)
    for name, options in (
        ("openes", "--optimizer sgd"),
        ("evosax:ARS", "--optimizer sgd --learning-rate 0.1"),
        ("evosax:DifferentialEvolution", "--no-elitism --crossover-rate 0.5"),
    ):
        assert call(capsys, f"tune --algorithm {name} {options}")[0] == 2
    assert chosen == [
        jaxgfo.OpenES(optimizer="sgd"),
        jaxgfo.Evosax("ARS", optimizer="sgd", learning_rate=0.1),
        jaxgfo.Evosax("DifferentialEvolution", elitism=False, crossover_rate=0.5),
    ]


@pytest.mark.parametrize(
    "space", [pytest.param("full", marks=pytest.mark.slow), "flat:head", "subspace:3"]
)
def test_spaces_dtypes_and_documents(work, capsys, space):
    (work / "text.jsonl").write_text("\n".join(json.dumps({"text": TEXT[:i]}) for i in (50, 9, 70)))
    report = report_of(
        capsys,
        f"tune --model model --data text.jsonl --length 16 --rows 2 --evaluations 9 --pop-size 4 "
        f"--algorithm random --space {space} --dtype bfloat16 --out tuned --chunk-size 2",
    )
    assert (report["space"], report["out"], report["evaluations"]) == (space, "tuned", 8)
    params = jaxgfo.load_model("tuned").params
    assert {str(x.dtype) for x in jax.tree.leaves(params)} == {"bfloat16"}


def test_the_embedded_default(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    report = report_of(capsys, "tune --algorithm random --generations 2 --pop-size 2 --rows 2")
    assert (report["model"], report["data"]) == ("embedded", "embedded")
    assert report["train_after"] <= report["train_before"] < 50


def test_ctrl_c_writes_what_was_found(work, capsys, monkeypatch):
    monkeypatch.setattr(
        log.Progress, "__call__", lambda self, generation: signal.raise_signal(signal.SIGINT)
    )
    report = report_of(capsys, f"{TINY} --algorithm random --pop-size 4 --generations 9")
    assert (report["stopped"], report["generations"]) == ("interrupted", 1)
    jaxgfo.load_model(report["out"])


# What is listed


def test_algorithms_are_listed_with_hyperparameters_and_papers(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = call(capsys, "algorithms")
    assert code == 0
    for name, cls in jaxgfo.REGISTRY.items():
        assert re.search(rf"^\s*{name}  {cls.__name__}", out, re.MULTILINE)
        for field in dataclasses.fields(cls):
            assert re.search(rf"\b{field.name}\b", out)
        assert describe.reference(cls)[:30] in " ".join(out.split())


@pytest.mark.parametrize("name", jaxgfo.REGISTRY)
def test_every_hyperparameter_is_described(name):
    cls = jaxgfo.REGISTRY[name]
    described = describe.hyperparameters(cls)
    assert {f.name for f in dataclasses.fields(cls)} == set(described)
    assert all(described.values())
    assert len(describe.headline(cls)) > 10
    assert re.search(r"\(\d{4}\)", describe.reference(cls))


@pytest.mark.parametrize("name", jaxgfo.REGISTRY)
def test_help_shows_the_options_of_the_chosen_algorithm(capsys, name):
    code, out, _ = call(capsys, f"tune --algorithm {name} --help")
    assert code == 0
    for field in dataclasses.fields(jaxgfo.REGISTRY[name]):
        # Of what is on by default there is only the way to turn it off.
        prefix = "--no-" if field.default is True else "--"
        assert prefix + field.name.replace("_", "-") in out
    for option in ("--model", "--data", "--space", "--seconds", "--bounds-mode", "--json"):
        assert option in out


def test_help_describes_every_option_of_its_own(capsys):
    for line in ("--help", "evaluate --help"):
        code, out, _ = call(capsys, line)
        assert code == 0
        assert "tune" in out or "--model" in out
    for cls in (Options, Data):
        described = describe.hyperparameters(cls)
        assert set(cls.__annotations__) <= set(described)


# What is refused, before any search


@pytest.fixture
def no_search(monkeypatch):
    def run(*_, **__):
        raise AssertionError("the search began")

    monkeypatch.setattr(tune, "run", run)


def spoil(work, name, content=None):
    path = work / "model" / name
    path.unlink() if content is None else path.write_text(content)


def rewrite(work, tensors=None, **changes):
    shutil.rmtree(work / "model")
    write(work / "model", tensors, **ONE_LAYER | changes)


def nan_checkpoint(work):
    tensors = random_tensors(CONFIG | ONE_LAYER)
    tensors["model.norm.weight"][0] = np.nan
    rewrite(work, tensors)


REFUSED = {
    "missing file": (None, "--data no.txt", "data 'no.txt': no such file"),
    "missing validation": (None, "--validation no.txt", "data 'no.txt': no such file"),
    "missing model": (None, "--model no", "model 'no': no such folder"),
    "empty file": (lambda w: (w / "text.txt").write_text(""), "", "text.txt is empty"),
    "short text": (
        lambda w: (w / "text.txt").write_text("a"),
        "",
        "shorter than one sequence of 16",
    ),
    "one sequence": (
        lambda w: (w / "text.txt").write_text(TEXT[:60]),
        "",
        "one sequence only, so none can be held out",
    ),
    "bad jsonl": (
        lambda w: (w / "text.jsonl").write_text("nonsense"),
        "--data text.jsonl",
        "text.jsonl, line 1: expected a JSON object",
    ),
    "long sequence": (None, "--length 65", "length is 65; expected 2 to 64"),
    "space": (None, "--space lowrank:3", "space 'lowrank:3' is not known; expected full, select"),
    "pattern": (None, "--space select:foo", "'foo' matches no parameter"),
    "algorithm": (None, "--algorithm xyz", "xyz"),
    "option": (None, "--nonsense 3", "--nonsense"),
    "option of another algorithm": (None, "--cooling-rate 0.9", "--cooling-rate"),
    "not a number": (None, "--rows many", "many"),
    "pop_size": (None, "--pop-size 3", "pop_size is 3, but it needs at least 4 members"),
    "range": (None, "--weight 3", "weight is 3.0; expected a number in [0, 2]"),
    "choice": (None, "--strategy rand/2", "rand/2"),
    "bounds": (None, "--bounds 1 0", "bounds are 1.0 and 0.0; expected the lower one first"),
    "bounds where there are none": (
        None,
        "--algorithm=openes --bounds 0 1",
        "openes has no bounds: leave --bounds out",
    ),
    "missing bounds": (None, "--init-scale None", "bounds"),
    "evaluations": (None, "--evaluations 7", "evaluations is 7; one generation needs 8"),
    "generations": (None, "--generations 0", "generations is 0; expected more than 0"),
    "seconds": (None, "--seconds nan", "seconds is nan; expected more than 0"),
    "rows": (None, "--rows 0", "rows is 0; expected more than 0"),
    "batch rows": (None, "--batch-rows 0", "batch_rows is 0; expected more than 0"),
    "fewer rows": (
        lambda w: (w / "text.txt").write_text(TEXT[:100]),
        "--rows 32 --batch-rows 30",
        "the rows that candidates are scored on",
    ),
    "out": (None, "--out model", "model exists and is not an empty folder"),
    "safetensors": (
        lambda w: spoil(w, "model.safetensors", "garbage"),
        "",
        "model.safetensors is not a safetensors file",
    ),
    "no weights": (lambda w: spoil(w, "model.safetensors"), "", "model.safetensors is missing"),
    "tokenizer": (lambda w: [spoil(w, n) for n in TOKENIZER], "", "no tokenizer"),
    "architecture": (
        lambda w: spoil(w, "config.json", '{"model_type": "bert"}'),
        "",
        "model_type is 'bert', which is not supported; supported: gemma, gemma2,",
    ),
    "nan": (nan_checkpoint, "", "perplexity on the training text is nan; look for NaN"),
    "vocabulary": (lambda w: rewrite(w, vocab_size=60), "", "but the model knows 60 only"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_told_in_one_line_before_any_search(work, capsys, no_search, case):
    prepare, options, message = REFUSED[case]
    if prepare:
        prepare(work)
    code, out, err = call(capsys, f"{TINY} --algorithm de --pop-size 8 {options} --json")
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", err + out).split())
    assert code == 2
    assert message in shown
    assert "Traceback" not in shown
    assert not (work / "runs").exists()
    if shown.startswith("jaxgfo:") or err.startswith("jaxgfo:"):
        assert out == ""
        assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("case", ["missing file", "empty file", "tokenizer", "safetensors", "nan"])
def test_evaluate_refuses_the_same(work, capsys, case):
    prepare, options, message = REFUSED[case]
    if prepare:
        prepare(work)
    line = f"evaluate --model model --data text.txt --length 16 {options}"
    code, out, err = call(capsys, line)
    assert (code, out) == (2, "")
    assert message.replace("training", "given") in " ".join(err.split())


def test_what_is_cheap_to_check_is_checked_before_loading(work, capsys, monkeypatch):
    def load(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(tune.huggingface, "load_model", load)
    for options in (
        "--evaluations 7",
        "--seconds 0",
        "--out model",
        "--pop-size 3",
        "--bounds 1 0",
        "--batch-rows 3",
    ):
        code, _, err = call(capsys, f"{TINY} --algorithm de --pop-size 8 {options}")
        assert code == 2
        assert err.startswith("jaxgfo: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--devices 99", "99 devices are asked for; expected 1 to 8"),
        ("--devices 0", "0 devices are asked for"),
        ("--devices 4 --model-shards 3", "4 devices cannot be divided into shards of 3"),
        ("--model-shards 2", "1 devices cannot be divided into shards of 2"),
        ("--distributed --devices 2", "devices is 2; with distributed all take part"),
        ("--distributed", "JAX does not know of other processes .*; start this under SLURM"),
    ],
)
def test_devices_that_are_not_there_are_told(work, capsys, monkeypatch, options, message):
    def alone():
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", alone)
    code, out, err = call(capsys, f"{TINY} --algorithm de --pop-size 8 {options}")
    assert (code, out) == (2, "")
    assert re.search(message, err)


def test_the_devices_do_not_change_what_is_found(work, capsys):
    line = f"{TINY} --algorithm de --pop-size 8 --generations 2 --json"
    alone = json.loads(call(capsys, f"{line} --out one")[1])
    code, out, err = call(capsys, f"{line} --out two --devices 4 --model-shards 2")
    found = json.loads(out)
    assert (code, found["devices"], alone["devices"]) == (0, 4, 1)
    assert "on each of 4 devices" in err
    assert math.isclose(found["train_after"], alone["train_after"], rel_tol=1e-5)
    assert math.isclose(found["perplexity_after"], alone["perplexity_after"], rel_tol=1e-5)


def test_too_little_memory_is_told(work, capsys, monkeypatch):
    monkeypatch.setattr(jaxgfo.memory, "free", lambda device=None: 100)
    code, _, err = call(capsys, f"{TINY} --algorithm random --pop-size 4")
    assert code == 2
    assert re.search(r"^jaxgfo: a population of 4 needs .* and no smaller one fits: use fewer", err)
    assert not (work / "runs").exists()


def test_nothing_at_all_is_refused_with_what_there_is(capsys):
    code, out, err = call(capsys, "")
    assert code == 2
    assert "evaluate" in out + err
