"""Helpers of the transfer-learning assignment: exactly the names that its notebooks use.

They are listed in `__init__.pyi`, next to this file. A module is imported when one of its names is
first used, so that `python -m helpers --help`, grading and `start()` need not wait for all of them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
