"""Moved: use `tools.made_up`."""

from tools.made_up import *  # noqa: F403
