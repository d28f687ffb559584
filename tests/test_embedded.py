"""The model and the text that come with the package."""

import ast
import json
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jaxgfo
from jaxgfo import Batch, embedded, load_model
from jaxgfo.io import text

SCRIPTS = Path(__file__).parent.parent / "scripts"


def shipped(name):
    return (embedded.FOLDER / f"{name}.txt").read_bytes()


@pytest.fixture
def grammar(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import grammar

    yield grammar
    sys.modules.pop("grammar")


def recipes():
    """Arguments of grammar.text by corpus, read from the script without running it."""
    (corpora,) = (
        node
        for node in ast.parse((SCRIPTS / "make_embedded.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "corpora"
    )
    (made,) = (node for node in ast.walk(corpora) if isinstance(node, ast.Dict))
    for name, call in zip(made.keys, made.values):
        options = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
        yield name.value, (call.args[0].id, options)


RECIPES = dict(recipes())


@pytest.mark.parametrize("name", ["train", "validation"])
def test_the_text_is_what_the_grammar_writes_byte_for_byte(grammar, name):
    domain, options = RECIPES[name]
    assert domain == "SHIFTED"
    assert grammar.text(grammar.SHIFTED, **options).encode() == shipped(name)


def test_every_corpus_has_its_own_seed():
    seeds = [options["seed"] for _, options in RECIPES.values()]
    assert len(set(seeds)) == len(seeds) == 4


def test_training_and_validation_share_no_story():
    train, validation = (shipped(n).decode().splitlines() for n in ("train", "validation"))
    assert len(train) > 100
    assert len(validation) > 50
    assert not set(train) & set(validation)


def test_it_is_small():
    files = [f for f in embedded.FOLDER.rglob("*") if "__pycache__" not in f.parts]
    assert sum(f.stat().st_size for f in files) <= 3 * 2**20


def test_context_is_worth_something():
    report = json.loads((embedded.FOLDER / "report.json").read_text())
    assert set(report) == {"base", "shifted"}
    for domain in report.values():
        assert domain["unigram"] > 2 * domain["bigram"] > 4 * domain["model"] > 4
    assert report["shifted"]["model"] > 1.2 * report["base"]["model"]  # room to improve


def test_the_reported_perplexity_is_the_models():
    model = load_model(embedded.MODEL)
    rows = text.read_batch(embedded.VALIDATION, model.tokenizer, 256)
    value = jaxgfo.perplexity(model, model.params, text.batches(rows, 32))
    report = json.loads((embedded.FOLDER / "report.json").read_text())
    assert value == pytest.approx(report["shifted"]["model"], rel=1e-4)


def test_any_text_can_be_encoded():
    tokenizer = load_model(embedded.MODEL).tokenizer
    for document in (shipped("train").decode()[:3000], "Ünïcödé 漢字 🙂\n\ttabs"):
        ids = tokenizer(document, verbose=False)["input_ids"]
        assert max(ids) < 512
        assert tokenizer.decode(ids) == document


def test_torch_opens_the_folder_with_the_same_perplexity():
    torch = pytest.importorskip("torch")
    from transformers import AutoTokenizer, LlamaForCausalLM

    theirs, loading = LlamaForCausalLM.from_pretrained(embedded.MODEL, output_loading_info=True)
    assert not any(loading.values()), loading
    document = shipped("validation").decode()[:3000]
    ids = AutoTokenizer.from_pretrained(embedded.MODEL)(document, verbose=False)["input_ids"]
    model = load_model(embedded.MODEL)
    assert model.tokenizer(document, verbose=False)["input_ids"] == ids
    tokens = np.asarray(ids[: len(ids) // 128 * 128], np.int32).reshape(-1, 128)
    with torch.no_grad():
        logits = theirs.eval()(torch.tensor(tokens).long()).logits[:, :-1].double()
    logs = logits.log_softmax(-1).numpy()
    nll = -np.take_along_axis(logs, tokens[:, 1:, None].astype(int), -1).mean()
    batch = Batch(jnp.asarray(tokens), jnp.ones(tokens.shape, bool))
    assert jaxgfo.perplexity(model, model.params, batch) == pytest.approx(np.exp(nll), rel=1e-5)
