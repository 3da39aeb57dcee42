"""Imports go one way: lower rooms know nothing of upper ones, and no two modules import each other.

The source is parsed, so that imports inside functions count too; those under ``TYPE_CHECKING`` do
not, as nothing is imported there when the program runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREES = {
    "causalmmm": "python/causalmmm",
    "causalmmm.engine": "engine",
    "causalmmm.kernels": "kernels",
}

# From the bottom up: a room imports from itself and from those before it, never from a later one.
ORDER = (
    *("findings", "extras", "files", "dates"),
    *("data", "config", "simulation", "inference", "evaluation", "plots", "decisions"),
    *("runtime", "scoring", "serving", "tracking", "model", "report", "cli"),
)
BELOW = ("engine", "kernels", "_C")  # of these any room may import
TORCH_FREE = ("data", "inference", "runtime", "scoring", "serving")


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for package, folder in TREES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "python/causalmmm" and parts[0] in ("engine", "kernels"):
                continue  # links to the trees beside it
            name = ".".join([package, *parts]).removesuffix(".__init__")
            found[name] = path
    return found


@cache
def public_names() -> dict[str, str]:
    """``causalmmm.X`` -> the module that ``causalmmm.__getattr__`` imports for it."""
    for node in ast.parse(modules()["causalmmm"].read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME":
            return {k: f"causalmmm.{v}" for k, v in ast.literal_eval(node.value).items()}
    raise AssertionError("causalmmm has no table _HOME")


@cache
def imports(name: str) -> frozenset[str]:
    """Modules of the package, and top-level names of other packages, that a module imports."""
    found = set()
    for node in run_time_nodes(ast.parse(modules()[name].read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.add(alias.name if alias.name in modules() else alias.name.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            assert node.module is not None
            for alias in node.names:
                found.add(resolve(node.module, alias.name))
    return frozenset(found - {name})


def resolve(module: str, attribute: str) -> str:
    if not (module == "causalmmm" or module.startswith("causalmmm.")):
        return module.split(".")[0]
    inner = f"{module}.{attribute}"
    if inner in modules() or inner == "causalmmm._C":
        return inner
    return public_names().get(attribute, module) if module == "causalmmm" else module


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a tree without the bodies of ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for other in child.orelse:
                yield from (other, *run_time_nodes(other))
            continue
        yield child
        yield from run_time_nodes(child)


def room(module: str) -> str:
    """``data`` for ``causalmmm.data.panel``."""
    return module.split(".")[1] if "." in module else ""


def ours(module: str) -> bool:
    return module == "causalmmm" or module.startswith("causalmmm.")


def everything_imported(start: str) -> dict[str, tuple[str, ...]]:
    """All that a module imports, directly or through others, each with the way to it."""
    ways: dict[str, tuple[str, ...]] = {start: (start,)}
    queue = [start]
    while queue:
        name = queue.pop()
        for target in sorted(imports(name)) if name in modules() else ():
            if target not in ways:
                ways[target] = (*ways[name], target)
                queue.append(target)
    del ways[start]
    return ways


def test_the_parser_sees_every_kind_of_import() -> None:
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import a\nelse:\n    import b\n"
        "def f():\n    import c\n    with x:\n        from d import e\n"
    )
    seen = [
        ast.unparse(n) for n in run_time_nodes(tree) if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    assert seen == ["from typing import TYPE_CHECKING", "import b", "import c", "from d import e"]
    assert "causalmmm.data.readers" in imports("causalmmm.data.plan")
    assert resolve("causalmmm", "Panel") == "causalmmm.data.panel"


def test_no_modules_import_each_other() -> None:
    circles = set()
    for name in modules():
        back = [everything_imported(t).get(name) for t in imports(name) if t in modules()]
        circles |= {frozenset(way) for way in back if way is not None}
    assert not circles, [sorted(circle) for circle in circles]


def test_every_module_has_its_place_in_the_order() -> None:
    rooms = {room(name) for name in modules() if name != "causalmmm"}
    assert rooms == {*ORDER, "engine", "kernels"}


@pytest.mark.parametrize("name", ORDER)
def test_no_room_imports_an_upper_one(name: str) -> None:
    allowed = {*ORDER[: ORDER.index(name) + 1], *BELOW}
    upward = {
        f"{module} -> {target}"
        for module in modules()
        if room(module) == name
        for target in imports(module)
        if ours(target) and room(target) not in allowed
    }
    assert not upward, sorted(upward)


@pytest.mark.parametrize(
    ("tree", "allowed"), [("engine", {"engine", "kernels", "_C"}), ("kernels", {"kernels", "_C"})]
)
def test_the_engine_and_its_kernels_know_nothing_above_them(tree: str, allowed: set[str]) -> None:
    upward = {
        f"{module} -> {target}"
        for module in modules()
        if room(module) == tree
        for target in imports(module)
        if ours(target) and room(target) not in allowed
    }
    assert not upward, sorted(upward)


@pytest.mark.parametrize("name", TORCH_FREE)
def test_what_runs_without_torch_imports_neither_it_nor_the_torch_model(name: str) -> None:
    ways = set()
    for module in modules():
        if room(module) == name:
            for target, way in everything_imported(module).items():
                if target == "torch" or room(target) == "model":
                    ways.add(" -> ".join(way))
    assert not ways, sorted(ways)


def test_the_package_itself_imports_only_on_first_use() -> None:
    assert {target for target in imports("causalmmm") if ours(target)} <= {"causalmmm.extras"}
