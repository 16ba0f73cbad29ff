"""Whole rounds, messages, populations and start-up against others; `python -m benchmarks.speed`."""
