"""The page's files without a browser: nothing foreign, nothing missing, one table of keys."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[3] / "mivos_cli" / "gui" / "static"
INDEX = STATIC / "index.html"
MODULES = sorted((STATIC / "js").glob("*.js"))
STYLES = sorted((STATIC / "css").glob("*.css"))
FILES = [INDEX, *MODULES, *STYLES, *sorted(STATIC.glob("*.svg"))]
NAMESPACES = {"http://www.w3.org/2000/svg"}  # a name, not an address
IMPORT = re.compile(r"""(?:import|export)\s(?:[^"';]*?\sfrom\s)?["']([^"']+)["']""")
NODE = shutil.which("node")


class Page(HTMLParser):
    """Collects every element of a page as (tag, attributes), and the text inside of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self.comments: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("script", "style") and data.strip():
            self.inline.append(data.strip())

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def all(self, attribute: str) -> list[str]:
        return [attributes[attribute] or "" for _, attributes in self.elements if attribute in attributes]


@pytest.fixture(scope="module")
def page() -> Page:
    parsed = Page()
    parsed.feed(INDEX.read_text(encoding="utf-8"))
    return parsed


def script(name: str) -> str:
    return (STATIC / "js" / f"{name}.js").read_text(encoding="utf-8")


def all_scripts() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in MODULES)


def between(name: str, start: str, end: str) -> str:
    """A table in a module."""
    text = script(name)
    begin = text.index(start) + len(start)
    return text[begin : text.index(end, begin)]


def tools() -> set[str]:
    return set(re.findall(r'\bid: "(\w+)"', between("tools", "const TOOLS = [", "\n];")))


def modes() -> set[str]:
    return set(re.findall(r'"(\w+)"', between("page", "MODES = [", "]")))


def directions() -> set[str]:
    return set(re.findall(r"^  (\w+): \[", between("propagation", "const DIRECTIONS = {", "\n};"), re.MULTILINE))


def test_every_file_that_the_page_names_is_there(page: Page) -> None:
    named = [*page.all("href"), *page.all("src")]
    assert len(named) >= 4
    assert [name for name in named if not (STATIC / name).is_file()] == []
    # under a prefix, as forwarded by a notebook server, an absolute address would miss the server
    assert [name for name in named if name.startswith("/")] == []


def test_every_import_is_there_and_every_module_is_imported() -> None:
    imported = {"main.js", "theme.js"}  # named by the page
    for path in MODULES:
        for name in IMPORT.findall(path.read_text(encoding="utf-8")):
            assert name.startswith("./"), f"{path.name} imports {name}"
            assert (path.parent / name).is_file(), f"{path.name} imports {name}"
            imported.add(Path(name).name)
    assert imported == {path.name for path in MODULES}


def test_what_is_imported_is_exported() -> None:
    for path in MODULES:
        for names, source in re.findall(
            r'import\s+\{([^}]+)\}\s+from\s+"\./([\w.]+)"', path.read_text(encoding="utf-8")
        ):
            text = (path.parent / source).read_text(encoding="utf-8")
            exported = set(re.findall(r"export\s+(?:async\s+)?(?:function|const|let|class)\s+(\w+)", text))
            wanted = {name.split(" as ")[0].strip() for name in names.split(",") if name.strip()}
            assert wanted <= exported, f"{path.name} wants {wanted - exported} of {source}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_comes_from_other_hosts(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"\bhttps?://[^\s\"'`)]+", text)) <= NAMESPACES
    assert not re.search(r"""["'(=]\s*//[\w.-]+\.\w""", text)  # an address without a scheme
    assert "@import" not in text


def test_the_page_has_nothing_inline(page: Page) -> None:
    """The content security policy would refuse it, without a word to the person."""
    assert page.inline == []
    assert page.all("style") == []
    handlers = [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert handlers == []


def test_scripts_write_no_markup() -> None:
    for path in MODULES:
        text = re.sub(r"//.*|/\*[\s\S]*?\*/", "", path.read_text(encoding="utf-8"))
        found = re.findall(
            r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|eval|document\.write)\b|\bnew Function\b", text
        )
        assert found == [], path.name
        assert 'setAttribute("style"' not in text, path.name


@pytest.mark.skipif(NODE is None, reason="no node here to parse JavaScript")
@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_module_parses(path: Path) -> None:
    command = [str(NODE), "--input-type=module", "--check"]
    done = subprocess.run(command, input=path.read_text(encoding="utf-8"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_icons_that_are_named_are_drawn(page: Page) -> None:
    drawn = set(re.findall(r'<symbol id="icon-([\w-]+)"', (STATIC / "icons.svg").read_text(encoding="utf-8")))
    named = set(page.all("data-icon")) | set(re.findall(r'\bicon(?::|\()\s*"([\w-]+)"', all_scripts()))
    named |= set(re.findall(r'\bbutton\("[\w-]+", "([\w-]+)"', script("play")))
    named |= tools() | modes() | directions()  # have icons of their names
    assert len(named) > 40
    assert named - drawn == set()


def test_ids_that_scripts_look_up_exist(page: Page) -> None:
    """Those of the page, and those that scripts give to what they make."""
    scripts = all_scripts()
    made = set(re.findall(r'\bid: "([\w-]+)"', scripts)) | set(re.findall(r'button\("([\w-]+)"', scripts))
    looked_up = set(re.findall(r'byId\("([\w-]+)"\)', scripts)) | set(
        re.findall(r'startMenu\("([\w-]+)", "([\w-]+)"', scripts)[0]
    )
    assert looked_up - set(page.all("id")) - made == set()
    assert len(page.all("id")) == len(set(page.all("id")))


def test_names_for_tests_exist(page: Page) -> None:
    """The list at the top of index.html is what tests may rely on."""
    listed = set()
    for line in page.comments[0].split("Made while running")[0].splitlines():
        if match := re.match(r"\s+(?:[\w ]+:)?\s+(.+)", line):
            listed |= set(re.findall(r"[a-z][a-z-]+", match[1]))
    assert len(listed) > 70
    scripts = all_scripts()
    made = set(page.all("data-testid")) | set(re.findall(r'(?:test|"data-testid"): "([\w-]+)"', scripts))
    made |= set(re.findall(r'\bbutton\("([\w-]+)"', scripts))  # of the transport
    made |= set(re.findall(r': \["([\w-]+)", "\w+", \w+\]', scripts))  # of a running job
    made |= {f"mode-{mode}" for mode in modes()} | {f"tool-{tool}" for tool in tools()}
    made |= {f"direction-{name}" for name in directions()}
    made |= {"cancel-job", "pause"} & set(re.findall(r'"([\w-]+)"', script("status")))
    assert listed - made == set()


# ---- keys


def keymap() -> list[dict[str, object]]:
    """The lines of the table, read by node."""
    if NODE is None:
        pytest.skip("no node here to read the table of keys")
    program = script("keymap") + "\nconsole.log(JSON.stringify(KEYMAP.flatMap((section) => section.lines)));"
    done = subprocess.run([NODE, "--input-type=module"], input=program, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines: list[dict[str, object]] = json.loads(done.stdout)
    return lines


def test_every_key_of_the_help_is_handled_and_every_handler_has_a_key() -> None:
    handled = set(re.findall(r"^  (\w+)[:,]", between("keys", "const ACTS = {", "\n};"), re.MULTILINE))
    assert {line["command"] for line in keymap() if "command" in line} == handled
    assert "KEYMAP" in script("help")  # the help prints the same table


def test_no_key_does_two_things() -> None:
    taken: dict[str, object] = {}
    for line in keymap():
        for key in line["keys"] if "command" in line else []:  # type: ignore[attr-defined]
            if key == "Enter" and "clickThere" in (line["command"], taken.get(key)):
                continue  # it clicks while the crosshair is out
            assert key not in taken, f"{key}: {taken[key]} and {line['command']}"
            taken[key] = line["command"]


def test_keys_in_tooltips_are_in_the_table(page: Page) -> None:
    known = {key for line in keymap() for key in line["keys"]} | {"Esc"}  # type: ignore[attr-defined]
    shown = set(page.all("data-key")) | set(re.findall(r'\bkey: "([^"]+)"', script("tools") + script("display")))
    shown |= set(re.findall(r'\bbutton\((?:"[^"]+", ){3}"([^"]+)"', script("play")))
    shown |= set(re.findall(r'dataset\.key = "([^"]+)"', all_scripts()))
    assert {"S", "M", "Ctrl+V", "P", "Home"} <= shown
    assert shown - known == set()


# ---- the server's side of it


def test_the_formats_of_the_export_are_those_of_the_command() -> None:
    from mivos_cli.options import OutputFormat

    table = between("exports", "const FORMATS = [", "\n];")
    assert set(re.findall(r'^  \["([\w-]+)"', table, re.MULTILINE)) == {format.value for format in OutputFormat}


def test_the_package_holds_the_page() -> None:
    """A wheel without the page would serve nothing."""
    import tomllib

    project = tomllib.loads((STATIC.parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"].get("mivos_cli.gui", [])
    packed = {path for pattern in patterns for path in STATIC.parent.glob(pattern) if path.is_file()}
    assert {path for path in STATIC.rglob("*") if path.is_file()} <= packed
