"""Which model, which text, what to tune and for how long: the options of the command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax

from . import embedded, processes
from . import mesh as meshes
from .batches import Minibatches, minibatches
from .io import huggingface, text
from .models.model import Model
from .objectives import Batch

EMBEDDED = "embedded"
INT8 = "int8"  # as a dtype: matrices are, with a scale for every output
EVALUATIONS = 2048  # the budget where none is given: well under a minute for the embedded model
HELD_OUT = 0.1  # share of the sequences, where no validation file is given


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which model is scored on which text.

    Attributes:
        model: Folder in Hugging Face layout, or hub id owner/name; "embedded" is the small Llama
            that comes with the package.
        data: Text file (one stream of tokens) or .jsonl file (one document a line, in "text");
            "embedded" is the text that comes with the package.
        length: Tokens in one sequence; by default 128, or the longest that the model is meant for.
        dtype: Of the parameters; by default the checkpoint's. With int8 matrices are quantised.
        revision: Branch, tag or commit of a model on the hub.
    """

    model: str = EMBEDDED
    data: str = EMBEDDED
    length: int | None = None
    dtype: Literal["float32", "bfloat16", "float16", "int8"] | None = None
    revision: str | None = None

    def load_model(self, mesh: jax.sharding.Mesh | None = None) -> Model:
        """The model, with its tokenizer; large weights split over the mesh's axis "model"."""
        source = embedded.MODEL if self.model == EMBEDDED else self.model
        dtype = None if self.dtype == INT8 else self.dtype
        model = huggingface.load_model(source, dtype=dtype, revision=self.revision, sharding=mesh)
        _ = model.tokenizer  # a missing one is told before anything long begins
        return model.quantised() if self.dtype == INT8 else model

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
        rows: Sequences, spread evenly over the data, on which candidates are scored.
        batch_rows: Sequences of one generation's batch, drawn from rows without replacement, epoch
            by epoch; the candidates that the search ends with are scored on all rows. By default
            all rows in every generation.
        reevaluate: With batch_rows, candidates that an algorithm remembers with their fitness, like
            parents or chains, are scored again on every batch.
        space: What a candidate is: full, select:PATTERN[,PATTERN...], flat[:PATTERN,...] or
            subspace:DIM[:PATTERN,...], where PATTERN is norms, attention, mlp, embeddings, head,
            last-N, or a shell pattern on parameter paths like 'layers.*.mlp.*'. By default
            select:norms; with dtype int8 select:*.kernel, the int8 matrices of the layers.
        generations: Stop after so many generations.
        evaluations: Stop before more candidates than this are scored; 2048 if no budget is given.
        seconds: Stop after so many seconds.
        seed: Of all randomness.
        chunk_size: Candidates computed side by side; by default what fits the device's memory on
            an accelerator; on a CPU as many as have about a thousand tokens together, 1 to 16.
        devices: Devices to spread the candidates over; by default one.
        distributed: Spread them over all devices of all processes that run this same command, under
            SLURM, Open MPI, Kubernetes or on a TPU pod. The first process prints and writes.
        model_shards: Devices that large weights are split over, where one does not hold the model.
        out: Folder for the tuned model; must be new or empty. By default runs/ALGORITHM-1, -2, ...
    """

    validation: str | None = None
    rows: int = 32
    batch_rows: int | None = None
    reevaluate: bool = True
    space: str | None = None
    generations: int | None = None
    evaluations: int | None = None
    seconds: float | None = None
    seed: int = 0
    chunk_size: int | None = None
    devices: int | None = None
    distributed: bool = False
    model_shards: int = 1
    out: Path | None = None

    def mesh(self) -> jax.sharding.Mesh | None:
        """The devices, once the other processes are found; None: one device, JAX's default.

        Raises:
            ValueError: devices or processes that are not there.
        """
        if self.distributed:
            if self.devices is not None:
                raise ValueError(f"devices is {self.devices}; with distributed all take part")
            processes.join()
            return meshes.over(None, self.model_shards)
        if self.devices is None and self.model_shards == 1:
            return None
        return meshes.over(1 if self.devices is None else self.devices, self.model_shards)

    @property
    def spec(self) -> str:
        """The space, or the default one."""
        return self.space or ("select:*.kernel" if self.dtype == INT8 else "select:norms")

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

    def batches(self, train: Batch) -> Batch | Minibatches:
        """What every generation is scored on: all rows, or some of them.

        Raises:
            ValueError: more rows in a batch than there are.
        """
        count = train.tokens.shape[0]
        if self.batch_rows is None or self.batch_rows == count:
            return train
        if self.batch_rows > count:
            raise ValueError(
                f"batch_rows is {self.batch_rows}; expected 1 to {count}, the rows that candidates "
                "are scored on"
            )
        # Far from the numbers of generations, which the search draws from.
        return minibatches(train, self.batch_rows, jax.random.fold_in(self.key(), 2**30))

    def key(self) -> jax.Array:
        """Of all randomness."""
        return jax.random.key(self.seed)

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
