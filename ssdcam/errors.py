"""The errors that a user can act on. The ground floor: this module imports nothing."""


class SsdcamError(Exception):
    """Something went wrong that a user can understand; ``str(error)`` is the one line they read."""


class BenchmarkError(SsdcamError):
    """Something that could not be measured."""


class CheckpointError(SsdcamError):
    """A checkpoint that cannot be found, read, understood or trusted."""


class DatasetError(SsdcamError):
    """A data set that cannot be found, read or understood."""


class ExportError(SsdcamError):
    """An exported file that cannot be written, or that does not do what the checkpoint does."""


class ImageError(SsdcamError):
    """A picture that cannot be read or written."""


class UndecodableError(ImageError):
    """A file that was read, and holds no picture, or a damaged one."""


class RecordError(SsdcamError):
    """A file of records that cannot be written, read or understood."""


class SourceError(SsdcamError):
    """A video, stream or camera that cannot be opened, or that fails while it is read."""


def stop_within(error: BaseException | None) -> KeyboardInterrupt | None:
    """The stop that an error comes from: C++ makes an ImportError of one that comes while it makes a module."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


class TrainingError(SsdcamError):
    """Training that cannot start, cannot go on, or cannot be resumed."""


class UnavailableError(SsdcamError):
    """A device, engine or optional package that is not there."""


class VideoError(SsdcamError):
    """A video file that cannot be written."""


class WrongUsageError(SsdcamError):
    """What was asked for cannot be: a wrong name or value, or values that contradict each other."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind: libraries raise some that say nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
