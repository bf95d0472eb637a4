"""`mivos models`: the commands on a real store, with a real server on loopback as the mirror."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mivos_cli.app import app
from mivos_cli.models import COMMANDS
from tests.mivos_cli.conftest import environment
from tests.pipelines.weight_files import save_weights
from tests.stores.web import Site, serve

runner = CliRunner()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIVOS_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("MIVOS_MODELS_URL", raising=False)
    return tmp_path / "store"


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Site]:
    with serve() as site:
        for file, network in (("s2m", "s2m"), ("stcn", "propagation-stcn"), ("fusion_stcn", "fusion")):
            site.files[f"{file}.pth"] = save_weights(tmp_path / "made.pth", network)
        yield site


@pytest.mark.parametrize("command", COMMANDS)
def test_help_json_and_verbose(command: str) -> None:
    result = runner.invoke(app, ["models", command, "-h"])
    assert result.exit_code == 0 and "--json" in result.stdout and "--verbose" in result.stdout


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom mivos_cli.app import app\n"
        "result = CliRunner().invoke(app, ['models', 'list'])\n"
        "print(result.exit_code, [m for m in ('torch', 'httpx', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.stdout.strip() == "0 []", done.stderr


def test_list(store: Path) -> None:
    result = runner.invoke(app, ["models", "list", "-v"])
    assert result.exit_code == 0, result.stderr
    assert "missing" in result.stdout and "GPL-3" in result.stdout and "SHA-256 unknown" in result.stdout
    assert "https://drive.google.com/file/d/1HKwklVey3P2jmmdmrACFlkXtcvNxbKMM/view" in result.stdout
    assert not store.exists(), "looking must not make the folder"


def test_download_verify_path_list(store: Path, mirror: Site) -> None:
    result = runner.invoke(app, ["models", "download", "--model", "mivos-stcn", "--from", mirror.url, "--json"])
    assert result.exit_code == 0, result.stderr
    arrivals = {entry["name"]: entry for entry in json.loads(result.stdout)["checkpoints"]}
    assert arrivals.keys() == {"s2m", "stcn", "fusion-stcn"} and arrivals["stcn"]["fresh"] is True

    result = runner.invoke(app, ["models", "path", "stcn"])
    assert result.stdout == f"{store / 'stcn.pth'}\n"

    result = runner.invoke(app, ["models", "list", "--json"])
    entries = {entry["name"]: entry for entry in json.loads(result.stdout)["checkpoints"]}
    assert entries["stcn"]["state"] == "installed" and entries["fusion"]["state"] == "missing"
    assert entries["stcn"]["recorded_sha256"] == arrivals["stcn"]["sha256"] and entries["stcn"]["sha256"] is None

    result = runner.invoke(app, ["models", "verify"])
    assert result.exit_code == 0 and result.stdout.splitlines() == ["s2m: sound", "stcn: sound", "fusion-stcn: sound"]

    (store / "s2m.pth").write_bytes(b"PK\x03\x04 damaged")
    result = runner.invoke(app, ["models", "verify", "s2m", "stcn", "--json"])
    assert result.exit_code == 1 and "error: damaged: s2m" in result.stderr
    assert [bool(entry["problem"]) for entry in json.loads(result.stdout)["checkpoints"]] == [True, False]


def test_import(store: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "weights.pth", "fusion")
    result = runner.invoke(app, ["models", "import", str(tmp_path / "weights.pth")])
    assert (result.exit_code, result.stdout) == (2, "") and "--as" in result.stderr
    result = runner.invoke(app, ["models", "import", str(tmp_path / "weights.pth"), "--as", "fusion"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"fusion (new): {store / 'fusion.pth'}\n"


def test_failures(mirror: Site) -> None:
    result = runner.invoke(app, ["models", "download"])
    assert (result.exit_code, result.stdout) == (2, "") and "--model mivos" in result.stderr
    result = runner.invoke(app, ["models", "download", "fusion", "--from", mirror.url])
    assert (result.exit_code, result.stdout) == (1, "") and "404" in result.stderr
    assert len(result.stderr.splitlines()) == 2
    result = runner.invoke(app, ["models", "path", "s2m"])
    assert (result.exit_code, result.stdout) == (1, "") and "mivos models download s2m" in result.stderr
    result = runner.invoke(app, ["models", "verify"])
    assert result.exit_code == 0 and "nothing is installed" in result.stdout
