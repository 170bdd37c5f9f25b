"""OpenCV, and a window on the screen."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

from ssdcam.diagnosis.finding import Finding, ok, problem, warning
from ssdcam.diagnosis.installation import opencvs

_HEADLESS = "where there is no screen, pip uninstall opencv-python && pip install opencv-python-headless"

# What an import of OpenCV complains about, and what helps; the first that fits.
_REMEDIES = (
    (
        r"lib(GL|gthread|glib|SM|Xext|ICE|xcb)[\w.-]*\.so",
        "Debian, Ubuntu: sudo apt install libgl1 libglib2.0-0; Fedora: sudo dnf install mesa-libGL glib2; " + _HEADLESS,
    ),
    (r"GLIBC", "this system is older than the wheel was built for: install an older opencv-python, or update it"),
    (r"numpy|_ARRAY_API|multiarray", "pip install --upgrade --force-reinstall numpy opencv-python"),
    (
        r"DLL load failed",
        "install Microsoft's Visual C++ redistributable (x64); on Windows N the Media Feature Pack, too",
    ),
    (r"No module named 'cv2", "pip install opencv-python, or opencv-python-headless where there is no screen"),
    (r"", "pip install --force-reinstall --no-deps opencv-python"),
)

_ONE_OF_THEM = "pip uninstall -y {}; then pip install opencv-python alone (-headless where there is no screen)"


def check_opencv() -> Iterator[Finding]:
    """Whether OpenCV loads and reads pictures, and whether it is there once."""
    there = opencvs()
    listed = " and ".join(f"{name} {version}" for name, version in there.items()) or "not installed by pip"
    try:
        import cv2
    except ImportError as error:
        text = " ".join(str(error).split())
        remedy = next(remedy for pattern, remedy in _REMEDIES if re.search(pattern, text))
        yield problem("OpenCV", f"does not load: {text[:300]} ({listed})", remedy, necessary=True)
        return
    if not hasattr(cv2, "imdecode"):  # an empty folder named cv2, as an uninstall of one of several leaves it
        remedy = _ONE_OF_THEM.format(" ".join(there) or "opencv-python")
        yield problem("OpenCV", f"there is a cv2 without OpenCV in it ({listed})", remedy, necessary=True)
        return
    if (trouble := _fault()) is not None:
        remedy = "pip install --force-reinstall --no-deps opencv-python"
        yield problem("OpenCV", f"{cv2.__version__}: {trouble}", remedy, necessary=True)
        return
    if len(there) > 1:
        remedy = _ONE_OF_THEM.format(" ".join(there))
        yield warning("OpenCV", f"{listed} are installed, and write the same files", remedy)
    else:
        yield ok("OpenCV", f"{cv2.__version__} ({listed})")
    if int(cv2.__version__.partition(".")[0]) < 5:
        yield warning(
            "labels",
            "this OpenCV draws the letters of ASCII alone; others are written as the nearest of those",
            "pip install 'opencv-python>=5' draws every script",
        )


def _fault() -> str | None:
    """What is wrong when a picture is encoded and decoded; None if nothing is."""
    import cv2
    import numpy as np

    image = np.zeros((48, 64, 3), np.uint8)
    image[:, 32:] = 40, 160, 220
    for suffix in (".jpg", ".png", ".webp"):
        done, data = cv2.imencode(suffix, image)
        again = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
        if again is None or again.shape != image.shape or np.abs(again.astype(int) - image)[:, ::48].max() > 12:
            return f"a {suffix[1:]} picture does not come back as it was written"
    return None


def check_display() -> Iterator[Finding]:
    """Whether a window opens; one does, for a moment."""
    import numpy as np

    from ssdcam.errors import UnavailableError
    from ssdcam.media.window import Window, screen_size, why_no_display

    if trouble := why_no_display():
        yield warning("display", trouble, _display_remedy())
        return
    try:
        window = Window("ssdcam doctor", (160, 120))
    except UnavailableError as error:
        yield warning("display", str(error), "or work without a window: -o FILE, --json")
        return
    window.show(np.full((120, 160, 3), 127, np.uint8))
    window.key()
    window.close()
    yield ok("display", "a window opens on a screen of {}x{}".format(*screen_size()))


def _display_remedy() -> str:
    without = "work without a window: -o FILE, --json or --records FILE"
    if os.environ.get("WAYLAND_DISPLAY"):
        return f"OpenCV's windows need XWayland: install and start it (then DISPLAY is set), or {without}"
    if os.environ.get("SSH_CONNECTION"):
        return f"log in with ssh -X to see windows at your place, or {without}"
    return without if sys.platform != "linux" else f"{without}; on a desktop, start it from a terminal there"
