"""Which engine is started for what was asked."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from ssdcam.cli import console, options
from ssdcam.detection import engines
from ssdcam.detection.engines import AUTO, ENGINES, EngineName, PrecisionName, start
from ssdcam.errors import CheckpointError, UnavailableError, WrongUsageError
from ssdcam.notes import NOTE


class Here:
    """Engines that say what they were started with; as many as are installed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.failing: dict[str, Exception] = {}
        self.set(installed=list(ENGINES), places=["cpu"])
        monkeypatch.setattr(engines, "import_module", lambda _: SimpleNamespace(**{
            kind.home.partition(":")[2]: self._maker(name) for name, kind in ENGINES.items()
        }))  # fmt: skip

    def set(self, *, installed: list[str], places: list[str]) -> None:
        self.monkeypatch.setattr(engines, "find_spec", lambda name: name if name in installed else None)
        self.monkeypatch.setattr(engines, "_places", lambda: places)

    def _maker(self, name: str) -> Any:
        def make(checkpoint: Any, device: str, precision: str, threads: int | None, **more: Any) -> Any:
            if name in self.failing:
                raise self.failing[name]
            return SimpleNamespace(name=name, device=device, precision=precision, threads=threads, more=more)

        return make


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(monkeypatch)


def test_the_names_are_the_same_everywhere() -> None:
    assert set(options.ENGINES) == set(ENGINES)
    assert {"auto", *ENGINES} == set(get_args(EngineName))
    assert {"auto", *(p for kind in ENGINES.values() for own in kind.precisions.values() for p in own)} == set(
        get_args(PrecisionName)
    )
    for device, order in AUTO.items():
        assert set(order) == {name for name, kind in ENGINES.items() if device in kind.precisions}


ALL = ["torch", "openvino", "onnxruntime"]


@pytest.mark.parametrize(
    ("installed", "places", "device", "precision", "expected"),
    [
        (ALL, ["cpu"], "auto", "auto", ("openvino", "cpu")),
        (["torch", "onnxruntime"], ["cpu"], "auto", "auto", ("onnxruntime", "cpu")),
        (["torch"], ["cpu"], "auto", "auto", ("torch", "cpu")),
        (ALL, ["cuda", "cpu"], "auto", "auto", ("torch", "cuda")),
        (ALL, ["mps", "cpu"], "auto", "auto", ("torch", "mps")),
        (ALL, ["cuda", "cpu"], "cpu", "auto", ("openvino", "cpu")),
        (ALL, ["cuda", "cpu"], "cuda:1", "fp32", ("torch", "cuda:1")),
        (ALL, ["cpu"], "auto", "bf16", ("openvino", "cpu")),
        (["torch", "onnxruntime"], ["cpu"], "auto", "bf16", ("torch", "cpu")),
        (["torch", "onnxruntime"], ["cpu"], "auto", "fp16", ("torch", "cpu")),
        (["torch", "onnxruntime"], ["cpu"], "auto", "int8", ("onnxruntime", "cpu")),
        # No engine has it on CUDA, and nobody insisted on CUDA.
        (ALL, ["cuda", "cpu"], "auto", "int8", ("openvino", "cpu")),
    ],
)
def test_what_auto_takes(here, installed, places, device, precision, expected):
    here.set(installed=installed, places=places)
    engine = start("auto", None, device, precision, 3)
    assert (engine.name, engine.device) == expected
    assert (engine.precision, engine.threads) == (precision, 3)


def test_nothing_has_the_precision(here):
    here.set(installed=["torch"], places=["cpu"])
    advice = r"; pip install 'ssdcam\[openvino\]' or 'ssdcam\[onnxruntime\]'$"
    for device, where in (("cpu", " on cpu"), ("auto", "")):
        with pytest.raises(UnavailableError, match=f"no engine that is installed computes in int8{where}{advice}"):
            start("auto", None, device, "int8")
    here.set(installed=list(ENGINES), places=["cuda"])
    with pytest.raises(UnavailableError, match=r"computes in int8 on cuda$"):
        start("auto", None, "cuda", "int8")


@pytest.mark.parametrize(
    "error", [UnavailableError("no such thing"), ImportError("no such thing"), OSError("no such thing")]
)
def test_auto_goes_on_where_one_does_not_start(here, error, caplog, monkeypatch):
    caplog.set_level(NOTE, "ssdcam")
    monkeypatch.setattr(console.log, "propagate", True)
    here.failing["openvino"] = error
    assert start("auto", None).name == "onnxruntime"
    assert caplog.messages == ["openvino does not start (no such thing): onnxruntime runs instead"]


def test_where_none_starts_the_first_one_says_why(here, caplog):
    here.failing = {name: UnavailableError(f"no {name}") for name in ENGINES}
    with pytest.raises(UnavailableError, match="no openvino"):
        start("auto", None)
    assert not caplog.messages


@pytest.mark.parametrize("error", [CheckpointError("bad weights"), WrongUsageError("pictures, please")])
def test_what_no_other_engine_mends_is_raised(here, error):
    here.failing["openvino"] = error
    with pytest.raises(type(error), match=str(error)):
        start("auto", None)


def test_an_engine_by_name(here):
    here.set(installed=[], places=["cuda", "cpu"])  # what misses a package says so itself
    engine = start("onnxruntime", None, "cuda:1", "fp16", calibration="pictures")
    assert (engine.name, engine.device, engine.precision) == ("onnxruntime", "cuda:1", "fp16")
    assert engine.more == {"calibration": "pictures"}
    assert start("torch", None, calibration="pictures").more == {}


@pytest.mark.parametrize(
    ("name", "device", "precision", "complaint"),
    [
        ("caffe", "auto", "auto", "engine 'caffe' is none of auto, torch, openvino, onnxruntime"),
        ("auto", "tpu", "auto", "device 'tpu' is none of auto, cpu, cuda, cuda:N, mps"),
        ("torch", "cuda:", "auto", "device 'cuda:' is none of"),
        ("openvino", "cuda", "auto", "runs on cpu; use --engine torch or onnxruntime"),
        ("onnxruntime", "mps", "auto", "runs on cpu and cuda; use --engine torch"),
        (
            "torch",
            "auto",
            "int8",
            "precision 'int8' is none of auto, fp32, bf16, fp16, which the torch engine has; "
            "use --engine openvino or onnxruntime$",
        ),
        (
            "onnxruntime",
            "cpu",
            "fp16",
            "none of auto, fp32, int8, which the onnxruntime engine has on cpu; use --engine torch or openvino$",
        ),
        ("torch", "mps", "int8", "none of auto, fp32, fp16, bf16, which the torch engine has on mps$"),
    ],
)
def test_wrong_usage(here, name, device, precision, complaint):
    with pytest.raises(WrongUsageError, match=complaint):
        start(name, None, device, precision)


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        pytest.param(("openvino",), "onnxruntime", marks=pytest.mark.slow),  # PyTorch takes seconds to write its file
        (("openvino", "onnxruntime"), "torch"),
    ],
)
def test_auto_with_packages_hidden(hidden, expected, tiny_model, tmp_path):
    for package in ("openvino", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    code = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in sys.argv[2:]: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "import ssdcam\n"
        "print(ssdcam.load(sys.argv[1], device='cpu').engine.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_model), *hidden], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
