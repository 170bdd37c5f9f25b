"""Records: one picture or frame and what was found in it, to and from JSONL, CSV, COCO, VOC and YOLO.

A record goes through a format and back unchanged but for rounding (boxes to 0.01 pixel, scores to 0.0001, times to a
microsecond). What a format loses beyond that:

===========  ==========================================================================================================
``.jsonl``   nothing
``.csv``     records in which nothing was found; neighbours of the same source, frame, time and size become one
``.json``    nothing (COCO; labels must be those the writer was given)
``voc:DIR``  the order: the reader goes by file name
``yolo:DIR`` nothing, thanks to an index beside the files (labels must be those the writer was given)
===========  ==========================================================================================================
"""

from ssdcam.records.coco import read_coco_results
from ssdcam.records.formats import open_records, read_records, records_place
from ssdcam.records.record import Record, from_json, to_json, to_line
from ssdcam.records.writer import RecordWriter

__all__ = [
    "Record",
    "RecordWriter",
    "from_json",
    "open_records",
    "read_coco_results",
    "read_records",
    "records_place",
    "to_json",
    "to_line",
]
