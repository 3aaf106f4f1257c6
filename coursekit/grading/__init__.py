"""Handing in, and grading what was handed in: read, never run; each gets its row."""
