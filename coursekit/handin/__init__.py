"""Handing in, and what is handed out: submit, release, and the log of cells."""
