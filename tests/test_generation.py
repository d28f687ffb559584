"""Generation: held against whole rows without a cache, and live against torch where that is."""

import copy
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from transformers import AutoConfig

from jaxgfo import Model, generation, load_model, save_model
from jaxgfo.generation import filtered, generate
from jaxgfo.models.families import FAMILIES
from jaxgfo.models.model import Decoder, build

SMALL = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FULL = {k: v for k, v in SMALL.items() if k != "head_dim"}
UNGROUPED = {k: v for k, v in FULL.items() if k != "num_key_value_heads"}
# Untied: a small model that is tied says what it has just read, again and again.
SPECIAL = {k: v for k, v in SMALL.items() if k.endswith("token_id")}
SPECIAL |= {"vocab_size": 61, "tie_word_embeddings": False}
KINDS = ["full_attention", "sliding_attention", "full_attention"]
CONFIGS = {  # model_type -> settings that bring out what the family has of its own
    "gemma": SMALL,
    "gemma2": SMALL
    | {"sliding_window": 5, "query_pre_attn_scalar": 9}
    | {"attn_logit_softcapping": 1.0, "final_logit_softcapping": 2.0},
    "gemma3_text": SMALL | {"sliding_window": 5, "query_pre_attn_scalar": 9, "layer_types": KINDS},
    "gpt2": SPECIAL
    | {"n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 64}
    | {"scale_attn_by_inverse_layer_idx": True},
    "gpt_neo": SPECIAL
    | {"hidden_size": 16, "num_layers": 4, "num_heads": 4, "max_position_embeddings": 64}
    | {"window_size": 5, "attention_types": [[["global", "local"], 2]]},
    "gpt_neox": UNGROUPED | {"rotary_pct": 0.5},
    "llama": SMALL,
    "mistral": SMALL | {"sliding_window": 5},
    "olmo2": FULL,
    "opt": SPECIAL
    | {"hidden_size": 16, "ffn_dim": 20, "num_hidden_layers": 3, "num_attention_heads": 4}
    | {"max_position_embeddings": 64, "word_embed_proj_dim": 14, "do_layer_norm_before": False}
    | {"activation_function": "tanh"},
    "phi3": FULL | {"sliding_window": 7},
    "qwen2": SMALL | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "qwen3": SMALL,
    "smollm3": SMALL
    | {"use_sliding_window": True, "sliding_window": 5, "no_rope_layer_interval": 2},
}
LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 16}
LONGROPE |= {"short_factor": [1.0, 1.5, 2.0], "long_factor": [1.0, 4.0, 9.0], "factor": 4.0}
PHI3 = {  # whose rows are read again when they grow beyond 16 tokens
    "rope_parameters": LONGROPE | {"short_factor": [1.0, 1.5], "long_factor": [30.0, 9.0]},
    "original_max_position_embeddings": 16,
    "sliding_window": None,
}
ROPES = {
    "linear": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
    "llama3": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0}
    | {"high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    "yarn": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
    | {"original_max_position_embeddings": 16},
    "longrope": LONGROPE,
}
PROMPTS = [[3, 4, 5, 6, 7, 8, 9], [10, 11], list(range(20, 32))]
LONG = [*PROMPTS, [(7 * i) % 61 for i in range(40)]]
MODELS = {}


def lively(shapes, seed=0):
    """Parameters that choose: all random and large, so that the likeliest token is no accident."""
    rng, untied = np.random.default_rng(seed), "head" in shapes

    def draw(path, leaf):
        wide = 1.6 if untied and path[0].key == "embed" else 0.4
        values = wide * rng.normal(size=leaf.shape) + (path[-1].key == "scale")
        return jnp.asarray(values, jnp.float32).astype(leaf.dtype)

    return jax.tree.map_with_path(draw, shapes)


def model_of(name="llama", dtype="float32", **changes):
    """A model with lively parameters that no token ends; made once."""
    settings = {"model_type": name} | CONFIGS[name] | {"eos_token_id": None} | changes
    if (text := json.dumps([settings, dtype])) not in MODELS:
        config = AutoConfig.for_model(**settings)
        _, shapes, decoder, tensors = build(config)
        params = jax.tree.map(lambda x: x.astype(dtype), lively(shapes))
        MODELS[text] = Model(params, decoder, config, tensors)
    return MODELS[text]


def precise(model, params, prompts, **options):
    with jax.default_matmul_precision("highest"):
        return jax.tree.map(np.asarray, generate(model, params, prompts, **options))


def whole(model, params, rows):
    """Logits of rows of different lengths, without a cache."""
    tokens = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for line, row in zip(tokens, rows):
        line[: len(row)] = row
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(model.apply)(params, jnp.asarray(tokens)))


def assert_likeliest(model, params, prompts, tokens, tolerance=1e-4):
    """Every new token is the one that the row before it makes the likeliest."""
    rows = [[*prompt, *new] for prompt, new in zip(prompts, tokens.tolist())]
    for logits, row, prompt in zip(whole(model, params, rows), rows, prompts):
        before = logits[len(prompt) - 1 : len(row) - 1]
        chosen = np.take_along_axis(before, np.asarray(row[len(prompt) :])[:, None], -1)[:, 0]
        assert (before.max(-1) - chosen <= tolerance).all()
        assert (np.sort(before)[:, -2] < before.max(-1)).any()


# Without torch: whole rows are the judge

SLOW = {
    "grouped heads": ("llama", {}),
    "one key-value head": ("llama", {"num_key_value_heads": 1}),
    "parallel, part rotated": ("gpt_neox", {}),
    "learnt positions, layer scales": ("gpt2", {}),
    "learnt positions with offset": ("opt", {}),
    "windows, unscaled": ("gpt_neo", {}),
    "window per layer": ("qwen2", {"layer_types": KINDS}),
    "two rotary bases": ("gemma3_text", {}),
    "soft caps": ("gemma2", {}),
    "norms after": ("olmo2", {}),
    "layers without rope": ("smollm3", {}),
    "yarn": ("llama", {"rope_parameters": ROPES["yarn"]}),
    "bf16": ("llama", {"dtype": "bfloat16"}),
    "bf16, caps": ("gemma2", {"dtype": "bfloat16"}),
}


@pytest.mark.parametrize("name", SLOW)
def test_the_cache_changes_nothing(name):
    family, changes = SLOW[name]
    model = model_of(family, **changes)
    out = precise(model, model.params, PROMPTS, max_new_tokens=20)
    assert out.tokens.shape == (3, 20)
    assert out.lengths.tolist() == [20, 20, 20]
    assert np.unique(out.tokens).size > 3
    # bf16 rounds at other places: one unit in the last of 8 bits of logits of a few ones.
    tolerance = 0.1 if "bf16" in name else 1e-4
    assert_likeliest(model, model.params, PROMPTS, out.tokens, tolerance)


@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_a_model_with_learnt_positions_generates_up_to_the_last(name):
    model = model_of(name)
    out = precise(model, model.params, LONG, max_new_tokens=24)
    assert_likeliest(model, model.params, LONG, out.tokens)


@pytest.mark.parametrize("name", ["gemma3_text", "gpt2"])
def test_a_row_does_not_depend_on_the_others(name):
    model = model_of(name)
    together = precise(model, model.params, LONG, max_new_tokens=12)
    for row, prompt in zip(together.tokens, LONG):
        alone = precise(model, model.params, [prompt], max_new_tokens=12)
        np.testing.assert_array_equal(alone.tokens[0], row)


@pytest.mark.parametrize("bucket", [1, 5, 64])
def test_padding_is_not_seen(bucket, monkeypatch):
    model = model_of("gemma2")
    usual = precise(model, model.params, PROMPTS, max_new_tokens=12)
    monkeypatch.setattr(generation, "BUCKET", bucket)
    other = precise(model, model.params, PROMPTS, max_new_tokens=12, pad=17)
    np.testing.assert_array_equal(usual.tokens, other.tokens)


# The end


@dataclasses.dataclass(frozen=True, eq=False)
class Counted(Decoder):
    """A decoder that counts the steps it really takes."""

    steps: list = dataclasses.field(default_factory=list)

    def step(self, params, tokens, positions, cache):
        jax.debug.callback(lambda: self.steps.append(1))
        return super().step(params, tokens, positions, cache)


def counted(model):
    return dataclasses.replace(model, decoder=Counted(model.decoder.function, model.decoder.config))


def steps(model):
    jax.effects_barrier()
    taken = len(model.decoder.steps)
    model.decoder.steps.clear()
    return taken


def cut(tokens, end, pad):
    """Rows as they are once they end with the first of the `end` tokens; and their lengths."""
    cut, lengths = tokens.copy(), []
    for row in cut.reshape(-1, cut.shape[-1]):
        found = np.flatnonzero(np.isin(row, end))
        lengths.append(found[0] + 1 if found.size else row.size)
        row[lengths[-1] :] = pad
    return cut, np.reshape(lengths, cut.shape[:-1])


def test_the_loop_stops_when_all_rows_have_ended():
    model = counted(model_of())
    free = precise(model, model.params, PROMPTS, max_new_tokens=24)
    assert steps(model) == 23  # the first token comes from the prompt
    ends = [free.tokens[i, stop].item() for i, stop in enumerate((4, 9, 6))]
    expected, lengths = cut(free.tokens, ends, 60)
    assert 1 < max(lengths) < 15
    assert len(set(lengths)) > 1
    out = precise(model, model.params, PROMPTS, max_new_tokens=24, end=ends, pad=60)
    np.testing.assert_array_equal(out.tokens, expected)
    np.testing.assert_array_equal(out.lengths, lengths)
    assert steps(model) == max(lengths) - 1


def test_rows_that_end_at_once_take_no_step():
    model = counted(model_of())
    first = precise(model, model.params, PROMPTS, max_new_tokens=1)
    assert first.lengths.tolist() == [1, 1, 1]
    ends = first.tokens[:, 0].tolist()
    out = precise(model, model.params, PROMPTS, max_new_tokens=24, end=ends)
    assert steps(model) == 0
    assert out.lengths.tolist() == [1, 1, 1]
    np.testing.assert_array_equal(out.tokens, np.pad(first.tokens, [(0, 0), (0, 23)]))


def test_a_row_that_does_not_end_is_generated_to_the_last_token():
    model = counted(model_of())
    free = precise(model, model.params, PROMPTS, max_new_tokens=12)
    end = next(t for t in free.tokens[0].tolist() if t not in free.tokens[1])
    expected, lengths = cut(free.tokens, [end], 5)
    assert lengths[0] < lengths[1] == 12
    steps(model)
    out = precise(model, model.params, PROMPTS, max_new_tokens=12, end=end, pad=5)
    np.testing.assert_array_equal(out.tokens, expected)
    np.testing.assert_array_equal(out.lengths, lengths)
    assert steps(model) == 11


@pytest.mark.parametrize("where", ["int", "list", "generation_config", "config", "none"])
def test_end_and_padding_come_from_the_argument_or_the_checkpoint(where, tmp_path):
    model = model_of(architectures=["LlamaForCausalLM"])
    free = precise(model, model.params, PROMPTS, max_new_tokens=10).tokens
    ends, pad, given = [free[0, 3].item()], 7, {}
    if where in ("list", "generation_config"):
        ends.append(free[1, 5].item())
    if where in ("int", "list"):
        given = {"end": ends[0] if where == "int" else ends, "pad": pad}
    folder = save_model(model, model.params, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    # Another token in the place that is not to be asked.
    said = {"eos_token_id": ends[0] if where == "config" else free[0, 0].item(), "pad_token_id": 9}
    if where == "config":
        said["pad_token_id"] = pad
    if where == "none":
        said, ends = {"eos_token_id": None, "pad_token_id": None}, []
    (folder / "config.json").write_text(json.dumps(config | said))
    if where == "generation_config":
        text = json.dumps({"eos_token_id": ends, "pad_token_id": pad})
        (folder / "generation_config.json").write_text(text)
    loaded = load_model(folder)
    out = precise(loaded, loaded.params, PROMPTS, max_new_tokens=10, **given)
    expected, lengths = cut(free, ends, pad)
    np.testing.assert_array_equal(out.tokens, expected)
    np.testing.assert_array_equal(out.lengths, lengths)
    if where == "none":
        assert loaded.special_tokens == ((), 0)


# Draws


def plainly_filtered(logits, top_k, top_p):
    """One row, by the definitions."""
    kept = np.full(logits.shape, -np.inf, np.float32)
    order = np.argsort(-logits, kind="stable")
    if top_k is not None:
        order = [i for i in order if logits[i] >= logits[order[min(top_k, order.size) - 1]]]
    weights = np.exp(logits[order].astype(np.float64) - logits.max())
    total, stop = 0.0, 1.0 if top_p is None else top_p
    for i, weight in zip(order, weights / weights.sum()):
        if top_p is not None and total >= stop:
            break
        kept[i], total = logits[i], total + weight
    return kept


def some_logits(ties):
    logits = 2 * np.random.default_rng(3).normal(size=(4, 5, 40)).astype(np.float32)
    return np.round(2 * logits) / 2 if ties else logits


LIMITS = [(None, None), (1, None), (5, None), (40, None), (99, None), (None, 0.3), (None, 0.9)]
LIMITS += [(7, 0.5), (3, 0.99), (None, 1e-6), (None, 1.0)]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("top_k", "top_p"), LIMITS)
def test_filtered_keeps_what_the_definition_keeps(top_k, top_p, ties):
    logits = some_logits(ties)
    expected = [plainly_filtered(row, top_k, top_p) for row in logits.reshape(-1, 40)]
    ours = filtered(jnp.asarray(logits), top_k, top_p)
    np.testing.assert_array_equal(np.asarray(ours).reshape(-1, 40), expected)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("top_k", "top_p"), LIMITS)
def test_filtered_keeps_what_torch_keeps(top_k, top_p, ties):
    torch = pytest.importorskip("torch")
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    logits = some_logits(ties).reshape(-1, 40)
    theirs = torch.tensor(logits)
    if top_k is not None:
        theirs = TopKLogitsWarper(top_k)(None, theirs)
    if top_p is not None:
        theirs = TopPLogitsWarper(top_p)(None, theirs)
    ours, theirs = np.asarray(filtered(jnp.asarray(logits), top_k, top_p)), theirs.numpy()
    if ties:  # which of equal ones stay is left open
        ours, theirs = np.sort(ours), np.sort(theirs)
    np.testing.assert_array_equal(ours, theirs)


def assert_drawn_from(tokens, logits):
    """Chi-square test: the chance of a false alarm is 1e-4, for one of the fixed seeds."""
    chance = np.exp(logits.astype(np.float64) - logits.max())
    chance /= chance.sum()
    seen = np.bincount(tokens, minlength=chance.size)
    assert not seen[chance == 0].any()
    expected = chance * tokens.size
    rare = expected < 5
    seen = np.append(seen[~rare], seen[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    seen, expected = seen[expected > 0], expected[expected > 0]
    assert seen.size > 3
    statistic = ((seen - expected) ** 2 / expected).sum()
    assert statistic < stats.chi2.ppf(1 - 1e-4, seen.size - 1)


@pytest.mark.parametrize(
    ("temperature", "limits"),
    [
        (0.7, {}),
        (1.5, {}),
        (1.5, {"top_k": 9}),
        (1.5, {"top_p": 0.6}),
        (1.0, {"top_k": 12, "top_p": 0.8}),
    ],
)
def test_tokens_are_drawn_from_the_distribution_they_should(temperature, limits):
    model, prompt = model_of(), PROMPTS[0]
    drawn = generate(
        model,
        model.params,
        [prompt] * 4096,
        max_new_tokens=2,
        temperature=temperature,
        key=jax.random.key(1),
        **limits,
    )
    first, second = np.asarray(drawn.tokens).T
    for tokens, row in ((first, prompt), (second[first == (t := stats.mode(first).mode)], None)):
        logits = whole(model, model.params, [row or [*prompt, int(t)]])[0, -1] / temperature
        kept = plainly_filtered(logits, limits.get("top_k"), limits.get("top_p"))
        assert_drawn_from(tokens, kept)


def test_the_key_decides_what_is_drawn():
    model = model_of()

    def draw(seed):
        return precise(
            model,
            model.params,
            [PROMPTS[0]] * 2,
            max_new_tokens=12,
            temperature=1.0,
            key=jax.random.key(seed),
        ).tokens

    np.testing.assert_array_equal(draw(0), draw(0))
    assert (draw(0) != draw(1)).any(axis=1).all()
    assert (draw(0)[0] != draw(0)[1]).any()


@pytest.mark.parametrize(
    "options",
    [{"temperature": 1e-5}, {"temperature": 1.0, "top_k": 1}, {"temperature": 1.0, "top_p": 1e-6}],
)
def test_draws_without_chance_are_greedy(options):
    model = model_of("gemma3_text")
    greedy = precise(model, model.params, PROMPTS, max_new_tokens=12)
    key = jax.random.key(0)
    drawn = precise(model, model.params, PROMPTS, max_new_tokens=12, key=key, **options)
    np.testing.assert_array_equal(drawn.tokens, greedy.tokens)


# Members


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt2", "phi3"])
def test_members_generate_what_each_generates_alone(name):
    model = model_of(name, **(PHI3 if name == "phi3" else {}))
    each = [lively(model.params, seed) for seed in range(3)]
    together = jax.tree.map(lambda *x: jnp.stack(x), *each)
    alone = [precise(model, params, PROMPTS, max_new_tokens=12).tokens for params in each]
    free = np.stack(alone)
    assert len({t.tobytes() for t in alone}) == 3
    out = precise(model, together, PROMPTS, max_new_tokens=12, members=True)
    np.testing.assert_array_equal(out.tokens, free)
    assert (out.lengths == 12).all()
    # Now members end at different places, and the loop goes on until the last one has.
    ends = [free[0, 0, 5].item(), free[1, 1, 8].item()]
    expected, lengths = cut(free, ends, 50)
    assert len(np.unique(lengths)) > 2
    watched = counted(model)
    out = precise(watched, together, PROMPTS, max_new_tokens=12, members=True, end=ends, pad=50)
    np.testing.assert_array_equal(out.tokens, expected)
    np.testing.assert_array_equal(out.lengths, lengths)
    renewed = 2 if name == "phi3" else 0  # two of the prompts grow beyond the limit
    assert steps(watched) == lengths.max() - 1 - renewed


def test_members_draw_by_themselves():
    model = model_of()
    same = jax.tree.map(lambda x: jnp.stack([x] * 3), model.params)
    out = precise(
        model,
        same,
        PROMPTS,
        max_new_tokens=12,
        members=True,
        temperature=1.0,
        key=jax.random.key(0),
    )
    assert out.tokens.shape == (3, 3, 12)
    assert len({member.tobytes() for member in out.tokens}) == 3


# Compiled once


@pytest.mark.parametrize("drawn", [False, True])
def test_other_values_of_the_same_shapes_are_not_compiled_again(drawn):
    model = counted(model_of())  # a decoder that nothing was compiled for

    def compiled(seed, prompts):
        options = {"temperature": 0.5 + seed, "top_p": 0.9 - seed / 9, "top_k": 5} if drawn else {}
        before = generation._generate._cache_size()
        params = lively(model.params, seed)
        key = jax.random.key(seed) if drawn else None
        generate(model, params, prompts, max_new_tokens=6, pad=seed, end=3, key=key, **options)
        return generation._generate._cache_size() - before

    assert compiled(0, PROMPTS) == 1
    assert compiled(1, PROMPTS) == 0
    assert compiled(2, [[1], list(range(32)), [5] * 9]) == 0
    assert compiled(3, [*PROMPTS, [1]]) == 1


# What is refused

NOT_DRAWN = "need a temperature above 0: nothing is drawn at 0"


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([], {}, "prompts: expected at least one, each of at least one token"),
        ([[1], []], {}, "prompts: expected at least one, each of at least one token"),
        ([[1, 61]], {}, "prompts: tokens from 1 to 61; the model knows 0 to 60"),
        ([[1], [-1]], {}, "prompts: tokens from -1 to 1; the model knows 0 to 60"),
        ([[1]], {"max_new_tokens": 0}, "max_new_tokens is 0; expected at least 1"),
        (
            [[1], [1] * 60],
            {"max_new_tokens": 5},
            "60 tokens of a prompt and 5 new ones; the model has 64 positions",
        ),
        ([[1]], {"temperature": -0.5}, "temperature is -0.5; expected at least 0 (0 is greedy)"),
        ([[1]], {"temperature": 1.0, "top_k": 0}, "top_k is 0; expected at least 1"),
        (
            [[1]],
            {"temperature": 1.0, "top_p": 0.0},
            "top_p is 0.0; expected more than 0 and at most 1",
        ),
        (
            [[1]],
            {"temperature": 1.0, "top_p": 1.5},
            "top_p is 1.5; expected more than 0 and at most 1",
        ),
        ([[1]], {"top_k": 3}, "top_k and top_p need a temperature above 0: nothing is drawn at 0"),
        (
            [[1]],
            {"top_p": 0.5},
            "top_k and top_p need a temperature above 0: nothing is drawn at 0",
        ),
        (
            [[1]],
            {"temperature": 1.0},
            "temperature above 0 draws tokens: a key is needed, jax.random.key(SEED)",
        ),
    ],
)
def test_what_cannot_be_generated_is_refused(prompts, options, message):
    model = model_of("gpt2")
    with pytest.raises(ValueError) as error:  # noqa: PT011
        generate(model, model.params, prompts, **{"max_new_tokens": 4} | options)
    assert str(error.value) == message


# What torch generates now


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def torch_model(torch, family, config, folder):
    """Torch's model with everything random, saved where `load_model` finds it."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    torch.manual_seed(0)
    config = CONFIG_MAPPING[family](**config)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for module in model.modules():
            wide = module is model.get_input_embeddings() and not config.tie_word_embeddings
            for name, parameter in module.named_parameters(recurse=False):
                norm = name == "weight" and parameter.ndim == 1
                parameter.normal_(float(norm), 1.6 if wide else 0.4)
    model.save_pretrained(folder)
    return model


def torch_tokens(torch, model, prompts, new):
    """New tokens of prompts padded on the left, cut after the end."""
    longest = max(map(len, prompts))
    rows = [[0] * (longest - len(p)) + p for p in prompts]
    mask = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
    with torch.no_grad():
        # A copy: some rotary embeddings keep frequencies of the longest row that they have seen.
        out = copy.deepcopy(model).generate(
            torch.tensor(rows),
            attention_mask=torch.tensor(mask),
            max_new_tokens=new,
            do_sample=False,
        )
    return out[:, longest:].numpy()


def assert_torch_generates(torch, model, folder, prompts, new):
    ours = load_model(folder)
    out = precise(ours, ours.params, prompts, max_new_tokens=new)
    for tokens, length, prompt in zip(out.tokens, out.lengths, prompts):
        expected = torch_tokens(torch, model, [prompt], new)[0]
        assert tokens[:length].tolist() == expected.tolist()
        assert not tokens[length:].any()  # the padding token is 0
    return out


def test_every_family_has_a_config_here():
    assert list(CONFIGS) == list(FAMILIES)


@pytest.mark.parametrize("family", CONFIGS)
def test_greedy_tokens_are_those_of_torch(torch, family, tmp_path):
    model = torch_model(torch, family, CONFIGS[family], tmp_path)
    out = assert_torch_generates(torch, model, tmp_path, PROMPTS, 20)
    assert np.unique(out.tokens).size > 3


@pytest.mark.parametrize("kind", ROPES)
def test_greedy_tokens_are_those_of_torch_with_stretched_positions(torch, kind, tmp_path):
    # Rows cross the 16 positions that the model is used to while they grow.
    config = CONFIGS["llama"] | {"rope_parameters": ROPES[kind], "max_position_embeddings": 16}
    model = torch_model(torch, "llama", config, tmp_path)
    assert_torch_generates(torch, model, tmp_path, LONG, 24)


SIDES = {"short": ((3, 7, 4), 9), "long": ((17, 30, 18), 12), "across": ((12, 3, 16, 20), 18)}


@pytest.mark.parametrize("side", SIDES)
def test_longrope_of_phi3_is_that_of_torch_on_both_sides_of_its_limit(torch, side, tmp_path):
    lengths, new = SIDES[side]
    settings = CONFIGS["phi3"] | PHI3 | {"eos_token_id": None}
    model = torch_model(torch, "phi3", settings, tmp_path)
    prompts = [[(5 * i + n) % 61 for i in range(n)] for n in lengths]
    out = assert_torch_generates(torch, model, tmp_path, prompts, new)
    if side == "across":  # the long factors would have chosen otherwise from the beginning
        ours = load_model(tmp_path)
        logits = whole(ours, ours.params, [[*prompts[1], *out.tokens[1].tolist()]])[0]
        assert (logits[2:15].argmax(-1) != out.tokens[1, :13]).any()


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_greedy_tokens_are_those_of_torch_in_a_padded_batch(torch, family, tmp_path):
    free = CONFIGS[family] | {"eos_token_id": None}
    model = torch_model(torch, family, free, tmp_path / "free")
    end = torch_tokens(torch, model, PROMPTS, 8)[1, -1].item()
    model.config.eos_token_id = model.generation_config.eos_token_id = end
    model.save_pretrained(tmp_path / "model")
    ours = load_model(tmp_path / "model")
    out = precise(ours, ours.params, PROMPTS, max_new_tokens=20)
    expected = torch_tokens(torch, model, PROMPTS, 20)
    assert out.lengths[1] <= 8
    np.testing.assert_array_equal(out.tokens[:, : expected.shape[1]], expected)
