"""What runs the network: torch, graphics cards, the embedded detector, other engines."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssdcam.cpu import threads_of_a_share
from ssdcam.detections import Image
from ssdcam.diagnosis.finding import Finding, ok, problem, warning
from ssdcam.errors import first_line

if TYPE_CHECKING:
    from ssdcam.detections import Detections

_PCI = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAYS = "0x10de", "0x03"  # PCI's numbers of the maker and of the kind of device

_ENOUGH = 0.3  # the score that the detector must give the picture that it is tried with

_BUILDS = "https://pytorch.org/get-started/locally"


@dataclass(frozen=True)
class Graphics:
    """What is known about NVIDIA cards and CUDA.

    Attributes:
        built: the CUDA version that torch was built for; empty for a build without.
        driver: the newest CUDA version that the driver knows, such as ``(12, 4)``; None where there is no driver.
        card: whether the machine has a card, by its bus.
        devices: what torch sees, by name; each of them was tried.
        faults: of devices that failed then, why.
        hidden: the value of CUDA_VISIBLE_DEVICES, if it is set.
    """

    built: str
    driver: tuple[int, int] | None
    card: bool
    devices: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    hidden: str | None = None


def check_torch() -> Iterator[Finding]:
    """Torch, tried with a convolution, and the graphics cards that it sees."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of its own is missing or broken
        yield problem("torch", f"does not load: {first_line(error)}", _torch_remedy(), necessary=True)
        return
    _convolve(torch, "cpu")
    threads = threads_of_a_share() or torch.get_num_threads()
    yield ok("torch", f"{torch.__version__}, {threads} CPU {'thread' if threads == 1 else 'threads'}")
    names, faults = [], []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        names.append(f"cuda:{index} {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
        try:
            _convolve(torch, f"cuda:{index}")
        except Exception as error:
            faults.append(f"cuda:{index}: {first_line(error)}")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    graphics = Graphics(torch.version.cuda or "", cuda_of_driver(), has_card(), tuple(names), tuple(faults), hidden)
    yield judge(graphics)
    if sys.platform == "darwin":
        if torch.backends.mps.is_available():
            _convolve(torch, "mps")
            yield ok("GPU", "Metal works: --device mps")
        else:
            yield warning("GPU", "this Mac or this torch has no Metal", "the CPU is used; macOS 12.3 or newer has it")


def _torch_remedy() -> str:
    if sys.platform == "win32":
        return f"install Microsoft's Visual C++ redistributable (x64), then torch as {_BUILDS} says"
    return f"pip install --force-reinstall torch, with the index that {_BUILDS} names for this machine"


def _convolve(torch: Any, device: str) -> None:
    """A bit of what a network does; raises where the device cannot."""
    pixels = torch.ones(1, 3, 16, 16, device=device)
    kernel = torch.ones(4, 3, 3, 3, device=device)
    total = float(torch.nn.functional.conv2d(pixels, kernel).sum())
    if total != 4 * 14 * 14 * 27:
        raise ArithmeticError(f"a convolution on {device} gives {total:g}, not {4 * 14 * 14 * 27}")


def judge(graphics: Graphics) -> Finding:
    """What the facts about CUDA mean for the user."""
    driver = ".".join(map(str, graphics.driver)) if graphics.driver else ""
    if graphics.faults:
        return problem(
            "GPU", "; ".join(graphics.faults), f"install the torch for this card ({_BUILDS}), or --device cpu"
        )
    if graphics.devices:
        return ok("GPU", f"{'; '.join(graphics.devices)} (torch for CUDA {graphics.built}, driver for {driver})")
    if graphics.built and graphics.driver:
        if graphics.hidden is not None:
            return warning(
                "GPU",
                f"torch sees none, with CUDA_VISIBLE_DEVICES={graphics.hidden!r}",
                "unset CUDA_VISIBLE_DEVICES if a card is to be used",
            )
        if tuple(map(int, graphics.built.split(".")[:2])) > graphics.driver:
            return problem(
                "GPU",
                f"this torch is built for CUDA {graphics.built}, and the driver knows {driver} at most",
                f"update the NVIDIA driver, or install a torch for CUDA {driver} or older ({_BUILDS})",
            )
        return problem(
            "GPU", f"the driver is there (CUDA {driver}), but torch sees no card", "see what nvidia-smi says"
        )
    if graphics.driver:
        return warning(
            "GPU",
            f"this torch has no CUDA, though an NVIDIA driver is there (CUDA {driver})",
            f"install a torch for CUDA {driver} or older to use the card ({_BUILDS})",
        )
    if graphics.card:
        return warning(
            "GPU", "there is an NVIDIA card, but no driver for it", "install NVIDIA's driver to use it; the CPU works"
        )
    return ok(
        "GPU", f"no NVIDIA card; the CPU is used (torch for {f'CUDA {graphics.built}' if graphics.built else 'CPUs'})"
    )


def cuda_of_driver() -> tuple[int, int] | None:
    """The newest CUDA version that the NVIDIA driver knows; None where there is no driver."""
    version = ctypes.c_int()
    with suppress(OSError, AttributeError):
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        if driver.cuDriverGetVersion(ctypes.byref(version)) == 0 and version.value:
            return version.value // 1000, version.value % 1000 // 10
    return None


def has_card(devices: Path = _PCI) -> bool:
    """Whether there is an NVIDIA graphics card, as Linux lists the devices on its bus; elsewhere nobody is asked."""
    try:
        return any(
            (device / "vendor").read_text().strip() == _NVIDIA and (device / "class").read_text().startswith(_DISPLAYS)
            for device in devices.iterdir()
        )
    except OSError:
        return False


def check_detector() -> Iterator[Finding]:
    """The embedded detector, tried with a picture as users would try it."""
    from ssdcam.detection.detector import load

    detector = load(score=_ENOUGH)
    detections, ms = _try(detector.detect)
    engine = detector.engine
    where = f"{engine.name} on {engine.device} in {engine.precision}, {ms:.0f} ms"
    if len(detections):
        yield ok("detector", f"sees a drawing's {detections.labels[0]} at {detections.scores[0]:.2f} ({where})")
    else:
        yield problem(
            "detector",
            f"sees nothing in a picture that shows something ({where})",
            "try --device cpu and --precision fp32; reinstall ssdcam if that changes nothing",
            necessary=True,
        )


def check_engine(name: str) -> Iterator[Finding]:
    """Another engine, tried with the same picture."""
    from ssdcam.detection.detector import load
    from ssdcam.errors import UnavailableError

    label = f"engine {name}"
    engine: Any = name
    try:
        detector = load(score=_ENOUGH, engine=engine)
    except UnavailableError as error:
        yield warning(label, str(error), f"if you want it: pip install 'ssdcam[{name}]'; torch works without")
        return
    detections, ms = _try(detector.detect)
    precision = detector.engine.precision
    if len(detections):
        found = f"{detections.labels[0]} at {detections.scores[0]:.2f}"
        yield ok(label, f"sees a drawing's {found} (on {detector.engine.device} in {precision}, {ms:.0f} ms)")
    else:
        yield problem(label, f"sees nothing in a picture that shows something ({precision})", "use --engine torch")


def _try(detect: Any) -> tuple[Detections, float]:
    """What is found in a drawing, and how long it takes in ms, the second time."""
    image = drawing()
    detect(image)
    began = time.perf_counter()
    found = detect(image)
    return found, 1000 * (time.perf_counter() - began)


def drawing() -> Image:
    """A screen on a table, uint8 ``(300, 400, 3)``, BGR: as little as a detector takes for something."""
    image = np.full((300, 400, 3), 200, np.uint8)
    image[240:] = 90, 130, 170  # the table
    image[50:200, 90:310] = 30  # the frame
    image[58:192, 98:302] = 200, 120, 40  # the screen
    image[200:235, 185:215] = 40  # its foot
    rows, columns = np.mgrid[:300, :400]
    image[((columns - 200) / 60) ** 2 + ((rows - 240) / 10) ** 2 <= 1] = 40
    return image
