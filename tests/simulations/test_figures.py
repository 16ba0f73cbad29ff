"""What the figures draw, against figures recomputed from the rows; and that labels stay apart."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from fedkd.fairness import gini, summarise
from simulations.canvas import PALETTE, _apart, colours, legend_below, looks, new_figure
from simulations.figures import (
    Run,
    compared_rounds_figure,
    last_accuracies,
    lorenz_figure,
    profile_figure,
    rounds_figure,
    used,
    write_comparison,
    write_figures,
)

SIZES = np.array([5, 8, 10, 20])


def a_run(seed: int = 0, models: tuple[str, ...] = ("global", "personal")) -> Run:
    """Four clients, evaluated in rounds 2 and 4; after local training only two of them in round 2."""
    chance = np.random.default_rng(seed)
    rows, rounds = [], []
    for number in (1, 2, 3, 4):
        figures: dict[str, float] = {}
        for model in models if number % 2 == 0 else ():
            for stage in ("before", "after"):
                for split in ("test", "val"):
                    right = chance.binomial(SIZES, 0.2 * number)
                    who = range(2 if stage == "after" and number == 2 else 4)
                    cells = {"round": number, "split": split, "model": model, "stage": stage}
                    rows += [{**cells, "client": k, "accuracy": right[k] / SIZES[k]} for k in who]
                    if (stage, split) == ("before", "test"):
                        figures = summarise(right / SIZES, SIZES, right[:, None], SIZES[:, None])
        rounds.append({"round": number, **figures})
    return pd.DataFrame(rows).sample(frac=1, random_state=1), pd.DataFrame(rounds)


def drawn(figure: Figure, panel: int, name: str) -> tuple[list[float], list[float]]:
    (line,) = [line for line in figure.axes[panel].get_lines() if line.get_gid() == name]
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def test_the_model_judged_is_the_clients_own_where_it_has_one() -> None:
    clients, _ = a_run()
    assert set(used(clients)["model"]) == {"personal"}
    mixed = clients[~((clients["model"] == "personal") & (clients["client"] == 3))]
    chosen = used(mixed).set_index(["round", "client"])["model"]
    assert chosen.loc[2].tolist() == ["personal", "personal", "personal", "global"]
    assert used(clients)[["round", "client"]].to_numpy().tolist() == [
        [r, k] for r in (2, 4) for k in range(4)
    ]


def test_accuracy_over_rounds_draws_the_recomputed_figures() -> None:
    clients, rounds = a_run()
    figure = rounds_figure(clients, rounds, "a run")
    own = clients.query("split == 'test' and stage == 'before' and model == 'personal'")
    by_round = own.groupby("round")["accuracy"]
    for name, expected in {
        "mean": by_round.mean(),
        "median": by_round.median(),
        "worst tenth": by_round.min(),  # of four clients the worst tenth is the worst one
        "best tenth": by_round.max(),
    }.items():
        x, y = drawn(figure, 0, name)
        assert x == [2, 4] and y == pytest.approx(expected.tolist()), name
    assert drawn(figure, 0, "worst tenth if all equal")[1] == rounds["null_worst10"].dropna().tolist()
    assert "a run" in texts(figure)
    assert "personal model before local training, own test split, over 4 clients" in texts(figure)


def test_the_profile_shows_every_model_and_stage_that_covers_all_clients() -> None:
    clients, _ = a_run()
    series = last_accuracies(clients)
    assert [each.label for each in series] == [
        f"{model} model, {stage} local training"
        for model in ("personal", "global")
        for stage in ("before", "after")
    ]
    figure = profile_figure(series, "a run", "over whom")
    for each in series:
        model, stage = each.label.split()[0], each.label.split()[2]
        query = f"round == 4 and split == 'test' and model == '{model}' and stage == '{stage}'"
        x, y = drawn(figure, 0, each.label)
        assert y == sorted(clients.query(query)["accuracy"])
        assert x == [12.5, 37.5, 62.5, 87.5]
    only_two = clients[~((clients["stage"] == "after") & (clients["client"] > 1))]
    assert [each.label.split()[2] for each in last_accuracies(only_two)] == ["before", "before"]


def test_the_lorenz_figure_draws_shares_and_names_gini() -> None:
    clients, _ = a_run()
    series = last_accuracies(clients)[:1]
    figure = lorenz_figure(series, "a run", "over whom")
    ordered = sorted(series[0].accuracy)
    held = [100 * sum(ordered[:count]) / sum(ordered) for count in range(5)]
    assert drawn(figure, 0, series[0].label)[1] == pytest.approx(held)
    below = np.arange(0, 125, 25) - held
    assert drawn(figure, 1, series[0].label)[1] == pytest.approx(below.tolist())
    (legend,) = figure.legends
    assert legend.get_texts()[0].get_text().endswith(f"Gini {gini(series[0].accuracy):.3f}")


def test_several_runs_side_by_side() -> None:
    runs = {"local": a_run(1, ("personal",)), "fedavg": a_run(2, ("global",))}
    figure = compared_rounds_figure(runs, "two runs")
    for label, (_, rounds) in runs.items():
        for panel, column in enumerate(("mean", "worst10")):
            assert drawn(figure, panel, label) == ([2, 4], rounds[column].dropna().tolist())


def test_files_are_written_where_there_is_something_to_show(tmp_path: Path) -> None:
    clients, rounds = a_run()
    written = write_figures(tmp_path, clients, rounds, "a run")
    written += write_comparison(tmp_path, {"one": (clients, rounds), "two": a_run(1)}, "two runs")
    names = ["rounds", "profile", "lorenz", "compare_rounds", "compare_profile", "compare_lorenz"]
    assert [path.name for path in written] == [f"{name}.png" for name in names]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    nobody = clients[clients["split"] == "val"]
    assert write_figures(tmp_path, nobody, rounds, "a run") == []
    assert write_figures(tmp_path, clients, pd.DataFrame({"round": [1]}), "a run") == []
    assert write_comparison(tmp_path, {"one": (nobody, rounds)}, "no run") == []


def test_labels_move_apart_about_their_mean() -> None:
    assert _apart([0.1, 0.5, 0.9], 0.2) == [0.1, 0.5, 0.9]
    assert _apart([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    assert _apart([0.3, 0.5, 0.5], 0.2) == pytest.approx([0.2333, 0.4333, 0.6333], abs=1e-4)


def test_no_two_of_many_rows_look_alike() -> None:
    """Colours come again after the palette; dash and marker do not come with them."""
    assert len(set(looks(48))) == 48
    assert [look.colour for look in looks(20)] == colours(20)
    assert {(look.dash, look.marker) for look in looks(len(PALETTE))} == {("-", "o")}


def test_a_long_legend_takes_two_columns() -> None:
    """Of the one panel that tells its lines, and so that it fits the room that the figure has for it."""
    made = {lines: new_figure("t", "a", "o", lines, panels=2) for lines in (12, 24)}
    for lines, (figure, panels) in made.items():
        for number in range(lines):
            panels[1].plot([0, 1], [0, number], label=f"row {number}")
        legend_below(figure, lines)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [
            f"row {k}" for k in range(lines)
        ]
        figure.draw_without_rendering()
        assert figure.legends[0].get_window_extent().y0 >= 0
    heights = [figure.get_size_inches()[1] for figure, _ in made.values()]
    assert heights[0] == heights[1]
