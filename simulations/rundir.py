"""The run folder: who may write there, and how files get there whole.

A folder is absent, unfinished (it has a config.yaml) or finished (it has a summary.json too). One process at
a time holds it. Files appear by rename, so a kill at any moment leaves the old file or the new one.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import yaml
from filelock import FileLock, Timeout

from fedkd.errors import ConfigError
from simulations.checks import nearest
from simulations.config import config_hash

CONFIG = "config.yaml"
SUMMARY = "summary.json"
ABOUT = "about"
"""The key of config.yaml that holds what is recorded beside the configuration: versions, commit, hash."""

_LOCK = ".lock"
_LEFT_BEHIND = re.compile(r"\.config\.\d+\.yaml")  # by a process that was killed while it claimed a folder
_PACKAGES = ("fedkd", "torch", "flwr", "flwr-datasets", "ray", "hydra-core", "numpy", "pandas")

Standing = Literal["absent", "unfinished", "finished"]


def standing(out: Path) -> Standing:
    """What stands at `out`; ConfigError where that is something else than a run folder."""
    if not out.exists():
        if existing := next((path for path in out.parents if path.exists() and not path.is_dir()), None):
            raise ConfigError(f"out={out}: '{existing}' is a file; the path of a folder is needed")
        return "absent"
    if not out.is_dir():
        raise ConfigError(f"out={out}: this is a file; the path of a folder is needed")
    names = {path.name for path in out.iterdir() if not _LEFT_BEHIND.fullmatch(path.name)} - {_LOCK}
    if names and CONFIG not in names:
        raise ConfigError(
            f"out={out}: the folder holds files that are not of a run; another folder is needed"
        )
    return "absent" if not names else "finished" if SUMMARY in names else "unfinished"


def is_done(config: Mapping[str, Any]) -> bool:
    """Whether this very run is finished already; ConfigError where its folder is taken by anything else."""
    out = Path(config["out"])
    state = standing(out)
    if state == "absent" or config["overwrite"]:
        return False
    held = load_config(out)
    if (config_hash(held), held["seed"]) != (config_hash(config), config["seed"]):
        raise ConfigError(
            f"out={out}: a run of another configuration is there; another folder or overwrite=true is needed"
        )
    if state == "unfinished":
        raise ConfigError(
            f"out={out}: an unfinished run is there; `fedkd resume {out}` goes on, overwrite=true starts anew"
        )
    return True


@contextmanager
def claim(config: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """Hold a new run's folder: make it, write config.yaml, let nobody else in until the end.

    Call it when everything that can refuse the configuration has been built: before, nothing is written.
    about: further facts to record under `about` in config.yaml.
    """
    out = Path(config["out"])
    standing(out)
    with hold(out):
        if is_done(config):
            raise ConfigError(f"out={out}: another process has just finished this run; nothing is left to do")
        for path in out.iterdir():
            if path.name != _LOCK:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        record = {**config, ABOUT: {**environment(), "hash": config_hash(config), **(about or {})}}
        write_text(out / CONFIG, yaml.safe_dump(record, sort_keys=False, allow_unicode=True))
        yield out


@contextmanager
def hold(out: Path) -> Iterator[Path]:
    """Keep every other process from writing to `out` (resuming a run, or within `claim`)."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={out}: the folder cannot be made: {error.strerror}") from error
    lock = FileLock(out / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            f"out={out}: another process is writing there; wait for it, or choose another out"
        ) from error
    try:
        yield out
    finally:
        lock.release()


def load_config(out: Path) -> dict[str, Any]:
    """The resolved configuration that a run folder was made from."""
    try:
        config = yaml.safe_load((out / CONFIG).read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"'{out}' is not a run folder: it has no {CONFIG}{neighbour(out)}") from error
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{out / CONFIG} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict) or "choices" not in config:
        raise ConfigError(f"{out / CONFIG} is not the configuration of a fedkd run")
    return {key: value for key, value in config.items() if key != ABOUT}


def neighbour(out: Path) -> str:
    """A hint at the run folder beside `out` that has nearly its name."""
    return nearest(out.name, [config.parent.name for config in out.parent.glob(f"*/{CONFIG}")])


def environment() -> dict[str, Any]:
    """Versions of Python and the packages that matter, and the git commit where fedkd runs from a clone."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "git_commit": _git_commit(Path(__file__).parents[1]),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit(root: Path) -> str | None:
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, moved to `path` in one step when it has safely reached the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")  # writers go by the suffix
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, or leave the old one."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole binary file, or leave the old one."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
