"""Tune a language model without gradients, from files to a file: what `jaxgfo tune` does."""

import dataclasses
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax

from . import embedded
from .core import Algorithm
from .io import huggingface, text
from .io.folder import check_vacant
from .loop import Generation, Result, check_budget, run
from .models.model import Model
from .objectives import Batch, MeanNLL, perplexity
from .spaces import Space
from .spaces.spec import parse

EMBEDDED = "embedded"
EVALUATIONS = 2048  # the budget where none is given: well under a minute for the embedded model
HELD_OUT = 0.1  # share of the sequences, where no validation file is given
ROWS_AT_A_TIME = 32  # of held-out text


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which model is scored on which text.

    Attributes:
        model: Folder in Hugging Face layout, or hub id owner/name; "embedded" is the small Llama
            that comes with the package.
        data: Text file (one stream of tokens) or .jsonl file (one document a line, in "text");
            "embedded" is the text that comes with the package.
        length: Tokens in one sequence; by default 128, or the longest that the model is meant for.
        dtype: Of the parameters; by default the checkpoint's.
        revision: Branch, tag or commit of a model on the hub.
    """

    model: str = EMBEDDED
    data: str = EMBEDDED
    length: int | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    revision: str | None = None

    def load_model(self) -> Model:
        """The model, with its tokenizer."""
        source = embedded.MODEL if self.model == EMBEDDED else self.model
        model = huggingface.load_model(source, dtype=self.dtype, revision=self.revision)
        _ = model.tokenizer  # a missing one is told before anything long begins
        return model

    def batch(self, model: Model, path: str | Path) -> Batch:
        """The sequences of a file."""
        length = self.length or min(128, model.max_length)
        if not 2 <= length <= model.max_length:
            raise ValueError(
                f"length is {length}; expected 2 to {model.max_length}, the longest sequence that "
                "the model is meant for"
            )
        batch = text.read_batch(path, model.tokenizer, length)
        if (highest := int(batch.tokens.max())) >= model.vocab_size:
            raise ValueError(
                f"the tokenizer gives token {highest}, but the model knows {model.vocab_size} only"
            )
        return batch


@dataclass(frozen=True, kw_only=True)
class Options(Data):
    """What to tune, on what, for how long.

    Attributes:
        validation: Text held out, in the format of data; by default the last tenth of the data's
            sequences.
        rows: Sequences, spread evenly over the data, on which every candidate is scored.
        space: What a candidate is: full, select:PATTERN[,PATTERN...], flat[:PATTERN,...] or
            subspace:DIM[:PATTERN,...], where PATTERN is norms, attention, mlp, embeddings, head,
            last-N, or a shell pattern on parameter paths like 'layers.*.mlp.*'.
        generations: Stop after so many generations.
        evaluations: Stop before more candidates than this are scored; 2048 if no budget is given.
        seconds: Stop after so many seconds.
        seed: Of all randomness.
        chunk_size: Candidates computed side by side; by default what fits the device's memory on
            an accelerator; on a CPU 1, with openes 2, with lowrank-es 8.
        out: Folder for the tuned model; must be new or empty. By default runs/ALGORITHM-1, -2, ...
    """

    validation: str | None = None
    rows: int = 32
    space: str = "select:norms"
    generations: int | None = None
    evaluations: int | None = None
    seconds: float | None = None
    seed: int = 0
    chunk_size: int | None = None
    out: Path | None = None

    def texts(self, model: Model) -> tuple[Batch, Batch]:
        """The sequences that candidates are scored on, and those held out."""
        train = self.batch(model, embedded.TRAIN if self.data == EMBEDDED else self.data)
        held_out = self.validation
        if held_out is None and self.data == EMBEDDED:
            held_out = embedded.VALIDATION
        if held_out is None:
            train, rest = text.split(train, HELD_OUT)
        else:
            rest = self.batch(model, held_out)
        return text.spread(train, self.rows), rest

    def budget(self, pop_size: int) -> dict[str, Any]:
        """The budgets of `run`."""
        evaluations = self.evaluations
        if self.generations is None and self.seconds is None and evaluations is None:
            evaluations = max(EVALUATIONS, pop_size)
        return {
            "num_generations": self.generations,
            "num_evaluations": evaluations,
            "num_seconds": self.seconds,
        }


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything loaded and checked; the base model's perplexities are known."""

    name: str
    algorithm: Algorithm[Any, Any]
    options: Options
    model: Model
    space: Space
    train: Batch
    held_out: Batch
    out: Path
    train_before: float
    perplexity_before: float

    def budget(self) -> dict[str, Any]:
        """The budgets of `run`."""
        return self.options.budget(self.algorithm.pop_size)

    def execute(self, on_generation: Callable[[Generation], None] | None = None) -> dict[str, Any]:
        """Search, measure the best candidate on held-out text, write it, and report."""
        result = run(
            self.algorithm,
            self.space,
            MeanNLL(self.model),
            self.train,
            key=jax.random.key(self.options.seed),
            chunk_size=self.options.chunk_size,
            on_generation=on_generation,
            **self.budget(),
        )
        out = _save(self.model, result.params, self.out)
        report = self._report(result, out)
        _write_json(out / "jaxgfo.json", report)
        return report

    def _report(self, result: Result, out: Path) -> dict[str, Any]:
        last = result.history[-1] if result.history else None
        evaluations = last.evaluations if last else 0
        return {
            "algorithm": self.name,
            "hyperparameters": dataclasses.asdict(self.algorithm),  # type: ignore[call-overload]
            "space": self.options.space,
            "model": self.options.model,
            "revision": self.options.revision,
            "data": self.options.data,
            "rows": self.train.tokens.shape[0],
            "length": self.train.tokens.shape[1],
            "seed": self.options.seed,
            "perplexity_before": self.perplexity_before,
            "perplexity_after": held_out_perplexity(self.model, result.params, self.held_out),
            "train_before": self.train_before,
            "train_after": perplexity(self.model, result.params, self.train),
            "generations": result.generations,
            "evaluations": evaluations,
            "forward_tokens": evaluations * self.train.tokens.size,
            "seconds": last.seconds if last else 0.0,
            "compile_seconds": last.compile_seconds if last else 0.0,
            "stopped": result.stopped,
            "out": str(out),
        }


def prepare(name: str, algorithm: Algorithm[Any, Any], options: Options) -> Job:
    """Load the model and the text, and check everything that can be wrong before the search.

    Args:
        name: the algorithm's name, for the report and the default folder.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: what is wrong, and the way out.
    """
    _check_positive(options)
    check_budget(algorithm.pop_size, **options.budget(algorithm.pop_size))
    if options.out is not None:
        check_vacant(options.out)
    model = options.load_model()
    train, held_out = options.texts(model)
    space = parse(options.space, model.params, jax.random.key(options.seed))
    # Leaves or bounds that do not suit the algorithm are refused here.
    jax.eval_shape(algorithm.init, jax.random.key(0), space.start())
    before = _finite("training", perplexity(model, model.params, train))
    held_out_before = _finite("validation", held_out_perplexity(model, model.params, held_out))
    return Job(
        name=name,
        algorithm=algorithm,
        options=options,
        model=model,
        space=space,
        train=train,
        held_out=held_out,
        out=_reserve(options.out, name),
        train_before=before,
        perplexity_before=held_out_before,
    )


def evaluate(data: Data) -> dict[str, Any]:
    """Perplexity of a checkpoint on a text: what `jaxgfo evaluate` does.

    Raises:
        FileNotFoundError, ValueError: what is wrong, and the way out.
    """
    model = data.load_model()
    batch = data.batch(model, embedded.VALIDATION if data.data == EMBEDDED else data.data)
    value = _finite("given", held_out_perplexity(model, model.params, batch))
    return {
        "model": data.model,
        "data": data.data,
        "perplexity": value,
        "nats_per_token": math.log(value),
        "tokens": int(batch.mask[:, 1:].sum()),
        "length": batch.tokens.shape[1],
    }


def _check_positive(options: Options) -> None:
    for name in ("rows", "generations", "evaluations", "seconds", "chunk_size"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value}; expected more than 0")


def _finite(which: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(
            f"the model's perplexity on the {which} text is {value}; look for NaN in the "
            "checkpoint, or try --dtype float32"
        )
    return value


def held_out_perplexity(model: Model, params: Any, batch: Batch) -> float:
    """Perplexity of a text of any length, a few rows at a time."""
    return perplexity(model, params, text.batches(batch, ROWS_AT_A_TIME))


def _reserve(out: Path | None, name: str) -> Path:
    """The folder, made now: it cannot be unwritable later, and another run takes another."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        return out
    return _fresh(Path("runs") / name)


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
