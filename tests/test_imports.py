"""Imports go one way, so that each part can be read without those that use it. Read from the sources: also an import
inside a function, or for a type checker alone, makes one part know another."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mrcnn"

# From the lowest: a module imports from its own line and those before it. A package stands for all of its modules.
ROOMS = (
    ("errors", "settings", "processor", "coco_names"),
    ("files",),
    ("validation",),
    ("pictures",),
    ("video",),
    ("ops",),
    ("sampling",),
    ("fused_conv", "layers"),
    ("boxes", "anchors", "images", "backbone"),
    ("rpn",),
    ("box_head",),
    ("roi_heads",),
    ("mask_head", "keypoint_head"),
    ("model",),
    ("detectron2", "weights", "model_file", "zoo"),
    ("data",),
    ("export",),
    ("visualize", "visualize_evaluation"),
    ("engine",),
    ("cli", "cli_options", "__main__", "__init__", "pretrained"),
    ("lab",),  # above all: only lessons import it
)
RANKS = {name: rank for rank, room in enumerate(ROOMS) for name in room}
SOURCES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def rank(module: str) -> int:
    return RANKS[module.partition(".")[0]]


def imports(module: str) -> Iterator[str]:
    """The modules of mrcnn that a module imports, by their names in it: "data.coco" is mrcnn/data/coco.py."""
    path = SOURCES[module]
    package = ["mrcnn", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            names = [".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names]
        else:
            continue
        yield from (found for found in map(module_of, names) if found not in (None, module))


def module_of(name: str) -> str | None:
    """The module that a dotted name is or comes from; None for one of another package."""
    if name.partition(".")[0] != "mrcnn":
        return None
    inside = name.removeprefix("mrcnn").removeprefix(".")
    while inside and inside not in SOURCES:
        inside = inside.rpartition(".")[0]
    return inside or "__init__"


def test_every_module_has_its_place():
    unknown = [module for module in SOURCES if module.partition(".")[0] not in RANKS]
    assert not unknown, "put them into ROOMS, where they belong"


@pytest.mark.parametrize("module", SOURCES)
def test_no_import_goes_upwards(module):
    upwards = [each for each in imports(module) if rank(each) > rank(module)]
    assert not upwards


def test_no_import_goes_in_a_circle():
    graph = {module: set(imports(module)) for module in SOURCES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" is imported by ".join(error.args[1]))
