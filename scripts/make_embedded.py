"""Make the embedded model and its corpus: python scripts/make_embedded.py [--steps N] [--out DIR].

`--size larger` trains one of a million parameters on the same text instead, into `runs/larger`, for
`python -m benchmarks tuning --model larger`; it is not part of the package.

Deterministic: text from `grammar.py` with fixed seeds, a byte-level BPE tokenizer trained on it,
and a small Llama trained with Adam from a fixed key. Text and tokenizer come out the same, byte for
byte, on every machine; the weights do on the same versions of JAX and the same kind of CPU.
"""

import argparse
import json
import math
import shutil
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from grammar import BASE, SHIFTED, text
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import jaxgfo
from jaxgfo import Batch, MeanNLL

EMBEDDED = Path(__file__).parent.parent / "jaxgfo" / "embedded"
CONFIG = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "tie_word_embeddings": True,
    "max_position_embeddings": 256,
    "bos_token_id": 0,  # END, the first token of the tokenizer
    "eos_token_id": 0,
}
LARGER = CONFIG | {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 5,
    "head_dim": 32,
}
# Config, steps, learning rate, folder.
SIZES = {
    "embedded": (CONFIG, 1000, 4e-3, EMBEDDED),
    "larger": (LARGER, 250, 2e-3, EMBEDDED.parent.parent / "runs" / "larger"),
}
LENGTH, ROWS = 256, 32
END = "<|endoftext|>"


def corpora() -> dict[str, str]:
    """Text by name; the shifted ones are shipped."""
    return {
        "base_train": text(BASE, seed=1, num_characters=4_000_000),
        "base_validation": text(BASE, seed=2, num_characters=60_000),
        "train": text(SHIFTED, seed=3, num_characters=120_000),
        "validation": text(SHIFTED, seed=4, num_characters=60_000),
    }


def make_tokenizer(sample: str) -> Tokenizer:
    """Byte-level BPE: any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([sample], trainer)
    return tokenizer


def train(tokens: np.ndarray, config: dict, steps: int, rate: float) -> tuple[jaxgfo.Model, dict]:
    """Adam with warm-up and cosine decay on random windows of the text."""
    model = jaxgfo.random_model(config, key=jax.random.key(0))
    objective = MeanNLL(model)
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, steps // 20, steps)
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.01))
    stream = jnp.asarray(tokens, jnp.int32)

    @jax.jit
    def step(params, state, key):
        begin = jax.random.randint(key, (ROWS, 1), 0, stream.size - LENGTH)
        rows = stream[begin + jnp.arange(LENGTH)]
        loss, gradient = jax.value_and_grad(objective)(params, Batch(rows, rows >= 0))
        update, state = adam.update(gradient, state, params)
        return optax.apply_updates(params, update), state, loss

    params, state, root = model.params, adam.init(model.params), jax.random.key(0)
    for index in range(steps):
        params, state, loss = step(params, state, jax.random.fold_in(root, index))
        if index % 200 == 0 or index == steps - 1:
            print(f"step {index:5d}  loss {float(loss):.4f}", flush=True)
    return model, params


def perplexity(model, params, tokens: np.ndarray) -> float:
    """Of consecutive windows."""
    rows = jnp.asarray(tokens[: tokens.size // LENGTH * LENGTH].reshape(-1, LENGTH), jnp.int32)
    return math.exp(MeanNLL(model)(params, Batch(rows, rows >= 0)))


def ngram_perplexity(order: int, train: np.ndarray, test: np.ndarray) -> float:
    """Unigram (add one) or bigram (interpolated with the unigram: discount 0.5) perplexity."""
    ones, vocab = Counter(train.tolist()), CONFIG["vocab_size"]
    unigram = {t: (ones[t] + 1) / (train.size + vocab) for t in range(vocab)}
    if order == 1:
        return math.exp(-np.mean([math.log(unigram[t]) for t in test.tolist()]))
    pairs = Counter(zip(train[:-1].tolist(), train[1:].tolist()))
    kinds, heads = Counter(a for a, _ in pairs), Counter(train[:-1].tolist())

    def chance(a, b):
        if not heads[a]:
            return unigram[b]
        kept = max(pairs[a, b] - 0.5, 0) / heads[a]
        return kept + 0.5 * kinds[a] / heads[a] * unigram[b]

    logs = [math.log(chance(a, b)) for a, b in zip(test[:-1].tolist(), test[1:].tolist())]
    return math.exp(-np.mean(logs))


def write(folder: Path, model: jaxgfo.Model, params: dict, tokenizer: Tokenizer) -> None:
    """The Hugging Face folder."""
    shutil.rmtree(folder, ignore_errors=True)
    jaxgfo.save_model(model, params, folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    ends = {name: CONFIG[name] for name in ("bos_token_id", "eos_token_id")}
    words = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END}
    words["model_max_length"] = CONFIG["max_position_embeddings"]
    for name, content in [
        ("generation_config.json", ends | {"do_sample": True}),
        ("tokenizer_config.json", words),
    ]:
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Write the corpus and the model, and report how much context is worth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="embedded", choices=SIZES)
    parser.add_argument("--steps", type=int, help="by default 1000, or 250 of the larger model")
    parser.add_argument("--out", type=Path, help="folder; by default the size's own")
    options = parser.parse_args()
    config, steps, rate, folder = SIZES[options.size]
    folder = options.out or folder
    texts = corpora()
    tokenizer = make_tokenizer(texts["base_train"])
    tokens = {name: np.asarray(tokenizer.encode(t).ids) for name, t in texts.items()}
    model, params = train(tokens["base_train"], config, options.steps or steps, rate)
    write(folder / "model", model, params, tokenizer)
    for name in ("train", "validation"):
        (folder / f"{name}.txt").write_text(texts[name], encoding="utf-8")
    report = {
        domain: {
            "unigram": ngram_perplexity(1, tokens["base_train"], tokens[name]),
            "bigram": ngram_perplexity(2, tokens["base_train"], tokens[name]),
            "model": perplexity(model, params, tokens[name]),
        }
        for domain, name in [("base", "base_validation"), ("shifted", "validation")]
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))
    print({name: ids.size for name, ids in tokens.items()})


if __name__ == "__main__":
    main()
