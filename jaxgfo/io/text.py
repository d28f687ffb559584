"""Text files in, batches of tokens out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..objectives import Batch


def read_text(path: str | Path, field: str = "text") -> list[str]:
    """The documents of a file: every line of a .jsonl file, or the whole of any other.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an empty file, not UTF-8, or a line without a string in `field`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"data {str(path)!r}: no such file; expected a text or .jsonl file")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    if path.suffix == ".jsonl":
        lines = content.split("\n")  # splitlines() would cut inside strings, at U+2028
        documents = [_document(path, i, x, field) for i, x in enumerate(lines, 1) if x.strip()]
    else:
        documents = [content]
    if not any(document.strip() for document in documents):
        raise ValueError(f"{path} is empty; expected text")
    return documents


def packed(tokenizer: Any, document: str, length: int) -> Batch:
    """One document cut into rows of `length` tokens; what does not fill a row is left out.

    Raises:
        ValueError: the document is shorter than one row.
    """
    ids = np.asarray(tokenizer(document, verbose=False)["input_ids"], np.int32)
    if ids.size < length:
        raise ValueError(
            f"the text has {ids.size} tokens, which is shorter than one sequence of {length}; "
            "give more text or a smaller length"
        )
    tokens = ids[: ids.size // length * length].reshape(-1, length)
    return _batch(tokens, np.ones(tokens.shape, bool))


def padded(tokenizer: Any, documents: list[str], length: int) -> Batch:
    """Every document in rows of its own, padded on the right to `length` and masked there.

    Raises:
        ValueError: no document has two tokens, so that there is nothing to predict.
    """
    rows = []
    for ids in tokenizer(documents, verbose=False)["input_ids"]:
        cuts = [ids[i : i + length] for i in range(0, len(ids), length)]
        rows += [cut for cut in cuts if len(cut) > 1]
    if not rows:
        raise ValueError(f"none of the {len(documents)} documents has two tokens or more")
    tokens = np.zeros((len(rows), length), np.int32)
    mask = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row)], mask[i, : len(row)] = row, True
    return _batch(tokens, mask)


def read_batch(path: str | Path, tokenizer: Any, length: int, field: str = "text") -> Batch:
    """The rows of a file: `packed` for a text file, `padded` for .jsonl.

    Raises:
        FileNotFoundError, ValueError: as `read_text`, `packed` and `padded`, naming the file.
    """
    documents = read_text(path, field)
    try:
        if Path(path).suffix == ".jsonl":
            return padded(tokenizer, documents, length)
        return packed(tokenizer, documents[0], length)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def spread(batch: Batch, num_rows: int) -> Batch:
    """`num_rows` rows (or all, if there are fewer) at even distances from first to last."""
    count = batch.tokens.shape[0]
    chosen = np.linspace(0, count - 1, min(num_rows, count)).round().astype(int)
    return Batch(batch.tokens[chosen], batch.mask[chosen])


def split(batch: Batch, share: float) -> tuple[Batch, Batch]:
    """The first rows, and the last `share` of the rows (at least one) to hold out.

    Raises:
        ValueError: fewer than two rows.
    """
    count = batch.tokens.shape[0]
    if count < 2:
        raise ValueError(
            "the text gives one sequence only, so none can be held out for validation; give more "
            "text, a smaller length, or a validation file"
        )
    kept = count - max(1, round(share * count))
    return Batch(batch.tokens[:kept], batch.mask[:kept]), Batch(
        batch.tokens[kept:], batch.mask[kept:]
    )


def batches(batch: Batch, num_rows: int) -> Iterator[Batch]:
    """`num_rows` rows at a time; the last ones are filled up with rows that are masked out."""
    count = batch.tokens.shape[0]
    num_rows = min(num_rows, count)
    filling = [(0, -count % num_rows), (0, 0)]
    tokens, mask = jnp.pad(batch.tokens, filling), jnp.pad(batch.mask, filling)
    for start in range(0, count, num_rows):
        stop = start + num_rows
        yield Batch(tokens[start:stop], mask[start:stop])


def _document(path: Path, number: int, line: str, field: str) -> str:
    try:
        value = json.loads(line)[field]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path}, line {number}: expected a JSON object with "{field}", got {line[:60]!r}'
        ) from error
    if not isinstance(value, str):
        raise ValueError(f'{path}, line {number}: "{field}" is {value!r:.60}; expected a string')
    return value


def _batch(tokens: np.ndarray, mask: np.ndarray) -> Batch:
    return Batch(jnp.asarray(tokens), jnp.asarray(mask))
