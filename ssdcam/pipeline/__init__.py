"""Threads, queues, policies, shutdown and timing: frames from a source through the detector to sinks."""
