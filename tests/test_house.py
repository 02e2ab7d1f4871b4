"""The house keeps its order: who may import whom, and nothing impure in the core."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "ringwise"

IMPURE = {"asyncio", "os", "select", "selectors", "socket", "subprocess", "threading", "time", "uvloop", "secrets"}
ALLOWED = {
    "wire": {"wire"},
    "core": {"core", "wire"},
    "server": {"server", "core", "wire"},
    "storage": {"storage", "core"},
    "client": {"client"},
    "sim": {"sim", "server", "storage", "core", "wire"},
    "runtime": {"runtime", "server", "storage", "core", "wire"},
}


def imports(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return names


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_from_below(room: str) -> None:
    for file in sorted((SOURCE / room).rglob("*.py")):
        rooms = {name.split(".")[1] for name in imports(file) if name.startswith("ringwise.")}
        assert rooms <= ALLOWED[room] | {"__version__"}, file.name


def test_only_the_shell_knows_the_http_library() -> None:
    for file in sorted(SOURCE.rglob("*.py")):
        if any(name.split(".")[0] == "aiohttp" for name in imports(file)):
            assert file.relative_to(SOURCE).parts[0] == "runtime", file


@pytest.mark.parametrize("room", ["core", "wire"])
def test_what_is_pure_stays_pure(room: str) -> None:
    for file in sorted((SOURCE / room).rglob("*.py")):
        names = {name.split(".")[0] for name in imports(file)}
        assert not names & IMPURE, file.name
        tree = ast.parse(file.read_text())
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not {
            call for call in calls if call == "hash" or (call.startswith("random.") and call != "random.Random")
        }
