"""The cameras that are there, and what keeps them from being used."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ssdcam.diagnosis.finding import Finding, ok, problem, warning
from ssdcam.media.sources.devices import Camera, is_busy, list_cameras

_DOCKER, _PROCESSES = Path("/.dockerenv"), Path("/proc")


def check_cameras(
    cameras: Callable[[], Sequence[Camera]] = list_cameras, busy: Callable[[Path], bool] = is_busy
) -> Iterator[Finding]:
    """Each camera: whether it may be used, is free, and gives MJPG. None is switched on, but where only that tells."""
    found = cameras()
    if not found:
        yield warning("cameras", "no camera is there", _search())
    for camera in found:
        yield _judge(camera, busy)


def _judge(camera: Camera, busy: Callable[[Path], bool]) -> Finding:
    device = Path(camera.source)
    name = f"camera {camera.source}"
    if device.is_absolute() and not os.access(device, os.R_OK | os.W_OK):
        return problem(
            name,
            f"{camera.name}: not allowed to use {device}",
            "join the group that may: sudo usermod -aG video $USER, then log in again",
        )
    if device.is_absolute() and busy(device):
        users = users_of(device)
        who = f" ({', '.join(users)})" if users else ""
        return problem(name, f"{camera.name}: another program uses it{who}", f"close it; fuser -v {device} names it")
    if not camera.modes:
        return ok(name, f"{camera.name}: free; what it offers cannot be told")
    encodings = list(dict.fromkeys(mode.fourcc for mode in camera.modes))
    best = max(camera.modes, key=lambda mode: (mode.fourcc == "MJPG", mode.width * mode.height))
    text = f"{camera.name}: free, {', '.join(encodings)}, up to {best.width}x{best.height} in {best.fourcc}"
    if "MJPG" not in encodings:
        return warning(
            name,
            f"{text}; without MJPG it gives 5 to 10 large pictures a second over USB",
            "ask for small ones: ssdcam webcam --size 640x480",
        )
    return ok(name, text)


def users_of(device: Path, processes: Path = _PROCESSES) -> list[str]:
    """Programs that have a device open, as far as this user may see: name and process id."""
    found = []
    for process in sorted(processes.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            handles = [str(handle.readlink()) for handle in (process / "fd").iterdir()]
            if str(device) in handles:
                found.append(f"{(process / 'comm').read_text().strip()}, process {process.name}")
        except OSError:  # somebody else's, or gone
            continue
    return found


def _search() -> str:
    """Where a camera may hide."""
    if _DOCKER.exists():
        return "give it to the container: docker run --device /dev/video0"
    if "microsoft" in platform.release().lower():
        return "Windows' cameras do not reach WSL by themselves: run ssdcam in Windows, or see usbipd"
    if sys.platform == "darwin":
        return "connect one, and allow the terminal to use it: System Settings, Privacy & Security, Camera"
    if sys.platform == "win32":
        return "connect one, and allow it: Settings, Privacy, Camera, Let desktop apps access your camera"
    return "connect one; ssdcam webcam takes rtsp:// and http:// addresses and video files, too"
