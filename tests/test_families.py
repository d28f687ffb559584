"""Every family against torch, and every feature of a decoder: without it, the two do not agree."""

import contextlib
import dataclasses
import functools
import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parity import (
    assert_same_tensors,
    nll_of,
    precise,
    some_tokens,
    torch_logits,
    torch_model,
    torch_opened,
)
from safetensors.numpy import load_file, save_file
from variants import BASES, LENGTH, VARIANTS

import jaxgfo
from jaxgfo import Batch, load_model, random_model, save_model, tree
from jaxgfo.models.activations import ACTIVATIONS
from jaxgfo.models.config import DecoderConfig
from jaxgfo.models.families import FAMILIES
from jaxgfo.models.function import functional
from jaxgfo.models.rope import KEYS, from_parameters
from jaxgfo.models.transformer import Transformer

torch = pytest.importorskip("torch")

TOKENS = some_tokens(3)
IDS = jnp.asarray(TOKENS, jnp.int32)
LENGTHS = np.array([LENGTH, 31, 6])  # of the rows that are padded
REAL = np.arange(LENGTH) < LENGTHS[:, None]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Variant -> its folder and torch's logits in fp32; made once each."""

    @functools.cache
    def made(name):
        folder = tmp_path_factory.mktemp("checkpoint")
        torch_model(VARIANTS[name]).save_pretrained(folder)
        # Opened anew: the rotary table of a model cast to bf16 and back is not that of fp32.
        return folder, torch_logits(torch_opened(folder), TOKENS)

    return made


@contextlib.contextmanager
def no_warning_logged():
    """`transformers` says nothing, not even that it found something odd in a checkpoint."""
    from transformers.utils import logging as theirs

    said, logger, before = [], logging.getLogger("transformers"), theirs.get_verbosity()
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger.addHandler(handler)
    theirs.set_verbosity_warning()
    try:
        yield
    finally:
        theirs.set_verbosity(before)
        logger.removeHandler(handler)
    assert not said


# With every feature


@pytest.mark.parametrize("name", VARIANTS)
def test_torch_and_jax_agree_before_and_after_saving(checkpoint, tmp_path, name):
    folder, expected = checkpoint(name)
    model = load_model(folder, dtype="float32")
    apply = model.apply  # a method is another object each time, which is compiled again
    np.testing.assert_allclose(precise(apply, model.params, IDS), expected, atol=1e-4)
    assert np.ptp(expected) > 1  # or agreeing would mean little

    opened = torch_opened(folder)
    padded = np.where(REAL, TOKENS, 0)
    theirs = torch_logits(opened, padded, REAL)
    ours = precise(apply, model.params, jnp.asarray(padded, jnp.int32))
    np.testing.assert_allclose(ours[REAL], theirs[REAL], atol=1e-4)

    batches = [Batch(IDS, IDS >= 0), Batch(jnp.asarray(padded, jnp.int32), jnp.asarray(REAL))]
    nll = [nll_of(expected, TOKENS).ravel(), nll_of(theirs, padded)[REAL[:, 1:]]]
    with jax.default_matmul_precision("highest"):
        value = jaxgfo.perplexity(model, model.params, batches)
    assert value == pytest.approx(math.exp(np.concatenate(nll).mean()), rel=1e-5)

    model = load_model(folder)
    saved = save_model(model, model.params, tmp_path / "saved")
    assert_same_tensors(folder, saved)
    with no_warning_logged():
        again = torch_opened(saved)
    np.testing.assert_array_equal(torch_logits(again, TOKENS), expected)


# Without one feature


def stretched(name, **changes):
    """The rotary embedding of a variant, with other settings."""
    config = VARIANTS[name]
    given, longest = config["rope_parameters"] | changes, config["max_position_embeddings"]
    return {"ropes": (from_parameters(given, 8, longest, partial=True),)}


PLAIN = {"ropes": (from_parameters({"rope_theta": 100.0}, 8, 64),)}
WHOLE = {"ropes": (from_parameters({"rope_theta": 10000.0}, 8, 64),)}
EVEN = {"layer_ropes": ()}
NO_BIAS = {"qkv_bias": False, "out_bias": False, "mlp_bias": False}
OFF = [  # a variant and a change that takes one of its features away
    ("gpt2", {"positions": 0}),
    ("gpt2", {"qkv_bias": False}),
    ("gpt2", {"out_bias": False}),
    ("gpt2", {"mlp_bias": False}),
    ("gpt2", {"norm": "rms"}),
    ("gpt2", {"gated": True}),
    ("gpt2", {"activation": "relu"}),
    ("gpt2 unscaled", {"scale": 0.5}),
    ("gpt2 by layer", {"layer_scales": ()}),
    ("gpt2 sizes", {"tied": True}),
    ("gpt2 epsilon", {"norm_epsilon": 1e-5}),
    ("llama", {"tied": True}),
    ("llama", {"norm": "layer"}),
    ("llama", {"gated": False}),
    ("llama", {"ropes": ()}),
    ("llama", {"scale": 1.0}),
    ("llama", {"activation": "mish"}),
    ("llama biases", {"qkv_bias": False}),
    ("llama biases", {"out_bias": False}),
    ("llama biases", {"mlp_bias": False}),
    ("llama epsilon", {"norm_epsilon": 1e-6}),
    ("llama linear", PLAIN),
    ("llama dynamic", PLAIN),
    ("llama dynamic", stretched("llama dynamic", factor=1.0)),
    ("llama yarn", PLAIN),
    ("llama yarn", stretched("llama yarn", original_max_position_embeddings=None)),
    ("llama yarn factor", stretched("llama yarn factor", attention_factor=None)),
    ("llama yarn mscale", stretched("llama yarn mscale", mscale=None)),
    ("llama yarn mscale", stretched("llama yarn mscale", beta_fast=None)),
    ("llama yarn mscale", stretched("llama yarn mscale", beta_slow=None)),
    ("llama yarn exact", stretched("llama yarn exact", truncate=True)),
    ("llama llama3", PLAIN),
    ("llama llama3", stretched("llama llama3", original_max_position_embeddings=64)),
    ("llama llama3", stretched("llama llama3", low_freq_factor=0.1)),
    ("llama llama3", stretched("llama llama3", high_freq_factor=8.0)),
    ("mistral", {"windows": ()}),
    ("mistral", {"windows": (6,) * 3}),
    ("qwen2", {"windows": ()}),
    ("qwen2", {"windows": (5,) * 3}),
    ("qwen2", {"qkv_bias": False}),
    ("qwen2 layer types", {"windows": (7, 7, None, 7)}),
    ("qwen3", {"query_key_norm": None}),
    ("qwen3 biases", {"qkv_bias": False}),
    ("qwen3 biases", {"out_bias": False}),
    ("qwen3 layer types", {"windows": (None, 6, None, 6)}),
    ("qwen3 yarn", PLAIN),
    ("gemma", {"norm_offset": 0}),
    ("gemma", {"embed_scale": None}),
    ("gemma untied", {"tied": True}),
    ("gemma biases", {"qkv_bias": False, "out_bias": False}),
    ("gemma2", {"attention_cap": None}),
    ("gemma2", {"logit_cap": None}),
    ("gemma2", {"norm_place": "before"}),
    ("gemma2", {"windows": ()}),
    ("gemma2", {"windows": (None, 5, None)}),
    ("gemma2", {"scale": 6**-0.5}),
    ("gemma2 plain", {"windows": (5, None, 5)}),
    ("gemma3_text", EVEN),
    ("gemma3_text", {"layer_ropes": (1, 1, 1, 1)}),
    ("gemma3_text", {"query_key_norm": None}),
    ("gemma3_text", {"windows": ()}),
    ("gemma3_text", {"scale": 6**-0.5}),
    ("gemma3_text", {"norm_place": "after"}),
    ("gemma3 capped", {"logit_cap": None}),
    ("gemma3 stretched", EVEN),
    ("gpt_neox", {"parallel": False}),
    ("gpt_neox", WHOLE),
    ("gpt_neox serial", {"parallel": True}),
    ("gpt_neox no bias", NO_BIAS),
    ("gpt_neox quarter", WHOLE),
    ("gpt_neox dynamic", stretched("gpt_neox dynamic", factor=1.0)),
    ("gpt_neo", {"scale": 0.5}),
    ("gpt_neo", {"windows": ()}),
    ("gpt_neo uneven", {"windows": (None, 5, None, 5)}),
    ("opt", {"position_offset": 0}),
    ("opt", {"norm_affine": False}),
    ("opt", {"final_norm": False}),
    ("opt", NO_BIAS),
    ("opt 350m", {"norm_place": "before"}),
    ("opt 350m untied", {"tied": True}),
    ("opt sum", {"final_norm": True}),
    ("opt no final norm", {"final_norm": True}),
    ("phi3 window", {"windows": ()}),
    ("phi3 partial", WHOLE),
    ("phi3 long", PLAIN),
    ("phi3 long", stretched("phi3 long", original_max_position_embeddings=64)),
    ("phi3 short", stretched("phi3 short", original_max_position_embeddings=32)),
    ("phi3 long factor", stretched("phi3 long factor", attention_factor=None)),
    ("olmo2", {"query_key_norm": None}),
    ("olmo2", {"norm_place": "both"}),
    ("smollm3", EVEN),
    ("smollm3 window", {"windows": ()}),
    ("smollm3 uneven", {"layer_ropes": (0, None, None, 0)}),
]
GELU = [  # the two differ by 5e-4 at most
    ("gpt2", "gelu"),
    ("gpt2 sizes", "gelu_new"),
    ("gpt2 fp16", "gelu_new"),
    ("qwen3 biases", "gelu"),
    ("gemma untied", "gelu"),
    ("gpt_neo uneven", "gelu"),
    ("opt plain norms", "gelu_new"),
]
SIZES = set(
    "vocab_size hidden_size num_layers num_heads num_groups head_dim mlp_size max_length "
    "embed_size init_scale".split()
)  # other arrays would not fit
CACHED = {"renewal"}  # of account where there is a cache only


def changed(model, **changes):
    """Logits of a model that is described otherwise; arrays that it lacks are of ones."""
    config = dataclasses.replace(model.decoder.config, **changes)
    assert config != model.decoder.config
    shapes, apply = functional(nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0))))
    held = tree.flat_paths(model.params)
    leaves = [held.get(p, jnp.ones(x.shape, x.dtype)) for p, x in tree.flat_paths(shapes).items()]
    return precise(apply, jax.tree.unflatten(jax.tree.structure(shapes), leaves), IDS)


def title(change):
    return " ".join(change)


@pytest.mark.parametrize(("name", "change"), OFF, ids=[f"{n}-{title(c)}" for n, c in OFF])
def test_without_a_feature_torch_and_jax_do_not_agree(checkpoint, name, change):
    folder, expected = checkpoint(name)
    logits = changed(load_model(folder, dtype="float32"), **change)
    assert np.abs(logits - expected).max() > 1e-2


@pytest.mark.parametrize(("name", "other"), GELU)
def test_with_the_other_gelu_torch_and_jax_do_not_agree(checkpoint, name, other):
    folder, expected = checkpoint(name)
    logits = changed(load_model(folder, dtype="float32"), activation=other)
    assert np.abs(logits - expected).max() > 3e-4  # three times what may differ


def test_every_feature_is_varied():
    fields = {field.name for field in dataclasses.fields(DecoderConfig)}
    apart = SIZES | CACHED | {"quantised"}  # which no checkpoint is
    assert fields == apart | {name for _, change in OFF for name in change}
    assert {config["model_type"] for config in VARIANTS.values()} == set(FAMILIES) == set(BASES)
    ropes = [config.get("rope_parameters", {}) for config in VARIANTS.values()]
    assert {"default"} | {rope.get("rope_type", "default") for rope in ropes} == set(KEYS)


def test_every_activation_is_that_of_torch():
    from transformers.activations import ACT2FN

    x = np.linspace(-30, 30, 2001, dtype=np.float32)
    for name, ours in ACTIVATIONS.items():
        theirs = ACT2FN[name](torch.tensor(x)).numpy()
        np.testing.assert_allclose(ours(jnp.asarray(x)), theirs, rtol=1e-5, atol=2e-6, err_msg=name)
    settings = ("activation_function", "hidden_act", "hidden_activation")
    named = {config.get(key) for config in VARIANTS.values() for key in settings} - {None}
    assert named | {"silu", "gelu_new"} == set(ACTIVATIONS)  # those two: by default


PART = {"rope_parameters": {"rope_theta": 100.0, "partial_rotary_factor": 0.5}}
BOTH = {"rope_parameters": dict.fromkeys(("full_attention", "sliding_attention"), *PART.values())}


@pytest.mark.parametrize("family", "llama mistral qwen2 qwen3 gemma gemma2 olmo2 smollm3".split())
def test_a_share_of_the_head_is_refused_where_torch_passes_it_over(family):
    with pytest.raises(ValueError, match=r"partial_rotary_factor is 0\.5, which transformers does"):
        random_model(VARIANTS[family] | PART, key=jax.random.key(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [(BOTH, r"partial_rotary_factor is 0\.5"), ({"attn_logit_softcapping": 1.0}, "not apply it")],
)
def test_what_torch_passes_over_in_gemma3_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        random_model(VARIANTS["gemma3_text"] | changes, key=jax.random.key(0))


# Half precision


@pytest.mark.parametrize("family", BASES)
def test_bf16_is_as_near_to_the_truth_as_torch_in_bf16(tmp_path, family):
    torch_model(VARIANTS[family] | {"dtype": "bfloat16"}).save_pretrained(tmp_path)
    tokens = some_tokens(12)
    exact = torch_logits(torch_opened(tmp_path), tokens)
    theirs = torch_logits(torch_opened(tmp_path, "bfloat16"), tokens)
    model = load_model(tmp_path)
    assert {x.dtype for x in jax.tree.leaves(model.params)} == {jnp.dtype("bfloat16")}
    ours = np.asarray(jax.jit(model.apply)(model.params, jnp.asarray(tokens, jnp.int32)))
    # Neither rounds in the other's places.
    assert np.abs(ours - exact).mean() < 1.5 * np.abs(theirs - exact).mean()


# Other forms of a checkpoint


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "phi3"])
def test_shards_are_read_and_written(checkpoint, tmp_path, family):
    folder, expected = checkpoint(family)
    torch_opened(folder).save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    whole, model = load_model(folder), load_model(tmp_path / "shards")
    assert tree.flat_paths(whole.params).keys() == tree.flat_paths(model.params).keys()
    jax.tree.map(np.testing.assert_array_equal, whole.params, model.params)
    saved = save_model(model, model.params, tmp_path / "saved", max_shard_size="8KB")
    assert len(list(saved.glob("*.safetensors"))) > 2
    with no_warning_logged():
        again = torch_opened(saved)
    np.testing.assert_array_equal(torch_logits(again, TOKENS), expected)


MASKED = {  # where some checkpoints hold the causal mask
    "gpt2": "h.*.attn",
    "gpt_neo": "h.*.attn.attention",
    "gpt_neox": "layers.*.attention",
}


@pytest.mark.parametrize("family", BASES)
def test_names_without_prefix_and_masks_among_the_tensors(checkpoint, tmp_path, family):
    folder, expected = checkpoint(family)
    tensors = load_file(folder / "model.safetensors")
    prefix = FAMILIES[family].prefix
    tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
    mask = np.tril(np.ones((1, 1, 64, 64), np.float32))
    for layer in range(3 * (family in MASKED)):
        place = MASKED[family].replace("*", str(layer))
        tensors[f"{place}.bias"] = mask
        tensors[f"{place}.masked_bias"] = np.array(-1e4, np.float32)
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file(tensors, hub / "model.safetensors", metadata={"format": "pt"})
    model = load_model(hub)
    jax.tree.map(np.testing.assert_array_equal, model.params, load_model(folder).params)
    saved = save_model(model, model.params, tmp_path / "saved")
    assert_same_tensors(hub, saved)
    opened = torch_opened(saved, besides=r".*\.(attn|attention)\.(masked_)?bias")
    np.testing.assert_array_equal(torch_logits(opened, TOKENS), expected)
