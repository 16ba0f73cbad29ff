"""Going on with a run that was cut off, from its newest whole checkpoint, to the same final figures."""

import os
import sys
from pathlib import Path

from simulations.run import opened
from simulations.rundir import hold, load_config
from simulations.saved import newest
from simulations.session import play_into
from simulations.strategy_state import load_strategy_state


def resume(out: Path) -> None:
    """Play what is left of the run in the folder `out`; without any whole checkpoint that is all of it."""
    config = {**load_config(out), "out": str(out)}
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the user's own modules, as when the run was started
    with hold(out), opened(config) as (prepared, grid):
        saved = newest(out)
        if saved is not None:
            prepared.arrays = saved.arrays
            load_strategy_state(prepared.strategy, saved.strategy)
            grid.load_client_states(saved.clients)
        done = saved.round if saved else 0
        print(f"{out}: {done} of {config['rounds']} rounds are done", flush=True)
        play_into(out, prepared, grid, grid.get_node_ids(), first=done + 1)
