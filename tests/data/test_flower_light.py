"""`flwr_datasets` comes without its pictures, and with them for who wants them."""

import subprocess
import sys

import pytest

PLOTS = "'matplotlib' in sys.modules"


@pytest.mark.parametrize(
    "wanted",
    [
        "import flwr_datasets; flwr_datasets.visualization.plot_label_distributions",
        "from flwr_datasets import visualization as v; v.plot_label_distributions",
        "from flwr_datasets.visualization import plot_label_distributions",
        "from flwr_datasets.visualization.label_distribution import plot_label_distributions",
    ],
)
def test_pictures_are_imported_by_who_asks_for_them(wanted: str) -> None:
    program = f"import sys; import fedkd.data.flower_table; print({PLOTS}); {wanted}; print({PLOTS})"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "True"]


def test_a_package_that_is_there_already_is_left_alone() -> None:
    program = "import sys; import flwr_datasets.visualization as v; import fedkd.data; "
    program += "print(sys.modules['flwr_datasets.visualization'] is v)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True"]
