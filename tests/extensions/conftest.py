"""The package of the extensions, where their kernels find it: in their own folder."""

from __future__ import annotations

import sys
from pathlib import Path

EXTENSIONS = Path(__file__).resolve().parents[2] / "notebooks" / "extensions"
sys.path.insert(0, str(EXTENSIONS))
