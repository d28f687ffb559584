"""Forward tokens per second of a Llama of 110 million parameters, beside torch's and between forms.

The same checkpoint, batch and dtype; interleaved in one process, so that a machine whose speed
drifts does not matter. Without torch the comparison with it is left out.
"""

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxgfo
from jaxgfo.models import attention

from . import records
from .timing import interleaved

LLAMA = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
ROWS, LENGTH = 4, 256


def main(quick: bool, json: str | None) -> None:
    """Whole forward passes, then attention alone."""
    rounds, results = 5 if quick else 15, []
    tokens = np.random.default_rng(0).integers(0, LLAMA["vocab_size"], (ROWS, LENGTH))
    for dtype in ("float32",) if quick else ("float32", "bfloat16"):
        with tempfile.TemporaryDirectory() as folder:
            results += _forward(Path(folder) / "model", dtype, tokens, rounds)
    results += _attention(rounds)
    records.append(json, results)
    table = Table(title=f"{ROWS} x {LENGTH} tokens; the ratio is of speeds, round by round")
    for column in ("what", "dtype", "tokens/s", "beside", "ratio", "lowest", "highest"):
        table.add_column(column, justify="right")
    for r in results:
        if "skipped" in r:
            table.add_row(r["what"], r["dtype"], "", f"{r['skipped']}: not installed", "", "", "")
            continue
        ratios = [f"{r[name]:.2f}" for name in ("ratio", "lowest_ratio", "highest_ratio")]
        table.add_row(r["what"], r["dtype"], f"{r['tokens_per_second']:.0f}", r["beside"], *ratios)
    Console().print(table)


def _forward(folder: Path, dtype: str, tokens: np.ndarray, rounds: int) -> list[dict[str, Any]]:
    model = jaxgfo.random_model(LLAMA, key=jax.random.key(0), dtype=dtype)
    if not records.installed("torch"):
        return [records.skipped("decoder", "torch", what="forward (jaxgfo)", dtype=dtype)]
    jaxgfo.save_model(model, model.params, folder)
    theirs = _torch(folder, dtype, tokens)
    apply, batch = jax.jit(model.apply), jnp.asarray(tokens, jnp.int32)
    difference = np.abs(np.asarray(apply(model.params, batch)) - theirs().float().numpy()).max()
    ours = partial(apply, model.params, batch)
    seconds = interleaved({"jaxgfo": ours, "torch": theirs}, rounds)
    parameters = sum(x.size for x in jax.tree.leaves(model.params))
    return [
        _result("forward", dtype, seconds, "jaxgfo", "torch")
        | {"parameters": parameters, "largest_difference_of_logits": float(difference)}
    ]


def _torch(folder: Path, dtype: str, tokens: np.ndarray) -> Callable[[], Any]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    batch = torch.tensor(tokens)

    def run():
        with torch.no_grad():
            return model(batch, use_cache=False).logits

    return run


def _attention(rounds: int) -> list[dict[str, Any]]:
    """The form in blocks beside JAX's own, twelve layers of it."""
    heads, layers = LLAMA["num_attention_heads"], LLAMA["num_hidden_layers"]
    shape = (ROWS, LENGTH, heads, LLAMA["hidden_size"] // heads)
    arrays = [jax.random.normal(jax.random.key(i), shape) for i in range(3)]

    def stacked(form):
        def one(query, _):
            return form(query, *arrays[1:], scale=shape[-1] ** -0.5), None

        return partial(jax.jit(lambda q: jax.lax.scan(one, q, length=layers)[0]), arrays[0])

    forms = {"blocks": attention.causal, "jax.nn": attention.library}
    seconds = interleaved({name: stacked(form) for name, form in forms.items()}, rounds)
    return [_result("attention", "float32", seconds, "blocks", "jax.nn")]


def _result(
    what: str, dtype: str, seconds: dict[str, list[float]], ours: str, theirs: str
) -> dict[str, Any]:
    ratios = [b / a for a, b in zip(seconds[ours], seconds[theirs])]
    return records.record(
        "decoder",
        libraries=["torch", "transformers"] if theirs == "torch" else [],
        what=f"{what} ({ours})",
        beside=theirs,
        dtype=dtype,
        tokens_per_second=ROWS * LENGTH / statistics.median(seconds[ours]),
        beside_tokens_per_second=ROWS * LENGTH / statistics.median(seconds[theirs]),
        ratio=statistics.median(ratios),
        lowest_ratio=min(ratios),
        highest_ratio=max(ratios),
        forward_tokens=ROWS * LENGTH,
        seconds=statistics.median(seconds[ours]),
        figure=statistics.median(ratios),
        spread=(min(ratios), max(ratios)),
    )
