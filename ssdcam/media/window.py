"""A window on the screen. Everything here runs on the main thread: window systems insist on it."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
import socket
import struct
import sys
from collections.abc import Callable
from threading import Thread

import cv2

from ssdcam.detections import Image
from ssdcam.errors import UnavailableError

# What part of the screen a new window may take, and the screen that is assumed where its size cannot be asked for.
_SHARE = 0.8
_COMMON_SCREEN = (1366, 768)

_ESCAPE = 27

# Of what OpenCV tells of a key: the bits that say which it is, as GTK adds those held with it above, and Windows has
# there what it calls keys without a character. X11 has codes far beyond ASCII for those: 0xFF51 is the left arrow,
# whose last byte is a Q.
_KEY = 0xFFFF
_NO_CHARACTER = 0x7F

_PATIENCE = 5.0  # seconds for a display to answer

# How a client of X11 begins: byte order, protocol 11.0, and that it has nothing to show who it is.
_X11_HELLO = struct.pack("<cxHHHHxx", b"l", 11, 0, 0, 0)


def why_no_display() -> str | None:
    """Why no window can be opened here; None if one can.

    Asked before any window: the Qt in OpenCV's Linux wheels ends the process where it finds no display.
    """
    if sys.platform != "linux":
        return None
    display = os.environ.get("DISPLAY", "")
    if not display:
        return "there is no display (DISPLAY is not set)"
    if not _within(_PATIENCE, lambda: _lets_us_in(display)):
        return f"the display {display} does not answer, or does not let us in"
    return None


def _within(seconds: float, asks: Callable[[], bool]) -> bool:
    """What a question gives, or False if it takes too long: Xlib waits for ever for a server that says nothing."""
    answers: list[bool] = []
    thread = Thread(target=lambda: answers.append(asks()), name="ssdcam-display", daemon=True)
    thread.start()
    thread.join(seconds)
    return answers == [True]


def _lets_us_in(display: str) -> bool:
    size = _x11_screen()
    return _answers(display) if size is None else size != ()


def _answers(display: str) -> bool:
    """Whether an X server answers on a display such as ``:0`` or ``host:10.0``, be it only to ask who we are."""
    match = re.fullmatch(r"(?:unix/?)?(?P<host>[^:/]*):(?P<number>\d+)(?:\.\d+)?", display)
    if match is None:
        return display.startswith("/")  # macOS' own form names a socket; Linux has none of it
    number = int(match["number"])
    if match["host"]:
        attempts = [(socket.AF_INET, (match["host"], 6000 + number))]
    else:
        path = f"/tmp/.X11-unix/X{number}"  # noqa: S108  # where X servers listen
        attempts = [(socket.AF_UNIX, path), (socket.AF_UNIX, f"\0{path}")]  # type: ignore[list-item]
    for family, address in attempts:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(2)
            try:
                connection.connect(address)
                connection.sendall(_X11_HELLO)
                if connection.recv(1):
                    return True
            except OSError:
                continue
    return False


class Window:
    """A resizable window that shows pictures and hears keys.

    Args:
        title: ASCII.
        size: width and height of the pictures to come; the window opens at that size, or smaller to fit the screen.

    Raises:
        UnavailableError: there is no display, or this OpenCV was built without windows.
    """

    def __init__(self, title: str, size: tuple[int, int]) -> None:
        if trouble := why_no_display():
            raise UnavailableError(trouble)
        self._title = title
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise UnavailableError(
                "this OpenCV has no windows: pip uninstall opencv-python-headless and install opencv-python"
            ) from error
        cv2.resizeWindow(title, *fitted(size, screen_size()))
        self._full_screen = False
        self._shown = False

    def show(self, image: Image) -> None:
        """Show a picture, uint8 ``(height, width, 3)``, BGR, scaled to the window."""
        cv2.imshow(self._title, image)
        self._shown = True

    def key(self) -> str | None:
        """Let the window system work for a moment.

        Returns:
            The key that was pressed, ``escape`` for Esc, ``closed`` once the window was closed; None if nothing was, or
            a key without a character of ASCII.
        """
        code = cv2.waitKeyEx(5)
        if self._shown and not self._is_open():
            return "closed"
        code &= _KEY
        if not 0 < code < _NO_CHARACTER:
            return None
        return "escape" if code == _ESCAPE else chr(code).lower()

    def _is_open(self) -> bool:
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # OpenCV 5 with Qt, once its only window was closed
            return False

    def toggle_full_screen(self) -> None:
        """From a window to the whole screen and back."""
        self._full_screen = not self._full_screen
        mode = cv2.WINDOW_FULLSCREEN if self._full_screen else cv2.WINDOW_NORMAL
        cv2.setWindowProperty(self._title, cv2.WND_PROP_FULLSCREEN, mode)

    def close(self) -> None:
        """Take the window from the screen."""
        cv2.destroyAllWindows()
        cv2.waitKey(1)  # lets the window system hear of it


def fitted(size: tuple[int, int], screen: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a window for pictures of this size: theirs, or as large as the screen comfortably takes."""
    scale = min(1.0, *(_SHARE * there / wanted for there, wanted in zip(screen, size, strict=True)))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def screen_size() -> tuple[int, int]:
    """Width and height of the screen in pixels, or a common size where it cannot be told."""
    if sys.platform == "win32":
        user32 = ctypes.windll.user32
        return user32.GetSystemMetrics(0), user32.GetSystemMetrics(1)
    return _x11_screen() or _COMMON_SCREEN


def _x11_screen() -> tuple[int, int] | tuple[()] | None:
    """Size of the X display's screen; empty if it does not let us in; None where there is no Xlib to ask."""
    name = ctypes.util.find_library("X11") if sys.platform == "linux" else None
    if name is None:
        return None
    x11 = ctypes.CDLL(name)
    x11.XOpenDisplay.restype = ctypes.c_void_p
    display = ctypes.c_void_p(x11.XOpenDisplay(None))
    if not display:
        return ()
    try:
        return x11.XDisplayWidth(display, 0), x11.XDisplayHeight(display, 0)
    finally:
        x11.XCloseDisplay(display)
