"""Frames in and out: sources, sinks, drawing."""
