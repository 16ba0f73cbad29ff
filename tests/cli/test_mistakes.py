"""Mistakes on the command line: one sentence that names the key, exit code 2, nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.cli import main

MISTAKES = {
    "run method=fedproxx": "'fedproxx'; did you mean 'fedprox'? (one of fedavg_ft, fedprox is needed)",
    "run data=hat": "unknown data 'hat'; did you mean 'har'?",
    "run model=null": "unknown model 'null' (one of cnn, mlp is needed)",
    "run engine=rey": "did you mean 'ray'? (one of inline, ray is needed)",
    "run public=nothing": "unknown public 'nothing' (one of fashion_mini, har, null is needed)",
    "run clinets=5": "unknown key 'clinets'; did you mean 'clients'?",
    "run local.lrr=5": "unknown key 'local.lrr'; did you mean 'lr'? ('local' takes ",
    "run method.strategy.minimun=5": "unknown key 'method.strategy.minimun'; did you mean 'minimum'?",
    "run engine.wokers=2": "unknown key 'engine.wokers'; did you mean 'workers'?",
    "run partition.alpah=1": "unknown key 'partition.alpah'; did you mean 'alpha'?",
    "run data._default_model_=mlp": "unknown key 'data._default_model_'",
    "run hydra.run.dir=x": "unknown key 'hydra'",
    "run clients=0": "clients=0: a whole number from 1, or null",
    "run clients=2.5": "clients=2.5: a whole number from 1, or null",
    "run clients=true": "clients=true: a whole number from 1, or null",
    "run rounds=0": "rounds=0: a whole number from 1 is needed",
    "run rounds=many": "rounds=many: a whole number from 1 is needed",
    "run rounds=null": "rounds=null: a whole number from 1 is needed",
    "run seed=-1": "seed=-1: a whole number from 0 is needed",
    "run participation=0": "participation=0: a fraction in (0, 1], or a whole number of clients from 2,",
    "run participation=1.5": "participation=1.5: a fraction in (0, 1]",
    "run participation=-0.1": "participation=-0.1: a fraction in (0, 1]",
    "run participation=21": "participation=21: there are only clients=20",
    "run participation=nan": "participation=nan: a fraction in (0, 1]",
    "run unseen_clients=1": "unseen_clients=1: a fraction in [0, 1) is needed",
    "run precision=float16": "precision=float16: float32 or bf16 is needed",
    "run overwrite=maybe": "overwrite=maybe: true or false is needed",
    "run track=wandb": "track=wandb: tensorboard or null is needed",
    "run out=": "out=: the path of a folder, or null is needed",
    "run engine.workers=0": "engine.workers=0: a whole number from 1, or null for one a core is needed",
    "run engine.deadline=0": "engine.deadline=0: a number of seconds above 0, or null, is needed",
    "run engine=inline engine.raise_errors=2": "engine.raise_errors=2: true or false is needed",
    "run evaluation.splits=[tests]": "evaluation.splits=['tests']: a list of train, val, test is needed",
    "run evaluation.splits=test": "evaluation.splits=test: a list of train, val, test is needed",
    "run evaluate_every=0": "evaluate_every=0: a whole number from 1 is needed",
    "run partition.alpha=-1": "partition.alpha=-1.0: a positive number is needed",
    "run partition.alpha=abc": "partition.alpha=abc: a number is needed",
    "run partition.alpha=nan": "partition.alpha=nan: a number is needed",
    "run local.lr=-1": "local.lr=-1: a positive number is needed",
    "run local.epochs=1.5": "local.epochs=1.5: a whole number is needed",
    "run local.optimizer=addam": "=addam: sgd or adam or adamw is needed; did you mean 'adam'?",
    "run method=fedprox method.strategy.flag=1": "method.strategy.flag=1: true or false is needed",
    "run method=fedprox method.strategy.kind=l3": "method.strategy.kind=l3: l1 or l2 is needed",
    "run local=5": "'local' is a group of keys: one of local.epochs, ",
    "run clients.x=5": "'clients' is null and has no keys of its own",
    "run rounds.x=5": "'rounds' is 10 and has no keys of its own",
    "run method.strategy._target_=nowhere.S": "cannot import 'nowhere.S': no module named 'nowhere'",
    "run method.strategy._target_=toy.Stratgy": "module 'toy' has no 'Stratgy'; did you mean 'Strategy'?",
    "run method.strategy._target_=Strategy": "'Strategy' is not an import path",
    "run method.strategi._target_=toy.Strategy": "unknown key 'method.strategi'; did you mean 'strategy'?",
    "run rounds": "'rounds' is not an override: key=value is needed",
    "run rounds=[1": "'rounds=[1' is not an override",
    "run ~rounds": "'~rounds': keys cannot be removed",
    "run data@x=har": "'data@x=har': '@' is not used here",
    "run seed=1,2": "'seed=1,2' names several values: add -m",
    "run local.steps=${local.nothing}": "cannot be resolved: Interpolation key 'local.nothing' not found",
    "run -m method=fedavg_ft,fedproxy": "unknown method 'fedproxy'",
    "run --ronds 5": "unrecognized arguments: --ronds (`fedkd run --help` shows how it is used)",
    "compare a --out b --alow-different": "--alow-different; did you mean '--allow-different'?",
    "rum": "unknown command 'rum'; did you mean 'run'?",
    "list metods": "unknown group 'metods'; did you mean 'method'?",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_told_in_one_sentence(line: str, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("fedkd: ") and told.err.count("\n") == 1
    assert MISTAKES[line] in told.err
    assert list(toy.iterdir()) == []


@pytest.mark.parametrize("line", ["report runs/frist", "resume runs/frist", "compare runs/frist --out here"])
def test_a_folder_that_is_not_there(line: str, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (toy / "runs" / "first").mkdir(parents=True)
    (toy / "runs" / "first" / "config.yaml").touch()
    assert main(line.split()) == 2
    assert capsys.readouterr().err.rstrip().endswith("; did you mean 'first'?")


def test_a_file_of_ones_own_that_breaks(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (toy / "mine_broken.py").write_text("class Mine\n")
    assert main(["run", "method.strategy._target_=mine_broken.Mine"]) == 2
    assert "cannot import 'mine_broken.Mine': SyntaxError" in capsys.readouterr().err


def test_the_program_itself_ends_with_code_2(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "simulations.cli", "run", "clients=0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []
