from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def videos_folder():
    folder = Path(__file__).resolve().parents[4] / "shared" / "videos"
    if not folder.is_dir():
        pytest.skip(f"there are no videos to test with: {folder} is missing")
    return folder


@pytest.fixture
def read_all():
    """Everything a source gives, and the error it ends with, if any."""

    def read(source):
        from ssdcam.errors import SourceError

        frames, error = [], None
        with source:
            try:
                while (frame := source.read()) is not None:
                    frames.append(frame)
            except SourceError as trouble:
                error = trouble
            assert source.read() is None
        return frames, error

    return read
