"""The command `run`: notebooks in fresh kernels, and the report of what came out."""
