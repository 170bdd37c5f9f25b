"""What every source of frames is like."""

from __future__ import annotations

from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from ssdcam.media.frame import Frame

if TYPE_CHECKING:
    from ssdcam.media.yuv import Colours


class Source(Protocol):
    """Frames from somewhere. Open from the moment it is made until ``close``, or the end of its ``with`` block.

    One thread at a time may call it. ``close`` may be called more than once.

    Attributes:
        name: for people; a URL's credentials are hidden.
        live: the frames do not wait for whoever reads them, so the newest one is the one to look at. A file waits.
        width: of every frame, in pixels of the picture as shown.
        height: likewise.
        rate: nominal frames a second; None where the source does not say. For display: frames carry their own times.
        frame_count: about how many frames it will give, for progress bars; None where that cannot be told.
        duration: seconds, as the source itself says; None for a live one without end.
        colours: how its pictures make their colours, which an encoder is to keep; None where they are not in luma and
            chroma, or it is not known.
        pixel_aspect: width of a pixel as shown over its height.
    """

    name: str
    live: bool
    width: int
    height: int
    rate: Fraction | None
    frame_count: int | None
    duration: float | None
    colours: Colours | None = None
    pixel_aspect: Fraction = Fraction(1)

    def read(self) -> Frame | None:
        """Wait for the next frame.

        Returns:
            The frame; None at the end, and from then on.

        Raises:
            SourceError: it failed, or it ended and part of it could not be read. Said once; then comes the end.
        """

    def close(self) -> None:
        """Let go of files, devices and connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
