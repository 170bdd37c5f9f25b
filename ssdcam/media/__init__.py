"""Frames in and out: sources, sinks, drawing."""

import os

# OpenCV reads it once, when it loads, so it stands before every module here that imports cv2. 2**28 pixels
# (16384 x 16384) take 805 MB as BGR; a header that claims more is a mistake or an attack.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**28))
