"""The kit against the tutorial way, side by side: `python -m benchmarks`."""
