"""Machinery that a student need not read: files, downloads, progress, runner, report."""
