"""What students plausibly write where a notebook says TODO, and what its check then says."""

from __future__ import annotations

from tools.mistakes.mistake import Mistake
from tools.mistakes.notebook_02 import MISTAKES_02, RIGHT_02
from tools.mistakes.notebook_03 import MISTAKES_03, RIGHT_03
from tools.mistakes.notebook_04 import MISTAKES_04, RIGHT_04
from tools.mistakes.notebook_05 import MISTAKES_05, RIGHT_05

MISTAKES = {"02": MISTAKES_02, "03": MISTAKES_03, "04": MISTAKES_04, "05": MISTAKES_05}
RIGHT_WAYS = {"02": RIGHT_02, "03": RIGHT_03, "04": RIGHT_04, "05": RIGHT_05}  # beside our own

__all__ = ["MISTAKES", "RIGHT_WAYS", "Mistake"]
