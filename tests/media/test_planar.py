"""What is drawn in luma and chroma looks like what is drawn in BGR, and the rest stays as it was decoded."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssdcam.detections import Detections
from ssdcam.media.av import av
from ssdcam.media.drawing import Style, draw_detections, draw_panel
from ssdcam.media.planar import PlanarPicture
from ssdcam.media.sources import FileSource
from ssdcam.media.surface import BgrSurface, Surface, Tile
from ssdcam.media.video_writer import VideoWriter
from ssdcam.media.yuv import BT601, BT709, FULL, LIMITED, Colours, from_bgr, planes_of, to_planes

from .sources.videos import ORIENTATIONS, make_video, set_matrix

SIZE = 120, 160  # height and width


def planar(image: NDArray[np.uint8], matrix: int = BT709.matrix) -> PlanarPicture:
    height, width = image.shape[:2]
    planes = [np.empty((height // n, width // n), np.uint8) for n in (1, 2, 2)]
    to_planes(image, from_bgr(matrix, LIMITED), planes)
    return PlanarPicture(planes, matrix)


def scene() -> NDArray[np.uint8]:
    """Soft colours, so that half the chroma is enough for it."""
    patches = np.random.default_rng(3).integers(60, 200, (3, 4, 3), np.uint8)
    return np.asarray(cv2.resize(patches, SIZE[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


class OnGrid(BgrSurface):
    """BGR, drawn on at the places that chroma of half the size asks for."""

    grid = 2


def test_boxes_labels_and_panel_look_as_in_bgr() -> None:
    found = Detections(
        np.array([[20, 40, 90, 110], [61.3, 30.7, 140.2, 100.9], [0, 0, 160, 120]], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
        np.arange(3),
        ("cat", "dog", "sofa"),
    )
    picture, image = planar(scene()), scene()
    for surface in (picture.surface, OnGrid(image)):
        draw_panel(surface, ["12.3 fps"])
        draw_detections(surface, found, Style(line_width=2))
    off = cv2.absdiff(picture.image, image).astype(int)
    # A rim of one pixel has half a sample of chroma, which takes the line's colour; so does a letter's edge.
    assert np.abs(luma_of(picture.image) - luma_of(image)).max() <= 16
    assert (off.max(axis=2) > 40).mean() < 0.05
    assert off.mean() < 4


def luma_of(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return image.astype(float) @ (0.0722, 0.7152, 0.2126)


def test_what_is_not_drawn_on_stays_as_it_was() -> None:
    picture, before = planar(scene()), planar(scene())
    draw_detections(
        picture.surface,
        Detections(np.array([[40, 60, 80, 100]], np.float32), np.ones(1, np.float32), np.zeros(1, int), ("cat",)),
        Style(labels=False),
    )
    changed = [a != b for a, b in zip(planes_of(picture.frame), planes_of(before.frame), strict=True)]
    ys, xs = np.nonzero(changed[0])
    assert (xs.min(), xs.max() + 1, ys.min(), ys.max() + 1) == (40, 80, 60, 100)
    assert not changed[1][:30].any()
    assert not changed[1][31:49, 21:39].any()


@pytest.mark.parametrize("matrix", [BT601.matrix, BT709.matrix, 9])
def test_a_filled_rectangle_has_the_colour_that_was_asked_for(matrix: int) -> None:
    picture = planar(scene(), matrix)
    picture.surface.fill(20, 10, 60, 50, (30, 200, 90))
    inside = picture.image[10:50, 20:60].astype(int)
    assert np.abs(inside - (30, 200, 90)).max() <= 3


@given(st.tuples(*[st.integers(-20, 180)] * 4))
def test_fill_beyond_the_edge_is_cut_like_in_bgr(corners: tuple[int, int, int, int]) -> None:
    x1, y1, x2, y2 = corners
    picture, image = planar(np.zeros((*SIZE, 3), np.uint8)), np.zeros((*SIZE, 3), np.uint8)
    for surface in (picture.surface, BgrSurface(image)):
        surface.fill(x1, y1, x2, y2, (255, 255, 255))
    assert ((planes_of(picture.frame)[0] > 100) == (image[..., 0] > 100)).all()


def test_a_thin_line_off_the_grid_keeps_its_colour() -> None:
    picture = planar(np.full((*SIZE, 3), 128, np.uint8))
    picture.surface.fill(51, 0, 52, SIZE[0], (0, 0, 255))
    blue, green, red = picture.image[60, 51].astype(int)
    assert red > 200
    assert blue < 60
    assert green < 60


def test_a_tile_is_pasted_where_it_should_be() -> None:
    tile = Tile(np.full((10, 20, 3), (200, 60, 20), np.uint8))
    picture = planar(scene())
    picture.surface.paste(30, 40, tile)
    assert np.abs(picture.image[40:50, 30:50].astype(int) - (200, 60, 20)).max() <= 3
    assert np.abs(picture.image.astype(int) - planar(scene()).image)[:, 52:].max() == 0


def test_darkened_it_has_a_quarter_of_its_light() -> None:
    picture, image = planar(scene()), scene()
    surfaces: tuple[Surface, ...] = (picture.surface, BgrSurface(image))
    for surface in surfaces:
        surface.darken(0, 0, 80, 60)
    assert np.abs(picture.image.astype(int) - image).max() <= 8


def test_a_copy_is_its_own() -> None:
    planes = planes_of(planar(scene()).frame)
    before = [plane.copy() for plane in planes]
    PlanarPicture(planes, BT709.matrix).surface.fill(0, 0, 160, 120, (0, 0, 0))
    assert all((a == b).all() for a, b in zip(planes, before, strict=True))


class TestFromFileToFile:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_samples_are_those_that_were_decoded(self, tmp_path: Path, orientation: str) -> None:
        matrix, upright = ORIENTATIONS[orientation]
        video, output = tmp_path / "in.mp4", tmp_path / "out.mp4"
        make_video(video, range(5))
        set_matrix(video, *matrix)
        with FileSource(video) as source:
            frames = list(iter(source.read, None))
            pictures = [frame.to_draw_on().picture for frame in frames]
            write(output, source, pictures)
        with av.open(video) as container:
            decoded = [planes_of(frame) for frame in container.decode(video=0)]
        for picture, planes in zip(pictures, decoded, strict=True):
            assert isinstance(picture, PlanarPicture)
            for ours, theirs in zip(planes_of(picture.frame), planes, strict=True):
                assert (ours == upright(theirs)).all()
        with FileSource(output) as source:
            written = list(iter(source.read, None))
        for ours, theirs in zip(written, frames, strict=True):
            assert np.abs(ours.image.astype(int) - theirs.image).max() <= 8  # nearly lossless

    @pytest.mark.parametrize("said", [Colours(2, 2, 2), BT601, Colours(9, 9, 18)], ids=["nothing", "601", "2020"])
    def test_colours_are_said_as_the_source_says_them(self, tmp_path: Path, said: Colours) -> None:
        video, output = tmp_path / "in.mp4", tmp_path / "out.mp4"
        with VideoWriter(video, width=64, height=48, rate=Fraction(25), colours=said) as writer:
            writer.write(scene()[:48, :64], 0.0)
        with FileSource(video) as source:
            assert source.colours == said
            frame = source.read()
            assert frame is not None
            write(output, source, [frame.to_draw_on().picture])
        with av.open(output) as container:
            written = next(container.decode(video=0))
        assert (int(written.colorspace), int(written.color_primaries), int(written.color_trc)) == (
            said.matrix,
            said.primaries,
            said.transfer,
        )

    @pytest.mark.parametrize(
        ("pixels", "size"),
        [("yuvj420p", (96, 72)), ("yuv444p", (96, 72)), ("yuv420p10le", (96, 72)), ("yuv420p", (95, 71))],
    )
    def test_what_cannot_stay_goes_by_bgr(self, tmp_path: Path, pixels: str, size: tuple[int, int]) -> None:
        video, output = tmp_path / "in.mkv", tmp_path / "out.mp4"
        with av.open(video, "w") as container:
            stream = container.add_stream(
                "mjpeg" if pixels == "yuvj420p" else "ffv1", 25, width=size[0], height=size[1], pix_fmt=pixels
            )
            image = np.ascontiguousarray(scene()[: size[1], : size[0]])
            made = av.VideoFrame.from_ndarray(image, "bgr24").reformat(
                format=pixels, dst_color_range=FULL if pixels == "yuvj420p" else LIMITED
            )
            container.mux(stream.encode(made))
            container.mux(stream.encode(None))
        with FileSource(video) as source:
            assert source.colours is not None
            frame = source.read()
            assert frame is not None
            picture = frame.to_draw_on().picture
            assert isinstance(picture, np.ndarray)
            write(output, source, [picture])
        with FileSource(output) as source:
            back = source.read()
        assert back is not None
        off = np.abs(back.image[: size[1], : size[0]].astype(int) - image)
        assert off.mean() < 4

    @pytest.mark.parametrize(
        ("pixels", "codec", "said"),
        [
            ("yuv420p10le", "libx265", (9, 9, 16)),  # BT.2020, PQ
            ("yuv420p10le", "libx265", (9, 9, 18)),  # HLG
            ("yuv444p", "libx264", (2, 2, 2)),  # nothing, in a size of which players assume BT.709
            ("yuv422p", "libx264", (1, 1, 1)),
        ],
    )
    def test_what_goes_by_bgr_keeps_its_colours(
        self, tmp_path: Path, pixels: str, codec: str, said: tuple[int, int, int]
    ) -> None:
        video, output = tmp_path / "in.mkv", tmp_path / "out.mp4"
        given = av.VideoFrame(1280, 720, pixels)
        for plane, level in zip(given.planes, (150, 100, 170), strict=True):
            width = 2 if "10" in pixels else 1
            plane.update(np.full(plane.buffer_size // width, level * (4 if width == 2 else 1), f"<u{width}").tobytes())
        with av.open(video, "w") as container:
            stream = container.add_stream(codec, 25, width=1280, height=720, pix_fmt=pixels)
            context = stream.codec_context
            context.options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
            context.colorspace, context.color_primaries, context.color_trc = said
            context.color_range = LIMITED
            for index in range(3):
                given.pts = index
                container.mux(stream.encode(given))
            container.mux(stream.encode(None))
        with FileSource(video) as source:
            frame = source.read()
            assert frame is not None
            write(output, source, [frame.image])
        with av.open(output) as container:
            got = next(container.decode(video=0))
        assert (int(got.colorspace), int(got.color_primaries), int(got.color_trc)) == said
        levels = [np.frombuffer(plane, np.uint8)[: plane.width].mean() for plane in got.planes]
        assert levels == pytest.approx([150, 100, 170], abs=1.5)

    def test_other_colours_than_the_files_are_converted(self, tmp_path: Path) -> None:
        output = tmp_path / "out.mp4"
        flat = np.full((48, 64, 3), (40, 90, 200), np.uint8)
        with VideoWriter(output, width=64, height=48, rate=Fraction(25), crf=1, colours=BT601) as writer:
            writer.write(planar(flat, BT709.matrix), 0.0)
        with FileSource(output) as source:
            frame = source.read()
        assert frame is not None
        assert np.abs(frame.image.astype(int) - flat).max() <= 6

    def test_a_frame_of_another_size_is_resized_on_its_way(self, tmp_path: Path) -> None:
        video = tmp_path / "in.mp4"
        make_video(video, range(2))
        with FileSource(video) as source:
            frame = source.read()
            assert frame is not None
            assert not isinstance(frame.picture, np.ndarray)
            frame.picture.size = (36, 48)  # as if the stream had begun smaller
            assert isinstance(replace(frame, picture=frame.picture).to_draw_on().picture, np.ndarray)


def write(output: Path, source: FileSource, pictures: list[object]) -> None:
    wishes = {"width": source.width, "height": source.height, "rate": source.rate or Fraction(25)}
    with VideoWriter(output, **wishes, crf=1, colours=source.colours) as writer:  # type: ignore[arg-type]
        for index, picture in enumerate(pictures):
            writer.write(picture, index / 25)  # type: ignore[arg-type]
