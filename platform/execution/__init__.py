"""Launching, resuming, stopping and showing a study that runs on Ray."""
