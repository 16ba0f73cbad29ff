"""Every figure of the report against the rows in `clients.parquet`, recomputed here by pandas alone."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulations.reporting.gallery import BUDGET, gallery
from tests.pages.reading import card, cells, charts, pictures, sections, trace

ROUNDED = 6e-5


def own_tests(out: Path) -> pd.DataFrame:
    """Accuracy of each client's own model, own test split, before training: clients by rounds."""
    rows = pd.read_parquet(out / "clients.parquet")
    rows = rows.query("split == 'test' and stage == 'before' and model == 'personal'")
    return rows.pivot(index="client", columns="round", values="accuracy")


def tenth(values: pd.Series, lowest: bool = True) -> float:
    return float(values.sort_values(ascending=lowest).iloc[: max(1, len(values) // 10)].mean())


def test_the_headline(robust: Path) -> None:
    last, page = own_tests(robust)[4], robust / "report.html"
    assert card(page, "Mean accuracy") == f"{last.mean():.3f}"
    assert card(page, "Worst tenth") == f"{last.min():.3f}"
    assert card(page, "Best tenth") == f"{last.max():.3f}"
    gini = np.abs(last.to_numpy()[:, None] - last.to_numpy()).mean() / 2 / last.mean()
    assert card(page, "Evenness") == f"{gini:.3f}"
    rows = pd.read_parquet(robust / "clients.parquet").query(
        "round == 4 and split == 'test' and stage == 'before'"
    )
    right, total = (np.stack(rows[f"class_{key}"].tolist()).sum(0) for key in ("correct", "total"))
    assert card(page, "Worst class") == f"{np.nanmin(right / np.where(total, total, np.nan)):.3f}"


def test_accuracy_over_rounds(robust: Path) -> None:
    table, figure = own_tests(robust), charts(robust / "report.html")["accuracy-chart"]
    expected = {
        "mean": table.mean(),
        "median": table.median(),
        "worst tenth": table.apply(tenth),
        "best tenth": table.apply(tenth, lowest=False),
    }
    for name, values in expected.items():
        (found,) = [each for each in figure["data"] if each.get("name") == name]
        assert found["x"] == [1, 2, 3, 4]
        assert found["y"] == pytest.approx(values.tolist(), abs=ROUNDED), name
    for low, high in ((10, 90), (25, 75)):
        name = f"{low} to {high}% of clients"
        lower, upper = [each for each in figure["data"] if each.get("legendgroup") == name]
        assert lower["y"] == pytest.approx(table.quantile(low / 100).tolist(), abs=ROUNDED)
        assert upper["y"] == pytest.approx(table.quantile(high / 100).tolist(), abs=ROUNDED)


def test_the_profile_at_every_step_of_the_slider(robust: Path) -> None:
    table, figure = own_tests(robust), charts(robust / "report.html")["profile-chart"]
    (slider,) = figure["layout"]["sliders"]
    assert [step["label"] for step in slider["steps"]] == ["1", "2", "3", "4"]
    for step in slider["steps"]:
        values = table[int(step["label"])]
        changes, changed = step["args"]
        assert changed == [1]
        assert changes["y"][0] == pytest.approx(sorted(values), abs=ROUNDED)
        assert changes["name"] == [
            f"round {step['label']}: mean {values.mean():.3f}, worst tenth {values.min():.3f}"
        ]
    assert figure["data"][1]["y"] == pytest.approx(sorted(table[4]), abs=ROUNDED)
    assert figure["data"][0]["y"] == pytest.approx(sorted(table[1]), abs=ROUNDED)


def test_the_lorenz_curve(robust: Path) -> None:
    last = own_tests(robust)[4].sort_values()
    found = trace(charts(robust / "report.html")["lorenz-chart"], "personal model, before")
    assert found["y"] == pytest.approx([0, *(100 * last.cumsum() / last.sum())], abs=1e-3)


def test_every_cell_of_client_by_round(robust: Path) -> None:
    table, figure = own_tests(robust), charts(robust / "report.html")["clients-chart"]
    ordered = table.loc[table[4].sort_values(kind="stable").index]
    cells_, mix, sizes = figure["data"]
    assert np.array(cells_["z"]) == pytest.approx(ordered.to_numpy(), abs=ROUNDED)
    people = pd.read_csv(robust / "population.csv", index_col="client").loc[ordered.index]
    assert sizes["x"] == people["train"].tolist()
    counts = people.drop(columns=["name", "unseen", "train", "val", "test"]).to_numpy(float)
    assert np.array(mix["z"]) == pytest.approx(counts / counts.sum(1, keepdims=True), abs=6e-4)
    for client, told, share in zip(ordered.index, cells_["y"], counts, strict=True):
        largest = people.columns[5:][share.argmax()]
        assert told.startswith(f"client {client}: {people.loc[client, 'train']} training samples; {largest} ")


def test_every_cell_of_client_by_class(robust: Path) -> None:
    rows = pd.read_parquet(robust / "clients.parquet")
    rows = rows.query("round == 4 and split == 'test' and stage == 'before' and model == 'personal'")
    rows = rows.set_index("client").loc[own_tests(robust)[4].sort_values(kind="stable").index]
    (found,) = charts(robust / "report.html")["classes-chart"]["data"]
    for k, (_, row) in enumerate(rows.iterrows()):
        for m, (right, total) in enumerate(zip(row["class_correct"], row["class_total"], strict=True)):
            expected = None if total == 0 else pytest.approx(right / total, abs=ROUNDED)
            assert found["z"][k][m] == expected
            assert found["customdata"][k][m] == total


def test_the_table_of_models(robust: Path, swept: Path) -> None:
    pages = [robust / "report.html", *(folder / "report.html" for folder in swept.glob("fedavg_ft-*"))]
    for page in pages:
        rows = pd.read_parquet(page.parent / "clients.parquet").query("round == 4")
        shown = {tuple(line[:3]): line[3:] for line in cells(page, "models-table")}
        expected = rows.groupby(["model", "stage", "split"])
        assert set(shown) == {key for key, _ in expected}
        for key, part in expected:
            accuracy, loss = part["accuracy"], part["loss"]
            figures = [f"{value:.3f}" for value in (accuracy.mean(), tenth(accuracy), loss.mean())]
            assert shown[tuple(key)] == [str(len(part)), *figures]


def test_own_against_global_model(swept: Path) -> None:
    for folder in swept.glob("fedavg_ft-*"):
        rows = pd.read_parquet(folder / "clients.parquet")
        rows = rows.query("round == 4 and split == 'test' and stage == 'before'")
        both = rows.pivot(index="client", columns="model", values="accuracy")
        figure = charts(folder / "report.html")["models-chart"]
        assert figure["data"][1]["x"] == pytest.approx(both["global"].tolist(), abs=ROUNDED)
        assert figure["data"][1]["y"] == pytest.approx(both["personal"].tolist(), abs=ROUNDED)
        better, worse = (
            (both["personal"] > both["global"]).mean(),
            (both["personal"] < both["global"]).mean(),
        )
        assert figure["layout"]["title"]["text"] == (
            f"own model better for {better:.0%} of clients, worse for {worse:.0%}"
        )


def test_weights_cuts_generator_and_bytes_are_those_of_the_csv_files(robust: Path) -> None:
    figures, rounds = charts(robust / "report.html"), pd.read_csv(robust / "rounds.csv")
    told = pd.read_csv(robust / "multipliers.csv").dropna(subset=["weight"])
    (shown,) = figures["weights-chart"]["data"]
    ratios = dict(zip(shown["y"], shown["customdata"], strict=True))
    for _, row in told.iterrows():
        same = told[told["round"] == row["round"]]
        expected = row["weight"] / same["weight"].sum() / (row["base"] / same["base"].sum())
        (line,) = [line for who, line in ratios.items() if who.startswith(f"client {row['client']:.0f}:")]
        assert line[shown["x"].index(row["round"])] == pytest.approx(expected, abs=ROUNDED)
    assert figures["cuts-chart"]["data"][0]["y"] == rounds["cut"].tolist()
    assert rounds["cut"].nunique() > 1
    for column in [name for name in rounds if name.startswith("generator_")]:
        (found,) = figures[column.replace("_", "-")]["data"]
        assert found["y"] == pytest.approx(rounds[column].tolist(), abs=ROUNDED)
    for name, column in (("head up", "bytes_up_head"), ("seconds here", "seconds")):
        found = trace(figures["cost-chart"], name)
        assert found["y"] == pytest.approx(rounds[column].tolist(), abs=ROUNDED)
    assert trace(figures["faults-chart"], "away")["y"] == rounds["unavailable"].tolist()


def test_every_clients_cut_follows_from_its_validation_accuracy(adaptive: Path) -> None:
    rows = pd.read_parquet(adaptive / "clients.parquet")
    rows = rows.query("split == 'val' and stage == 'before' and model == 'personal'")
    accuracy, path = rows.pivot(index="client", columns="round", values="accuracy"), (3, 2)
    expected = {}
    for client, told in accuracy.iterrows():
        place, best, cuts = 0, -1.0, []
        for value in told:
            cuts.append(path[place])
            place, best = (place, value) if value > best else (1, best)
        expected[client] = cuts
    figures = charts(adaptive / "report.html")
    (cells_,) = figures["client-cuts-chart"]["data"]
    shown = {
        int(who.split(":")[0].split()[1]): row for who, row in zip(cells_["y"], cells_["z"], strict=True)
    }
    assert shown == expected and cells_["x"] == [1, 2, 3, 4, 5, 6]
    assert len({tuple(cuts) for cuts in expected.values()}) > 1
    mean = pd.DataFrame(expected).mean(axis=1)
    assert figures["cuts-chart"]["data"][0]["y"] == pytest.approx(mean.tolist(), abs=ROUNDED)


def test_the_class_weights_follow_from_priors_and_multipliers(robust: Path) -> None:
    told = pd.read_csv(robust / "class_multipliers.csv")
    (found,) = charts(robust / "report.html")["class-weights-chart"]["data"]
    names = pd.read_csv(robust / "population.csv").columns[-10:]
    assert found["x"] == [1, 2, 3, 4] and sorted(found["y"]) == sorted(names)
    for _, row in told.iterrows():
        gain = (0.5 / 10 + 0.5 * row["multiplier"]) / row["prior"]
        line = found["y"].index(names[int(row["class"])])
        assert found["customdata"][line][found["x"].index(row["round"])] == pytest.approx(gain, abs=ROUNDED)
        assert found["z"][line][found["x"].index(row["round"])] == pytest.approx(np.log2(gain), abs=ROUNDED)
    assert np.ptp(found["z"]) > 0


def test_generated_pictures_are_in_the_page(robust: Path) -> None:
    files = sorted((robust / "figures").glob("generated_r*.png"))
    assert [file.name for file in files] == ["generated_r002.png", "generated_r004.png"]
    shown = pictures(robust / "report.html", "generator")  # the last round first, earlier ones folded
    assert shown == [file.read_bytes() for file in reversed(files)]


def test_a_gallery_is_no_larger_than_a_page_can_bear(tmp_path: Path) -> None:
    files = {f"Round {k}": tmp_path / f"{k}.png" for k in range(1, 12)}
    for k, file in enumerate(files.values(), 1):
        file.write_bytes(bytes([k]) * 1000)
    few = gallery(files)
    assert re.findall("<figcaption>(.*?)<", few) == [f"Round {k}" for k in (1, 3, 5, 7, 9, 11)]
    assert "5 more in the folder figures." in few
    files["Round 11"].write_bytes(bytes(BUDGET + 1))
    assert re.findall("<figcaption>(.*?)<", gallery(files)) == ["Round 11"]
    assert "more" not in gallery({"Round 1": files["Round 1"]})


def test_privacy_is_in_the_page_as_it_was_measured(adaptive: Path) -> None:
    page, found = adaptive / "report.html", json.loads((adaptive / "privacy.json").read_text())
    attacks = {(model, name): of for model, by in found["membership"].items() for name, of in by.items()}
    lines = {tuple(line[:2]): line[2:] for line in cells(page, "membership-table")}
    assert lines.keys() == attacks.keys()
    drawn = charts(page)["membership-chart"]
    for (model, name), of in attacks.items():
        aucs = [one["auc"] for one in of["clients"]]
        assert lines[model, name][0] == f"{np.mean(aucs):.3f}" and lines[model, name][2] == f"{max(aucs):.3f}"
        assert lines[model, name][3] == f"{of['pooled']['tpr_at_0.1']:.3f}"
        assert trace(drawn, f"{model} model, {name}")["y"] == pytest.approx(sorted(aucs), abs=ROUNDED)
    shown = charts(page)["inversion-chart"]["data"]
    assert len(shown) == 4 and all(line["x"] == [1, 2, 3] for line in shown)
    queries = [found["inversion"]["cuts"][str(cut)]["queries"]["ssim"] for cut in (1, 2, 3)]
    assert shown[2]["y"] == pytest.approx(queries, abs=ROUNDED)
    assert len(pictures(page, "privacy")) == 4  # ROC curves, and one a cut


def test_sections_without_data_are_left_out(swept: Path) -> None:
    for folder in [*swept.glob("local-*"), *swept.glob("fedavg_ft-*")]:
        found = sections(folder / "report.html")
        assert not {"weights", "class-weights", "cuts", "generator", "privacy"} & set(found)
        assert {"headline", "accuracy", "profile", "clients", "classes", "lorenz", "origin"} <= set(found)
