"""Every setting of every family's config is honoured, harmless or refused by name."""

import copy
import json

import jax
import pytest
from checkpoints import CONFIG, write
from transformers import CONFIG_MAPPING

from jaxgfo import load_model, random_model
from jaxgfo.models.families import FAMILIES
from jaxgfo.models.settings import Settings

HARMLESS = set(  # say nothing about the logits of a model that is not being trained
    """architectures attention_dropout attn_pdrop bos_token_id chunk_size_feed_forward
    classifier_dropout dropout dtype embd_pdrop embed_dropout eos_token_id hidden_dropout id2label
    init_std initializer_range is_decoder label2id layerdrop model_type output_attentions
    output_hidden_states pad_token_id pretraining_tp problem_type reorder_and_upcast_attn
    resid_dropout resid_pdrop return_dict summary_activation summary_first_dropout
    summary_proj_to_labels summary_type summary_use_proj transformers_version use_cache
    _name_or_path _sliding_window_pattern""".split()
)
WINDOWED = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2}
LONG = {"short_factor": [1.0] * 48, "long_factor": [2.0] * 48, "rope_theta": 1e4}
CONTEXT = {  # settings that mean something only beside others
    "layer_types": WINDOWED,
    "max_window_layers": WINDOWED,
    "use_sliding_window": WINDOWED,
    "sliding_window": WINDOWED,
    "original_max_position_embeddings": {"rope_parameters": LONG | {"rope_type": "longrope"}},
}
OTHER = {  # where twice as much would not do, or the setting is not there by default
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    "attention_types": [[["local"], 24]],
    "head_dim": 64,
    "sliding_window": 32,
    "max_window_layers": 5,
    "n_inner": 40,
    "num_key_value_heads": 1,
    "original_max_position_embeddings": 77,
    "use_bidirectional_attention": True,
    "attn_logit_softcapping": 3.0,
    "final_logit_softcapping": 3.0,
}
ALONG = {  # what changes with a setting, where `transformers` insists
    "num_layers": {"attention_types": [[["global", "local"], 24]]},
    "attention_layers": {"attention_types": [[["local"], 24]]},
}
BY_KIND = ("full_attention", "sliding_attention")


def keys(model_type):
    return CONFIG_MAPPING[model_type]().to_dict()


def described(model_type, **changes):
    settings = Settings(CONFIG_MAPPING[model_type](**copy.deepcopy(changes)))
    decoder = FAMILIES[model_type].describe(settings)
    settings.close()
    return decoder


def changed(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return value[::-1]
    return "other" if isinstance(value, str) else 2 * (value or 20)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_setting_is_honoured_or_refused_by_name(model_type):
    default = keys(model_type)
    for name in default.keys() - HARMLESS:
        given = {k: v for k, v in CONTEXT.get(name, {}).items() if k in default}
        before = CONFIG_MAPPING[model_type](**copy.deepcopy(given)).to_dict()[name]
        value = OTHER[name] if name in OTHER else changed(before)
        if name == "rope_parameters" and BY_KIND[0] in before:
            value = dict.fromkeys(BY_KIND, value)
        change = {k: v for k, v in ALONG.get(name, {}).items() if k in default}
        if name != "attention_layers":  # which only follows from attention_types
            change[name] = value
        try:
            after = described(model_type, **given | change)
        except ValueError as error:
            assert f"{name} is {value!r}" in str(error)  # noqa: PT017
            continue
        assert after != described(model_type, **given), f"{name} makes no difference"


@pytest.mark.parametrize("model_type", FAMILIES)
def test_harmless_settings_change_nothing(model_type):
    default = keys(model_type)
    numbers = {k: v for k, v in default.items() if k in HARMLESS and type(v) in (int, float, bool)}
    assert {"use_cache", "output_hidden_states"} <= numbers.keys()
    numbers = {name: changed(value) for name, value in numbers.items()}
    assert described(model_type, **numbers) == described(model_type)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_settings_against_a_decoder_are_refused(model_type):
    for change in ({"is_encoder_decoder": True}, {"add_cross_attention": True}):
        (name,) = change
        with pytest.raises(ValueError, match=f"{name} is True, which is not supported"):
            described(model_type, **change)


@pytest.mark.parametrize("model_type", [name for name in FAMILIES if "gemma" in name])
def test_gemmas_that_see_the_future_are_refused(model_type):
    with pytest.raises(ValueError, match="use_bidirectional_attention is True"):
        described(model_type, use_bidirectional_attention=True)


# On the way through a folder

ROPE = {"rope_type": "default", "rope_theta": 1e4}
REFUSED = {
    "architecture": ({"model_type": "bert"}, "model_type is 'bert', .* supported: gemma, gemma2,"),
    "none": ({"model_type": None}, "model_type is None"),
    "activation": ({"hidden_act": "gulp"}, "hidden_act is 'gulp', .* gelu, .* silu,"),
    "rope type": ({"rope_parameters": ROPE | {"rope_type": "spiral"}}, "spiral"),
    "rope setting": ({"rope_parameters": ROPE | {"twist": 2.0}}, "twist, which is not supported"),
    "rope of another type": (
        {"rope_parameters": ROPE | {"low_freq_factor": 2.0}},
        "rope_parameters of type 'default' have low_freq_factor",
    ),
    "rope without a factor": (
        {"rope_parameters": ROPE | {"rope_type": "linear"}},
        "lack factor|Missing required keys .*factor",
    ),
    "cross attention": ({"add_cross_attention": True}, "add_cross_attention is True"),
    "encoder": ({"is_encoder_decoder": True}, "is_encoder_decoder is True"),
    "heads": ({"num_key_value_heads": 3}, "4 attention heads cannot share 3 key-value heads"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_setting_that_is_not_supported_is_refused_by_name(tmp_path, case):
    changes, message = REFUSED[case]
    folder = write(tmp_path / "model")
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(ValueError, match=message):
        load_model(folder)


def test_a_setting_that_nobody_knows_is_told(tmp_path):
    folder = write(tmp_path / "model", mixture_of_hats=8)
    with pytest.warns(UserWarning, match="LlamaConfig has no mixture_of_hats; not used"):
        load_model(folder)


def test_a_decoder_without_layers_is_refused():
    with pytest.raises(ValueError, match="num_layers is 0; expected at least 1"):
        random_model(CONFIG | {"num_hidden_layers": 0}, key=jax.random.key(0))
