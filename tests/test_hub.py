"""Checkpoints from a hub: a small one that runs here and answers what huggingface_hub asks."""

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from checkpoints import random_tensors, write
from problems import assert_equal

from jaxgfo import load_model

HUB = "test-model", "owner/name"  # an id of the early days, and one with an owner
UNWANTED = (
    "pytorch_model.bin",
    "model.fp16.safetensors",
    "onnx/model.onnx",
    "modeling_own.py",
    "README.md",
)
LOAD = """
import json, sys
sys.modules["torch"] = None  # as on most machines: transformers would take seconds to import it
from jaxgfo import load_model
for name, revision in json.loads(sys.argv[1]):
    try:
        model = load_model(name, revision=revision)
        first = float(model.params["norm"]["scale"][0])
        tokens = model.tokenizer("a blue hat")["input_ids"]
        print(json.dumps({"folder": str(model.folder), "first": first, "tokens": tokens}))
    except FileNotFoundError as error:
        print(json.dumps(str(error)))
"""


class Hub:
    """Repositories as folders: revisions by repository, and what was asked for."""

    def __init__(self):
        self.repositories, self.asked = {}, []

    def answer(self, path):
        """Status, headers and content."""
        self.asked.append(path)
        for name, revisions in self.repositories.items():
            if revisions is None and f"/{name}/" in path:
                return 403, {"X-Error-Code": "GatedRepo"}, b"access is restricted"
            for revision, folder in (revisions or {}).items():
                commit = hashlib.sha1(str(folder).encode()).hexdigest()
                files = [f for f in sorted(folder.rglob("*")) if f.is_file()]
                sizes = {str(f.relative_to(folder)): f.stat().st_size for f in files}
                if path == f"/api/models/{name}/revision/{revision}":
                    siblings = [{"rfilename": file} for file in sizes]
                    return as_json({"id": name, "sha": commit, "siblings": siblings})
                if path == f"/api/models/{name}/tree/{commit}":
                    entry = {"type": "file", "oid": commit}
                    return as_json([entry | {"path": f, "size": n} for f, n in sizes.items()])
                for stem in (f"/{name}/resolve/{at}/" for at in (commit, revision)):
                    if path.startswith(stem) and (folder / path.removeprefix(stem)).is_file():
                        content = (folder / path.removeprefix(stem)).read_bytes()
                        tag = f'"{hashlib.sha256(content).hexdigest()}"'
                        return 200, {"ETag": tag, "X-Repo-Commit": commit}, content
        known = any(f"/{name}/" in path for name in self.repositories)
        return 404, {"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"}, b""


def as_json(content):
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that subprocesses ask, with an empty cache of their own."""
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status, headers, content = hub.answer(self.path.split("?")[0])
            self.send_response(status)
            for header, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(header, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def repository(folder, seed):
    """A Llama checkpoint, with what else repositories hold."""
    write(folder, random_tensors(seed=seed))
    for name in UNWANTED:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("not wanted")
    return folder


def load(tmp_path, *models, **environment):
    """What a fresh process gets for every (name, revision): the model's marks, or a message."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps(models)],
        env=os.environ | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_model_comes_from_the_hub_and_then_from_the_cache(hub, tmp_path):
    models = [(name, None) for name in HUB]
    for seed, name in enumerate(HUB):
        hub.repositories[name] = {"main": repository(tmp_path / "hub" / name, seed)}
    found = load(tmp_path, *models)
    for seed, (name, first) in enumerate(zip(HUB, found)):
        folder, source = Path(first["folder"]), tmp_path / "hub" / name
        assert (tmp_path / "cache") in folder.parents
        assert first["first"] == float(random_tensors(seed=seed)["model.norm.weight"][0])
        wanted = {f.name for f in source.iterdir()} - {Path(n).parts[0] for n in UNWANTED}
        assert {f.name for f in folder.iterdir()} == wanted
        model, local = load_model(folder), load_model(source)
        assert_equal(model.params, local.params)
        assert first["tokens"] == local.tokenizer("a blue hat")["input_ids"]
    assert not any(path.endswith(unwanted) for path in hub.asked for unwanted in UNWANTED)
    hub.asked.clear()
    assert load(tmp_path, *models, HF_HUB_OFFLINE="1") == found
    assert hub.asked == []
    assert load(tmp_path, *models) == found  # asks whether there is news, that is all
    assert hub.asked != []
    assert not any("/resolve/" in path for path in hub.asked)


@pytest.mark.slow
def test_a_revision_is_another_model(hub, tmp_path):
    revisions = {"main": 1, "v2": 2}
    hub.repositories["owner/name"] = {
        revision: repository(tmp_path / revision, seed) for revision, seed in revisions.items()
    }
    found = load(tmp_path, *[("owner/name", revision) for revision in revisions])
    for first, seed in zip([model["first"] for model in found], revisions.values()):
        assert first == float(random_tensors(seed=seed)["model.norm.weight"][0])


@pytest.mark.slow
def test_shards_come_from_the_hub(hub, tmp_path):
    source = write(tmp_path / "repository")
    (source / "model.safetensors").rename(source / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(random_tensors(), "model-00001-of-00001.safetensors")}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copyfile(source / "config.json", source / "other-00001-of-00001.safetensors")
    hub.repositories["owner/name"] = {"main": source}
    folder = Path(load(tmp_path, ("owner/name", None))[0]["folder"])
    assert (folder / "model-00001-of-00001.safetensors").is_file()
    assert not (folder / "other-00001-of-00001.safetensors").exists()


@pytest.mark.slow
def test_what_the_hub_does_not_give_is_told(hub, tmp_path):
    hub.repositories["owner/gated"] = None
    hub.repositories["owner/name"] = {"main": write(tmp_path / "repository")}
    cases = {
        ("owner/none", None): "Repository Not Found",
        ("owner/gated", None): "access is restricted",
        ("owner/name", "v9"): "Revision Not Found",
    }
    messages = load(tmp_path, *cases)
    for message, (name, revision), reason in zip(messages, cases, cases.values()):
        at = f" at revision {revision!r}" if revision else ""
        assert f"model {name!r}{at}: no such folder, and the hub did not give it: " in message
        assert reason in message
