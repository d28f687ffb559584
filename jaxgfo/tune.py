"""Tune a language model without gradients, from files to a file: what `jaxgfo tune` does."""

import dataclasses
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from . import embedded, planning, processes
from . import mesh as meshes
from .batches import Minibatches, at, varies
from .budget import check_budget
from .core import Algorithm
from .io import huggingface, text
from .io.folder import check_vacant
from .loop import Generation, Result, run
from .models.model import Model
from .objectives import Batch, MeanNLL, perplexity
from .objectives.perplexity import sums
from .optional import num_remembered
from .options import EMBEDDED, Data, Options
from .planning import Plan
from .spaces import Space
from .spaces.spec import parse

ROWS_AT_A_TIME = 32  # of held-out text


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Everything loaded and checked, and found to fit; nothing computed and no file written."""

    name: str
    algorithm: Algorithm[Any, Any]
    options: Options
    model: Model
    space: Space
    train: Batch
    batches: Batch | Minibatches  # what generations are scored on: rows of train
    held_out: Batch
    mesh: jax.sharding.Mesh | None
    plan: Plan

    def budget(self) -> dict[str, Any]:
        """The budgets of `run`."""
        return self.options.budget(self.algorithm.pop_size)

    @property
    def tokens_each(self) -> int:
        """Of one evaluation in a generation."""
        return at(self.batches, 0).tokens.size

    @property
    def evaluations_each(self) -> int:
        """Of a generation, from the second on."""
        again = varies(self.batches) and self.options.reevaluate
        if not again:
            return self.algorithm.pop_size
        state = jax.eval_shape(self.algorithm.init, self.options.key(), self.space.start())
        return self.algorithm.pop_size + num_remembered(self.algorithm, state)

    def perplexity(self, params: Any, batch: Batch) -> float:
        """Of a text of any length, on the devices of the search."""
        with meshes.use(self.mesh):
            return held_out_perplexity(self.model, params, batch)

    def begin(self) -> "Job":
        """Measure the base model and make the folder.

        Raises:
            ValueError: a perplexity that is not finite.
            OSError: the folder cannot be made.
        """
        params = self.model.params
        before = _finite("training", self.perplexity(params, self.train))
        held_out = _finite("validation", self.perplexity(params, self.held_out))
        out = _reserve(self.options.out, self.name) if jax.process_index() == 0 else None
        return Job(**vars(self), out=out, train_before=before, perplexity_before=held_out)


@dataclass(frozen=True, kw_only=True)
class Job(Draft):
    """A draft whose base model is measured, with a folder for the tuned one."""

    out: Path | None  # None: another process has it
    train_before: float
    perplexity_before: float

    def execute(self, on_generation: Callable[[Generation], None] | None = None) -> dict[str, Any]:
        """Search, measure the best candidate on held-out text, write it, and report."""
        result = run(
            self.algorithm,
            self.space,
            MeanNLL(self.model),
            self.batches,
            key=self.options.key(),
            reevaluate=None if self.options.reevaluate else False,
            chunk_size=self.plan.chunk_size,
            mesh=self.mesh,
            on_generation=on_generation,
            **self.budget(),
        )
        params = processes.on_host(result.params)
        out = _save(self.model, params, self.out) if self.out else None
        report = self._report(result, out)
        if out:
            _write_json(out / "jaxgfo.json", report)
        return report

    def _report(self, result: Result, out: Path | None) -> dict[str, Any]:
        last = result.history[-1] if result.history else None
        evaluations = last.evaluations if last else 0
        return {
            "algorithm": self.name,
            "hyperparameters": dataclasses.asdict(self.algorithm),  # type: ignore[call-overload]
            "space": self.options.spec,
            "model": self.options.model,
            "revision": self.options.revision,
            "data": self.options.data,
            "rows": self.train.tokens.shape[0],
            "batch_rows": at(self.batches, 0).tokens.shape[0],
            "length": self.train.tokens.shape[1],
            "seed": self.options.seed,
            "perplexity_before": self.perplexity_before,
            "perplexity_after": self.perplexity(result.params, self.held_out),
            "train_before": self.train_before,
            "train_after": self.perplexity(result.params, self.train),
            "generations": result.generations,
            "evaluations": evaluations,
            "final_evaluations": result.final_evaluations,
            "forward_tokens": evaluations * self.tokens_each
            + result.final_evaluations * self.train.tokens.size,
            "unlearnt": sum(map(_unlearnt, result.history)),
            "seconds": last.seconds if last else 0.0,
            "compile_seconds": last.compile_seconds if last else 0.0,
            "stopped": result.stopped,
            "devices": self.mesh.size if self.mesh else 1,
            "out": str(out),
        }


def prepare(name: str, algorithm: Algorithm[Any, Any], options: Options) -> Draft:
    """Load the model and the text, and check everything that can be wrong before the search.

    Args:
        name: the algorithm's name, for the report and the default folder.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: what is wrong, and the way out.
        MemoryError: the population cannot fit; the message has the largest that does.
    """
    _check_positive(options)
    check_budget(algorithm.pop_size, **options.budget(algorithm.pop_size))
    if options.out is not None:
        check_vacant(options.out)
    mesh = options.mesh()
    model = options.load_model(mesh)
    train, held_out = options.texts(model)
    batches = options.batches(train)
    space = parse(options.spec, model.params, options.key())
    # Leaves or bounds that do not suit the algorithm are refused here.
    jax.eval_shape(algorithm.init, jax.random.key(0), space.start())
    how: dict[str, Any] = {"chunk_size": options.chunk_size}
    how["reevaluate"] = None if options.reevaluate else False
    with meshes.use(mesh):
        needs = planning.plan(algorithm, space, MeanNLL(model), batches, **how)
    return Draft(
        name=name,
        algorithm=algorithm,
        options=options,
        model=model,
        space=space,
        train=train,
        batches=batches,
        held_out=held_out,
        mesh=mesh,
        plan=needs,
    )


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """A model and a text, loaded and checked: what `jaxgfo evaluate` does."""

    data: Data
    model: Model
    batch: Batch
    plan: Plan

    def execute(self) -> dict[str, Any]:
        """The perplexity of the model on the text.

        Raises:
            ValueError: one that is not finite.
        """
        value = held_out_perplexity(self.model, self.model.params, self.batch)
        value = _finite("given", value)
        return {
            "model": self.data.model,
            "data": self.data.data,
            "perplexity": value,
            "nats_per_token": math.log(value),
            "tokens": int(self.batch.mask[:, 1:].sum()),
            "length": self.batch.tokens.shape[1],
        }


def prepare_scoring(data: Data) -> Scoring:
    """Load a model and the text that it is to be scored on.

    Raises:
        FileNotFoundError, ValueError: what is wrong, and the way out.
        MemoryError: the rows that are scored at a time do not fit.
    """
    model = data.load_model()
    batch = data.batch(model, embedded.VALIDATION if data.data == EMBEDDED else data.data)
    parts = text.batches(batch, ROWS_AT_A_TIME)
    times = -(-batch.tokens.shape[0] // ROWS_AT_A_TIME)
    # The jitted function of `perplexity` itself, which then finds it compiled.
    planned = planning.scoring(sums, MeanNLL(model), model.params, next(parts), times=times)
    return Scoring(data=data, model=model, batch=batch, plan=planned)


def _check_positive(options: Options) -> None:
    for name in ("rows", "batch_rows", "generations", "evaluations", "seconds", "chunk_size"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value}; expected more than 0")
    if options.batch_rows is not None and options.batch_rows > options.rows:
        raise ValueError(
            f"batch_rows is {options.batch_rows}; expected 1 to {options.rows}, the rows that "
            "candidates are scored on"
        )


def _unlearnt(generation: Generation) -> bool:
    """Whether it taught nothing: all members failed, or scored alike."""
    return math.isnan(generation.mean) or generation.info.get("learnt") == 0


def _finite(which: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(
            f"the model's perplexity on the {which} text is {value}; look for NaN in the "
            "checkpoint, or try --dtype float32"
        )
    return value


def held_out_perplexity(model: Model, params: Any, batch: Batch) -> float:
    """Perplexity of a text of any length, a few rows at a time."""
    return perplexity(model, params, map(meshes.place, text.batches(batch, ROWS_AT_A_TIME)))


def _reserve(out: Path | None, name: str) -> Path:
    """The folder, made now: it cannot be unwritable later, and another run takes another."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        return out
    return _fresh(Path("runs") / name.replace(":", "-"))  # which some systems do not allow


def _fresh(stem: Path) -> Path:
    number = 1
    while True:
        folder = stem.with_name(f"{stem.name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def _save(model: Model, params: Any, out: Path) -> Path:
    try:
        return huggingface.save_model(model, params, out)
    except FileExistsError:  # somebody wrote there while we searched: nothing may be lost
        return huggingface.save_model(model, params, _fresh(out))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    scratch = path.with_name(path.name + ".tmp")
    scratch.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(scratch, path)
