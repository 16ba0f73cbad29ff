"""The workloads on a GPU: `python -m benchmarks.gpu` writes docs/results/gpu.md."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.cohorts import rows

COHORTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PAGE = Path(__file__).parents[1] / "docs" / "results" / "gpu.md"


def measure(
    device: str, name: str, cohorts: Sequence[int] = COHORTS, samples: int = 600, repeats: int = 5
) -> str:
    """The page about a device called `name`."""
    table = "\n".join(rows(device, cohorts, samples, repeats))
    return f"""# On a GPU

Written by `python -m benchmarks.gpu` on {name}, torch {torch.__version__}: {samples} samples 28 x 28 a
client, one epoch of SGD in batches of 32, float32; medians of {repeats}, both ways in turns. Together means
one stacked network for the whole cohort (`engine.vectorise`).

{table}
"""


def main() -> int:
    """Measure and write, where there is a GPU."""
    if not torch.cuda.is_available():
        print("benchmarks.gpu: there is no GPU here; nothing was measured", file=sys.stderr)
        return 2
    PAGE.write_text(measure("cuda", torch.cuda.get_device_name()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
