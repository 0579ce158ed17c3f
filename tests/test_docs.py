"""What the pages refer to exists: settings, functions, files, links, options of the tools."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from tests.documented_commands import commands_of, problem_of

from duopose.config.compat import RENAMED_KEYS
from duopose.config.settings import SETTINGS

PROJECT = Path(__file__).resolve().parents[1]
PAGES = [
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    PROJECT / "data" / "README.md",
    PROJECT / "models" / "README.md",
    PROJECT / "experiments" / "README.md",
    *sorted((PROJECT / "docs").rglob("*.md")),
]
SECTIONS = "MODEL|DATASET|LOSS|TRAIN|TEST|FP16|CUDNN|DEBUG"
SETTING = re.compile(rf"\b(?:{SECTIONS})\.[A-Z][A-Z0-9_]*\b(?!\.\*)")
CODE = re.compile(r"`(duopose(?:\.\w+)+)`")
FILE = re.compile(
    r"\b(?:tools|tests|experiments|docs/examples|lib/duopose)/[\w/.-]+\.(?:py|yaml|sh)"
)
NAVIGATION = re.compile(r":\s+(\S+\.md)\s*$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")
ANCHOR = re.compile(r"\]\((?!https?:)([^)#]*)#([^)]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
OPTION = re.compile(r"tools/(\w+)\.py[^\n`|]*?(--[a-z-]+)")

pytestmark = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def test_settings_exist(page: Path) -> None:
    known = {*SETTINGS, *RENAMED_KEYS}
    used = set(SETTING.findall(prose(page)))
    assert {key for key in used - known if not key.startswith("MODEL.EXTRA")} == set()


def test_functions_exist(page: Path) -> None:
    for name in set(CODE.findall(page.read_text())):
        assert resolves(name), name


def test_files_exist(page: Path) -> None:
    named = {name for name in FILE.findall(prose(page)) if "*" not in name}
    assert [name for name in sorted(named) if not (PROJECT / name).exists()] == []


def test_links_lead_somewhere(page: Path) -> None:
    links = {link.strip() for link in LINK.findall(page.read_text())}
    assert [link for link in sorted(links) if not (page.parent / link).exists()] == []


def test_anchors_lead_to_headings(page: Path) -> None:
    for link, anchor in set(ANCHOR.findall(page.read_text())):
        target = (page.parent / link) if link else page
        assert anchor in anchors(target), f"{link}#{anchor}"


def test_pages_are_in_the_navigation(page: Path) -> None:
    if page.is_relative_to(PROJECT / "docs"):
        listed = NAVIGATION.findall((PROJECT / "mkdocs.yml").read_text())
        name = page.relative_to(PROJECT / "docs").as_posix()
        assert name in listed, f"add docs/{name} to nav of mkdocs.yml"


def test_tools_have_the_options(page: Path) -> None:
    for tool, option in set(OPTION.findall(page.read_text())):
        text = (PROJECT / "tools" / f"{tool}.py").read_text()
        assert option in text or tool == "benchmark", f"{tool} {option}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings: lower case, words joined by hyphens, no other signs."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text)]
    return {heading.replace(" ", "-") for heading in plain}


def test_commands_are_accepted(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools, options, settings and yaml files of every command, by the tools' own parsers."""
    problems = {}
    for name, words in commands_of(page.read_text()):
        problem = problem_of(name, words, monkeypatch)
        if problem:
            problems[" ".join([name, *words])] = problem
    assert problems == {}


def test_wrong_commands_are_refused(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail."""
    text = page.read_text()
    wrong = {
        "python tools/no_such_tool.py": "no tool",
        "python tools/valid.py --no-such-option": "parser",
        "python tools/valid.py --cfg X TEST.NO_SUCH_KEY 1": "no such setting",
        "python tools/valid.py --cfg X TEST.PROTOCOL never": "not allowed",
        "python tools/dist_train.py --cfg experiments/none.yaml": "experiments/none.yaml",
        "python tools/study.py no-such-command": "parser",
    }
    for command, reason in wrong.items():
        ((name, words),) = commands_of(f"{command}  # comment")
        assert command not in text and reason in problem_of(name, words, monkeypatch)


def prose(page: Path) -> str:
    """A page without Python code and the files that its examples create."""
    text = re.sub(r"```python.*?```", "", page.read_text(), flags=re.DOTALL)
    return re.sub(r"Create `[^`]+`", "", text)


def resolves(name: str) -> bool:
    """Whether `duopose.a.b` is a module, or an attribute of one."""
    try:
        importlib.import_module(name)
        return True
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return hasattr(importlib.import_module(module), attribute)
