"""Make tests/references: what transformers and torch compute (python scripts/make_references.py).

Tiny random Llama checkpoints with tokens, torch's logits and negative log-likelihoods, so that
tests can hold `jaxgfo.load_model` against torch where torch is not installed; and torch's numbers
for the embedded model, to be made anew whenever its weights are. Needs torch and transformers.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "tests" / "references"
EMBEDDED = ROOT / "jaxgfo" / "embedded"
ROWS, LENGTH = 3, 24  # of tokens for a random checkpoint
TEXTS, TEXT_LENGTH = 4, 128  # of the embedded validation text
TINY = {
    "vocab_size": 61,
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
}
VARIANTS = {
    "grouped": {"rope_theta": 500.0, "rms_norm_eps": 1e-3},
    "tied": {"tie_word_embeddings": True, "num_key_value_heads": 4, "hidden_act": "silu"},
    "single": {"num_key_value_heads": 1, "head_dim": 8, "num_hidden_layers": 3},
    "bf16": {"dtype": torch.bfloat16, "num_key_value_heads": 4},
}


def build(seed: int, **changes) -> LlamaForCausalLM:
    """A model whose parameters are all random, norm scales included."""
    settings = TINY | changes
    theta = settings.pop("rope_theta", 10000.0)
    rope = {"rope_type": "default", "rope_theta": theta}
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**settings, rope_parameters=rope)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.3)
    return model.to(settings.get("dtype", torch.float32))


@torch.no_grad()
def scores(model: LlamaForCausalLM, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Logits (rows, length, vocab), and nats summed over the predicted tokens of every row."""
    logits = model(tokens).logits
    picked = logits[:, :-1].double().log_softmax(-1).gather(-1, tokens[:, 1:, None])
    return {"logits": logits.contiguous(), "nll": -picked.sum((1, 2))}


def reference(seed: int, changes: dict) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The checkpoint as it is saved, and what torch makes of it in fp32."""
    model = build(seed, **changes)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = load_file(Path(folder) / "model.safetensors")
        config = (Path(folder) / "config.json").read_text()
        # Opened anew: the rotary table of a model cast to bf16 and back is not that of fp32.
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tensors = {f"checkpoint/{name}": tensor for name, tensor in saved.items()}
    tokens = torch.randint(TINY["vocab_size"], (ROWS, LENGTH))
    return tensors | scores(model, tokens) | {"tokens": tokens.int()}, {"config": config}


def embedded() -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The first rows of the validation text under the embedded model."""
    model = LlamaForCausalLM.from_pretrained(EMBEDDED / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "model")
    ids = tokenizer((EMBEDDED / "validation.txt").read_text(encoding="utf-8"))["input_ids"]
    tokens = torch.tensor(ids[: TEXTS * TEXT_LENGTH]).reshape(TEXTS, TEXT_LENGTH)
    nll = scores(model, tokens)["nll"]
    weights = (EMBEDDED / "model" / "model.safetensors").read_bytes()
    perplexity = (nll.sum() / (TEXTS * (TEXT_LENGTH - 1))).exp()
    return {"tokens": tokens.int(), "nll": nll, "perplexity": perplexity}, {
        "weights": hashlib.sha256(weights).hexdigest()
    }


def main() -> None:
    """Write every file."""
    FOLDER.mkdir(exist_ok=True)
    made = {name: reference(seed, changes) for seed, (name, changes) in enumerate(VARIANTS.items())}
    for name, (tensors, notes) in {**made, "embedded": embedded()}.items():
        notes = notes | {"versions": json.dumps({"torch": torch.__version__})}
        save_file(tensors, FOLDER / f"{name}.safetensors", metadata=notes)
        (FOLDER / f"{name}.safetensors").chmod(0o644)
        print(name, (FOLDER / f"{name}.safetensors").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
