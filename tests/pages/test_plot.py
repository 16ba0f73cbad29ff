"""The frame that all figures of the pages share."""

from simulations.canvas import MEAN
from simulations.reporting.plot import figure, line


def test_a_long_legend_takes_no_room_from_the_axes() -> None:
    """Bands, which no legend names, do not count."""
    few = [line([0, 1], [0, 1], f"row {k}", MEAN) for k in range(4)]
    bands = [{**each, "showlegend": False} for each in few] * 10
    many = [line([0, 1], [0, 1], f"row {k}", MEAN) for k in range(30)]
    heights = [figure(traces, height=400)["layout"]["height"] for traces in (few, few + bands, many)]
    assert heights[:2] == [400, 400] and heights[2] > 400
