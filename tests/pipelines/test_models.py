"""The store of checkpoints: download from a mirror, import, verify, look up."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines import models
from pipelines.known_checkpoints import KNOWN, PARTS
from pipelines.networks.recognise import NETWORKS
from stores.checkpoints import read_checkpoint
from stores.downloads import Patience
from stores.errors import ModelError, OutputExistsError, UsageError
from tests.pipelines.weight_files import save_weights
from tests.stores.web import Site, serve

ONCE = Patience(attempts=1, pause=0.01, connect=2.0, read=2.0)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIVOS_MODELS", str(tmp_path / "store"))
    monkeypatch.delenv("MIVOS_MODELS_URL", raising=False)
    return tmp_path / "store"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server that has all files of both models."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as site:
        for number, entry in enumerate(entry for entry in models.known() if entry.used_by):
            site.files[entry.file] = save_weights(tmp_path / "made.pth", entry.network, float(number))
        yield site


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_the_table_is_consistent() -> None:
    assert len({entry.file for entry in models.known()}) == len(KNOWN)
    for entry in models.known():
        assert entry.network in NETWORKS or entry.name == "fbrs"
        assert entry.page.startswith("https://") and (entry.url or "https://").startswith("https://")
        assert entry.licence
    for model, parts in PARTS.items():
        assert parts.keys() == {"propagation", "s2m", "fusion"}
        assert all(model in KNOWN[name].used_by for name in parts.values())
        assert set(models.needed(model)) == {entry.name for entry in models.known() if model in entry.used_by}


def test_the_default_folder_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MIVOS_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models.store_dir().name == "models" and "mivos" in models.store_dir().parts


@pytest.mark.parametrize("model", PARTS)
def test_all_of_a_model(store: Path, mirror: Site, model: str) -> None:
    assert all(models.installed(model, part) is None for part in PARTS[model])
    seen: list[tuple[str, int, int | None]] = []
    arrivals = models.download(models.needed(model), base_url=mirror.url, progress=lambda *step: seen.append(step))
    assert [arrival.fresh for arrival in arrivals] == [True] * 3
    for part, name in PARTS[model].items():
        path = models.installed(model, part)
        assert path == store / KNOWN[name].file == models.path(name)
        assert path.read_bytes() == mirror.files[path.name]
        assert (name, len(mirror.files[path.name]), len(mirror.files[path.name])) in seen
    assert {entry.state for entry in models.status() if model in entry.checkpoint.used_by} == {"installed"}
    assert [result.problem for result in models.verify()] == [None] * 3


def test_what_is_there_is_not_downloaded_again(store: Path, mirror: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIVOS_MODELS_URL", mirror.url + "/")
    first = models.download(["fusion", "fusion"])
    again = models.download(["fusion"])
    assert len(first) == len(mirror.requests) == 1
    assert (again[0].fresh, again[0].sha256) == (False, first[0].sha256)
    models.download(["fusion"], force=True)
    assert len(mirror.requests) == 2


def test_a_broken_download_is_partial_and_goes_on(store: Path, mirror: Site) -> None:
    mirror.script = ["cut 1000"]
    with pytest.raises(ModelError, match="download failed"):
        models.download(["s2m"], base_url=mirror.url, patience=ONCE)
    state = {entry.checkpoint.name: (entry.state, entry.bytes) for entry in models.status()}
    assert state["s2m"] == ("partial", 1000) and models.installed("mivos", "s2m") is None
    models.download(["s2m"], base_url=mirror.url, patience=ONCE)
    assert mirror.requests[-1]["range"] == "bytes=1000-"
    assert models.path("s2m").read_bytes() == mirror.files["s2m.pth"]


def test_another_network_under_the_name_is_refused(store: Path, mirror: Site) -> None:
    mirror.files["stcn.pth"] = mirror.files["propagation_model.pth"]
    with pytest.raises(ModelError, match="holds a propagation network, but stcn is propagation-stcn"):
        models.download(["stcn"], base_url=mirror.url)
    assert names(store) == set()


def test_garbage_from_the_server_is_refused(store: Path, mirror: Site) -> None:
    mirror.files["fusion.pth"] = b"certainly not weights"
    with pytest.raises(ModelError, match="neither"):
        models.download(["fusion"], base_url=mirror.url)
    assert names(store) == set()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_hash_is_recorded_as_sha256sum_does(store: Path, mirror: Site) -> None:
    (arrival,) = models.download(["fusion"], base_url=mirror.url)
    assert arrival.sha256 == hashlib.sha256(mirror.files["fusion.pth"]).hexdigest()
    checked = subprocess.run(["sha256sum", "-c", "fusion.pth.sha256"], cwd=store, capture_output=True, text=True)
    assert checked.stdout == "fusion.pth: OK\n"


def test_later_damage_is_found(store: Path, mirror: Site, tmp_path: Path) -> None:
    models.download(models.needed("mivos"), base_url=mirror.url)
    (store / "fusion.pth").write_bytes(save_weights(tmp_path / "other.pth", "fusion", 9.0))
    (store / "s2m.pth").write_bytes(mirror.files["s2m.pth"][:-100])
    problems = {result.name: result.problem for result in models.verify()}
    assert problems["propagation"] is None
    assert "has changed" in (problems["fusion"] or "") and problems["s2m"]
    assert models.verify(["propagation"])[0].problem is None
    assert models.verify(["fusion"])[0].problem, "checking must not record the changed file's hash"


def test_a_file_put_there_by_hand_is_recorded_once_it_is_sound(store: Path) -> None:
    store.mkdir()
    save_weights(store / "fusion.pth", "fusion")
    assert models.verify(["fusion"])[0].problem is None
    save_weights(store / "fusion.pth", "fusion", 1.0)
    assert models.verify(["fusion"])[0].problem


@pytest.mark.parametrize(
    ("file", "network", "name"),
    [
        ("mine.pth", "s2m", "s2m"),
        ("mine.pth", "propagation", "propagation"),
        ("mine.pth", "propagation-stcn", "stcn"),
        ("stcn_s03.pth", "propagation-stcn", "stcn-s03"),
        ("fusion.pth", "fusion", "fusion"),
        ("fusion_stcn.pth", "fusion", "fusion-stcn"),
    ],
)
def test_import_recognises(store: Path, tmp_path: Path, file: str, network: str, name: str) -> None:
    content = save_weights(tmp_path / file, network)
    arrival = models.import_file(tmp_path / file)
    assert (arrival.name, arrival.fresh) == (name, True)
    assert models.path(name).read_bytes() == content
    assert models.verify([name])[0].problem is None
    assert models.import_file(tmp_path / file).fresh is False


def test_an_ambiguous_file_needs_a_name(store: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "weights.pth", "fusion")
    with pytest.raises(UsageError, match="can be fusion or fusion-stcn") as failure:
        models.import_file(tmp_path / "weights.pth")
    assert "--as" in (failure.value.hint or "")
    assert models.import_file(tmp_path / "weights.pth", "fusion-stcn").name == "fusion-stcn"
    assert models.installed("mivos-stcn", "fusion") == store / "fusion_stcn.pth"
    assert models.installed("mivos", "fusion") is None


def test_import_replaces_only_by_force(store: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "fusion.pth", "fusion")
    models.import_file(tmp_path / "fusion.pth")
    content = save_weights(tmp_path / "fusion.pth", "fusion", 1.0)
    with pytest.raises(OutputExistsError, match="already installed"):
        models.import_file(tmp_path / "fusion.pth")
    models.import_file(tmp_path / "fusion.pth", force=True)
    assert models.path("fusion").read_bytes() == content and models.verify()[0].problem is None


def test_import_of_a_training_checkpoint_and_of_safetensors(store: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "bare.pth", "fusion")
    state = {key: value.contiguous() for key, value in read_checkpoint(tmp_path / "bare.pth").items()}
    wrapped = {"it": 5, "network": {f"module.{key}": value for key, value in state.items()}}
    torch.save(wrapped, tmp_path / "fusion.pth")
    models.import_file(tmp_path / "fusion.pth")
    assert read_checkpoint(models.path("fusion")).keys() == state.keys()
    save_file(state, tmp_path / "fusion.safetensors")
    models.import_file(tmp_path / "fusion.safetensors", force=True)
    assert names(store) == {"fusion.safetensors", "fusion.safetensors.sha256"}
    assert models.installed("mivos", "fusion") == store / "fusion.safetensors"


def test_import_under_a_wrong_name(store: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "s2m.pth", "s2m")
    with pytest.raises(ModelError, match="holds a s2m network, but stcn is propagation-stcn"):
        models.import_file(tmp_path / "s2m.pth", "stcn")
    with pytest.raises(ModelError, match="cannot be read"):
        models.import_file(tmp_path / "none.pth")
    assert not store.exists()


def test_names_and_absence(store: Path) -> None:
    for call in (models.path, lambda name: models.download([name]), lambda name: models.verify([name])):
        with pytest.raises(UsageError, match="unknown checkpoint 'nano'"):
            call("nano")
    with pytest.raises(ModelError, match="s2m is not installed") as failure:
        models.path("s2m")
    assert failure.value.hint == "mivos models download s2m"
    with pytest.raises(ModelError, match="no direct address") as failure:
        models.download(["stcn-s0"])
    assert "releases/tag/1.0" in (failure.value.hint or "") and "--as stcn-s0" in (failure.value.hint or "")
    with pytest.raises(UsageError, match="needs no checkpoints"):
        models.needed("nano")
    assert models.installed("nano", "s2m") is None and models.verify() == ()
