"""ssdcam: object detection in pictures, videos and webcams with SSD (Liu et al., arXiv 1512.02325).

Example:
    >>> import cv2, ssdcam
    >>> detector = ssdcam.load()
    >>> detections = detector.detect(cv2.imread("photo.jpg"))
"""

from __future__ import annotations

# As typing's own, which takes a moment to import: until signals are heard, as little as possible is.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ssdcam.detection.detector import Detector, load
    from ssdcam.detections import Detections
    from ssdcam.errors import SsdcamError

__version__ = "0.1.0"
__all__ = ["Detections", "Detector", "SsdcamError", "__version__", "load"]

# Names are imported when first used (PEP 562), so that `import ssdcam` and `ssdcam --help` stay quick.
_HOMES = {
    "Detections": "ssdcam.detections",
    "Detector": "ssdcam.detection.detector",
    "SsdcamError": "ssdcam.errors",
    "load": "ssdcam.detection.detector",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
