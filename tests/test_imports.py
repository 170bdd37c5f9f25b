"""Who may import whom: no import runs up a floor, and what is to start quickly does not wait for torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

import ssdcam
from ssdcam.detection.no_reports import REPORTING

from . import pictures

ROOT = Path(ssdcam.__file__).parent

# Ground up. A room may import rooms of lower floors, and itself.
FLOORS = [
    {"control_groups"},
    {"addresses", "avif", "errors", "files", "detections", "json_fields", "weights", "cache", "notes", "memory", "cpu"},
    {"ssd", "plotting"},
    {"records", "checkpoints"},
    {"detection"},
    {"media"},
    {"pipeline"},
    {"benchmarking", "diagnosis"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# They stand beside media and pipeline: on what lies below those, and only cli stands on them.
LEARNING = {"datasets", "training", "evaluation", "exporting"}
BELOW_LEARNING = {room for room, floor in FLOOR.items() if floor <= FLOOR["detection"]}


def modules() -> dict[str, Path]:
    """All modules of the package by name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """The names that a module imports anywhere in it: in functions and for type checkers too."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "import_module",
            "__import__",
        ):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def room(name: str) -> str | None:
    """The room that a name of ours belongs to; None for others' and for facts about the package itself."""
    first, *rest = name.split(".")
    if first != "ssdcam" or not rest or rest[0] == "__version__":
        return None
    home = ssdcam._HOMES.get(rest[0])  # the public names live somewhere
    return home.split(".")[1] if home else rest[0]


def may_import(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    if importer in LEARNING:
        return imported in BELOW_LEARNING | LEARNING
    if imported in LEARNING:
        return importer == "cli"
    return FLOOR[imported] < FLOOR[importer] or {importer, imported} == {"errors", "files"}


def test_every_room_has_its_floor() -> None:
    assert {room(name) for name in MODULES} - {None} <= FLOOR.keys() | LEARNING


@pytest.mark.parametrize("name", [name for name in MODULES if room(name)])
def test_no_import_runs_up(name: str) -> None:
    importer = room(name)
    assert importer
    up = {imported for imported in imports(name) if (other := room(imported)) and not may_import(importer, other)}
    assert not up


def test_the_public_names_are_imported_when_used() -> None:
    done = run("import ssdcam; print(ssdcam.__all__)")
    assert "torch" not in done
    assert "cv2" not in done
    for name in ssdcam.__all__:
        assert getattr(ssdcam, name) is not None
        assert name in dir(ssdcam)
    with pytest.raises(AttributeError, match="has no attribute 'nosuch'"):
        _ = ssdcam.nosuch


@pytest.mark.parametrize("name", MODULES)
def test_one_module_imports_pyav(name: str) -> None:
    # In it, OpenCV comes first: in the other order a window hangs.
    if name != "ssdcam.media.av":
        assert not {imported for imported in imports(name) if imported.partition(".")[0] == "av"}


@pytest.mark.parametrize("name", MODULES)
def test_what_reports_to_its_makers_is_imported_quietly(name: str) -> None:
    # For type checkers it may be named.
    tree = ast.parse(MODULES[name].read_text("utf-8"))
    unread = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node not in unread and isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not {imported.partition(".")[0] for imported in names} & set(REPORTING)


def run(script: str) -> set[str]:
    """Names of the modules that a script loads."""
    script += "\nimport sys; print('MODULES', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("MODULES")[2].split())


IN_TORCH = (
    "torch_engine",
    "cuda_graphs",
    "cuda_kernels",
    "fusing",
    "nvrtc",
    "pixel_network",
    "quantise_backbone",
    "winograd",
)

# Engines other than torch, and whoever only reads records, do without it.
WITHOUT_TORCH = [
    name
    for name in MODULES
    if (
        name.startswith(("ssdcam.checkpoints", "ssdcam.records", "ssdcam.detection"))
        and name not in {f"ssdcam.detection.{own}" for own in IN_TORCH}
    )
    or name
    in {
        "ssdcam.ssd.box_clusters",
        "ssdcam.ssd.default_boxes",
        "ssdcam.ssd.spec",
        "ssdcam.ssd.host",
        "ssdcam.media.images",
    }
]


def test_what_does_without_torch() -> None:
    loaded = run("\n".join(f"import {name}" for name in WITHOUT_TORCH))
    assert set(WITHOUT_TORCH) <= loaded
    assert "torch" not in loaded


def test_pictures_do_without_pyav(tiny_model: Path, tmp_path: Path) -> None:
    """From the beginning to the end of a command: much is imported only when it is used."""
    photo, out = pictures.photo(tmp_path / "a.jpg"), tmp_path / "out"
    arguments = ["image", photo, "-m", tiny_model, "-o", out, "--crops", out, "--records", tmp_path / "r.json"]
    loaded = run(
        "from importlib import import_module\n"
        f"assert import_module('ssdcam.cli.command_line').run({[str(argument) for argument in arguments]}) == 0"
    )
    assert (out / "a.jpg").exists()
    assert "cv2" in loaded
    assert "av" not in loaded


def test_doctor_does_without_what_it_looks_at() -> None:
    loaded = run(
        "from ssdcam.cli import doctor, options\nfrom ssdcam.diagnosis.checks import checks, run_checks\n"
        "list(run_checks(checks(options.ENGINES)[2:4]))"
    )
    assert "ssdcam.diagnosis.checks" in loaded
    assert not loaded & {"torch", "cv2", "av", "numpy", "openvino"}
