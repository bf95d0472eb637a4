"""Manifests: what rows mean, and messages that name file, line and column."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stores import manifest
from stores.errors import UsageError
from stores.manifest import read_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "frames").mkdir()
    for name in ("a.mp4", "b.mov", "s.json", "m.png", "w.pth", "A.MP4", "report.json"):
        (tmp_path / name).touch()
    return tmp_path


def rows(folder: Path, text: str | bytes, name: str = "list.csv") -> list[manifest.Item]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_manifest(path)


def problem(folder: Path, text: str | bytes, name: str = "list.csv") -> str:
    with pytest.raises(UsageError) as error:
        rows(folder, text, name)
    assert error.value.hint and "\n" not in str(error.value) and str(folder / name) in str(error.value)
    return str(error.value).replace(str(folder / name), "FILE")


def test_csv(folder: Path) -> None:
    text = (
        "video, scribbles, masks, name, size, snap, model, checkpoint, format\r\n"
        "a.mp4,s.json,,,,,,,\r\n\r\n"
        f'"{folder}/frames",,m.png,"two ""and"" a half",240,Yes,mivos,w.pth;w.pth,"png; overlay"\r\n'
    )
    first, second = rows(folder, b"\xef\xbb\xbf" + text.encode())
    assert (first.name, first.video, first.scribbles, first.masks) == ("a", folder / "a.mp4", folder / "s.json", None)
    assert first.options == {} and (first.line, second.line) == (2, 4)
    assert (second.name, second.video, second.masks) == ('two "and" a half', folder / "frames", folder / "m.png")
    assert second.options == {
        "size": 240, "snap": True, "model": "mivos", "checkpoint": (folder / "w.pth",) * 2,
        "format": ("png", "overlay"),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["list.jsonl", "list.txt"])
def test_json_lines(folder: Path, name: str) -> None:
    lines = [
        {"video": "frames", "masks": "m.png", "size": 0, "snap": False, "format": ["png"], "fusion": None},
        {"video": "b.mov", "scribbles": "s.json", "name": "x", "fusion": "off", "precision": "bfloat16"},
    ]
    first, second = rows(folder, "\n".join(["", *map(json.dumps, lines), ""]), name)
    assert (first.name, first.options) == ("frames", {"size": 0, "snap": False, "format": ("png",)})
    assert (second.name, second.options) == ("x", {"fusion": "off", "precision": "bfloat16"})
    assert (first.line, second.line) == (2, 3)


HEAD = "video,scribbles,name,size,snap\n"
WRONG = {
    "": "FILE: has no rows",
    "video,scribbles\n": "FILE: has no rows",
    "name,size\n": "FILE, line 1: the header lacks the column video",
    "video,colour\n": "FILE, line 1: unknown column 'colour'",
    "video,video\n": "FILE, line 1: column video is given twice",
    HEAD + "a.mp4,s.json,,,\n,s.json,,,\n": "FILE, line 3, column video: is missing",
    HEAD + "a.mp4,,,,\n": "FILE, line 2, column scribbles: a row needs either scribbles or masks, neither is given",
    "video,scribbles,masks\na.mp4,s.json,m.png\n": "column scribbles: a row needs either scribbles or masks, both",
    HEAD + "no.mp4,s.json,,,\n": "no.mp4 does not exist",
    HEAD + "a.mp4,s.json,,12.5,\n": "FILE, line 2, column size: '12.5' is no number of pixels, 0..99999",
    HEAD + "a.mp4,s.json,,-1,\n": "column size: '-1' is no number",
    HEAD + "a.mp4,s.json,,,maybe\n": "FILE, line 2, column snap: 'maybe' is neither true nor false",
    HEAD + "a.mp4,s.json,../x,,\n": "FILE, line 2, column name: '../x' is not a plain name",
    HEAD + "a.mp4,s.json,.x,,\n": "'.x' is not a plain name",
    HEAD + 'a.mp4,s.json,"x\ny",,\n': "FILE, line 2, column name: 'x\\ny' is not a plain name",
    HEAD + "a.mp4,s.json,REPORT-1-of-2.json,,\n": "is the name of the report",
    HEAD + "a.mp4,s.json,,,,,\n": "FILE, line 2: has 7 cells, the header 5",
    HEAD + 'a.mp4,"s.json\n': "is not CSV: unexpected end of data",
    HEAD + 'a.mp4,"s".json\n': "FILE, line 2: is not CSV: ',' expected after '\"'",
    HEAD + "a.mp4,s.json,,,\nA.MP4,s.json,,,\n": "FILE, line 3, column name: 'A' is taken by line 2",
    HEAD + "a.mp4,s.json,caf\u00e9,,\nb.mov,s.json,CAFE\u0301,,\n": "is taken by line 2",
    HEAD + f"{'x' * 5000},s.json,,,\n": "FILE, line 2, column video: has more than 4096 characters",
    HEAD + f"{'x' * 200_000},s.json,,,\n": "FILE, line 2: is not CSV: field larger than field limit",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_wrong_csv(folder: Path, text: str) -> None:
    assert WRONG[text] in problem(folder, text)


WRONG_JSON = {
    "[1]": "FILE, line 1: is no JSON object",
    "7": "FILE, line 1: is no JSON object",
    '{"video": "a.mp4"': "FILE, line 1: is not JSON",
    '\n{"video": NaN}': "FILE, line 2: is not JSON: NaN is no JSON value",
    "[" * 100_000: "FILE, line 1: is not JSON: nested too deeply",
    '{"video": "a.mp4", "video": "b.mov"}': "FILE, line 1: column video is given twice",
    '{"video": "a.mp4", "colour": 1}': "FILE, line 1: unknown column 'colour'",
    '{"video": ["a.mp4"], "masks": "m.png"}': "FILE, line 1, column video: is no text",
    '{"video": "a.mp4", "masks": {"a": 1}}': "FILE, line 1, column masks: is no text",
    '{"video": "a.mp4", "masks": "m.png", "format": 3}': "column format: is no list of texts",
    '{"video": "a.mp4", "masks": "m.png", "format": [3]}': "column format: is no text",
    '{"video": "a.mp4", "masks": "m.png", "size": true}': "column size: 'True' is no number",
    '{"video": "a\\u0000.mp4", "masks": "m.png"}': "column video:",
    '{"video": "a.mp4", "masks": "m.png", "size": ' + "9" * 5000 + "}": "FILE, line 1: is not JSON",
    '{"video": "a.mp4", "masks": "m.png", "name": "\\ud800"}': "is not a plain name",
}


@pytest.mark.parametrize("text", WRONG_JSON, ids=range(len(WRONG_JSON)))
def test_wrong_json(folder: Path, text: str) -> None:
    assert WRONG_JSON[text] in problem(folder, text, "list.jsonl")


def test_limits_and_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problem(folder, b"video\n\xff\n") == "FILE, line 2: is not UTF-8 text"
    assert problem(folder, b"video\n\nx\0y\n") == "FILE, line 3: holds a NUL byte"
    many = "".join(f'{{"video": "a.mp4", "masks": "m.png", "name": "{k}"}}\n' for k in range(4))
    monkeypatch.setattr(manifest, "MAX_ROWS", 3)
    assert problem(folder, many, "m.jsonl") == "FILE, line 4: there are more than 3 rows"
    monkeypatch.setattr(manifest, "MAX_BYTES", 10)
    assert "is larger than" in problem(folder, many, "m.jsonl")
    with pytest.raises(UsageError, match="cannot be read"):
        read_manifest(folder / "nothing.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        read_manifest(folder)
