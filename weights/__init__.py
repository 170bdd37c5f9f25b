"""The embedded detectors, package data of ssdcam. ``README.md`` beside this file says what each is."""
