"""Make tests/references: what transformers and torch compute (python scripts/make_references.py).

Tiny random checkpoints of every family with tokens, torch's logits and negative log-likelihoods,
so that tests can hold `jaxgfo.load_model` against torch where torch is not installed; and torch's
numbers for the embedded model, to be made anew whenever its weights are. Needs torch and
transformers.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from parity import nll_of, some_tokens, torch_logits, torch_model, torch_opened  # noqa: E402
from variants import COMMITTED, VARIANTS  # noqa: E402

FOLDER = ROOT / "tests" / "references"
EMBEDDED = ROOT / "jaxgfo" / "embedded"
ROWS = 2  # of tokens for a random checkpoint
TEXTS, TEXT_LENGTH = 4, 128  # of the embedded validation text


def scores(folder: Path, tokens: np.ndarray) -> dict[str, torch.Tensor]:
    """Logits (rows, length, vocab), and nats summed over the predicted tokens of every row."""
    # Opened anew: the rotary table of a model cast to bf16 and back is not that of fp32.
    logits = torch_logits(torch_opened(folder), tokens)
    return {
        "tokens": torch.tensor(tokens).int(),
        "logits": torch.tensor(logits).float(),
        "nll": torch.tensor(nll_of(logits, tokens).sum(1)),
    }


def reference(seed: int, name: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The checkpoint of a variant as it is saved, and what torch makes of it in fp32."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        torch_model(VARIANTS[name], seed).save_pretrained(folder)
        saved = load_file(folder / "model.safetensors")
        tensors = {f"checkpoint/{name}": tensor for name, tensor in saved.items()}
        notes = {"config": (folder / "config.json").read_text()}
        return tensors | scores(folder, some_tokens(ROWS, seed=seed)), notes


def embedded() -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The first rows of the validation text under the embedded model."""
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "model")
    ids = tokenizer((EMBEDDED / "validation.txt").read_text(encoding="utf-8"))["input_ids"]
    tokens = np.array(ids[: TEXTS * TEXT_LENGTH]).reshape(TEXTS, TEXT_LENGTH)
    tensors = scores(EMBEDDED / "model", tokens)
    del tensors["logits"]  # large
    perplexity = (tensors["nll"].sum() / (TEXTS * (TEXT_LENGTH - 1))).exp()
    weights = (EMBEDDED / "model" / "model.safetensors").read_bytes()
    return tensors | {"perplexity": perplexity}, {"weights": hashlib.sha256(weights).hexdigest()}


def main() -> None:
    """Write every file, after those that were there."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.safetensors"):
        old.unlink()
    made = {name: reference(seed, name) for seed, name in enumerate(COMMITTED)}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    for name, (tensors, notes) in {**made, "embedded": embedded()}.items():
        path = FOLDER / f"{name.replace(' ', '-')}.safetensors"
        # One entry: the order of several would be another each time.
        save_file(tensors, path, metadata={"notes": json.dumps(notes | {"versions": versions})})
        path.chmod(0o644)
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
