"""Which video goes where, refused before any work if it cannot; and which ones an earlier run finished."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssdcam.errors import WrongUsageError
from ssdcam.files import exists, is_folder
from ssdcam.media.claims import Claim, is_claimed, marker_of
from ssdcam.media.containers import CONTAINERS, check_output, default_codec
from ssdcam.media.images import Picture
from ssdcam.media.video_writer import read_comment

_SLASHES = tuple(filter(None, (os.sep, os.altsep)))


@dataclass(frozen=True)
class VideoJob:
    """A video and where it goes, if anywhere.

    Attributes:
        path: the input.
        target: the output.
        in_folder: whether the output is one of several, so that a later run may resume.
    """

    path: Path
    target: Path | None = None
    in_folder: bool = False

    @property
    def finished(self) -> bool:
        """Whether an earlier run came to the end of it."""
        return self.in_folder and self.target is not None and exists(self.target) and not self.left_unfinished

    @property
    def left_unfinished(self) -> bool:
        """Whether an earlier run began it and did not come to its end, or another one is at it."""
        return self.in_folder and self.target is not None and exists(marker_of(self.target))

    @property
    def abandoned(self) -> bool:
        """Whether an earlier run left it unfinished, killed or as its input broke off, and none is at it now."""
        return self.target is not None and exists(marker_of(self.target)) and not is_claimed(self.target)

    def made_with(self, comment: str) -> bool:
        """Whether the output that is there bears this comment, which stands for the options that it was made with.

        A comment of the input's own may come before it.
        """
        return self.target is not None and read_comment(self.target).rpartition("\n")[2] == comment

    def claim(self) -> Claim | None:
        """Keep other runs away from the output, if there is one, and mark it as unfinished.

        Raises:
            VideoError: another run writes it, or nothing can be written there.
        """
        return Claim(self.target, resumable=self.in_folder) if self.target else None


def plan_videos(
    videos: Sequence[Picture],
    output: str | None,
    *,
    several: bool,
    codec: str | None = None,
    crf: int | None = None,
    preset: str = "veryfast",
) -> list[VideoJob]:
    """Where each video goes.

    Args:
        videos: the inputs.
        output: the file for one, or the folder for several; None if they go nowhere. One goes to a folder, too, that is
            there already or whose name ends with a slash.
        several: whether the user named more than one file.
        codec: see :func:`ssdcam.media.containers.check_output`; None is the container's own.
        crf: likewise.
        preset: likewise.

    Raises:
        WrongUsageError: that cannot be.
    """
    if output is None:
        return [VideoJob(video.path) for video in videos]
    if not output:  # as of a variable that is not set
        raise WrongUsageError("an empty name is no place for a video")
    place, as_folder = Path(output), output.endswith(_SLASHES)
    if several and place.suffix.lower() in CONTAINERS and not is_folder(place) and not as_folder:
        raise WrongUsageError(f"{output}: several inputs need a folder to go to, and this names a video file")
    videos = list({video.path: video for video in videos}.values())  # one that is named twice is written once
    in_folder = several or is_folder(place) or as_folder
    if in_folder and videos:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WrongUsageError(f"{output}: cannot be made: {error.strerror}") from error
    jobs = [
        VideoJob(video.path, _target(place, video.name, codec) if in_folder else place, in_folder) for video in videos
    ]
    for target in {job.target for job in jobs if job.target}:
        # Its folder is made when its turn comes, so what is asked here is asked of a name in the output folder itself.
        asked = place / target.name if in_folder else target
        check_output(asked, codec or default_codec(target), crf=crf, preset=preset)
    # One of several may be free again when its turn comes.
    if len(jobs) == 1 and jobs[0].target and is_claimed(jobs[0].target):
        raise WrongUsageError(f"{jobs[0].target}: is being written by another run")
    return jobs


def _target(folder: Path, name: Path, codec: str | None) -> Path:
    """The input's own name, or that with ``.mp4`` where a file so called could not hold the output."""
    suffix = name.suffix.lower()
    holds = suffix in CONTAINERS and (codec is None or codec.partition("_")[0] in CONTAINERS[suffix].codecs)
    return folder / (name if holds else name.with_suffix(".mp4"))
