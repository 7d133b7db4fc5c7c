"""Files of the real data sets: from the folder ATTN_DATA if they are there, else downloaded once and cached.

Either way a file is used only if its SHA-256 is the published one. A new data set is a new entry of SOURCES.
"""

import os
from pathlib import Path

import pooch

from attn.tasks.sources import SOURCES, RemoteFile


class DataUnavailable(FileNotFoundError):
    """A data file cannot be had. Its text is one line that says what to do."""


def cache_folder() -> Path:
    """The user's cache folder: downloads, and what is made of them (in XDG_CACHE_HOME on Linux)."""
    return Path(pooch.os_cache("attn"))


def available(name: str) -> bool:
    """Whether all files of the data set `name`, a key of SOURCES, can be had without the network."""
    if name not in SOURCES:
        raise ValueError(f"no data set is called {name!r}; there are: {', '.join(SOURCES)}")
    source = SOURCES[name]
    return all(
        _in_data_folder(file, source.folder) or _in_cache(file, source.folder) for file in source.files
    )


def fetch(file: RemoteFile, folder: str) -> Path:
    """The path of `file`, downloaded if it must be. `folder`: its subfolder in ATTN_DATA and in the cache.

    Raises DataUnavailable when it cannot be had or its bytes are not the published ones; no part of a file
    is left behind.
    """
    if path := _in_data_folder(file, folder):
        if not _has_hash(path, file.sha256):
            raise DataUnavailable(
                f"{path} is damaged (its SHA-256 is not {file.sha256[:12]}...): "
                "replace it by a fresh copy, or unset ATTN_DATA to download it"
            )
        return path
    if path := _in_cache(file, folder):
        return path
    return _download(file, folder)


def _in_data_folder(file: RemoteFile, folder: str) -> Path | None:
    data = os.environ.get("ATTN_DATA")
    path = Path(data) / folder / file.name if data else None
    return path if path and path.is_file() else None


def _in_cache(file: RemoteFile, folder: str) -> Path | None:
    path = cache_folder() / folder / file.name
    return path if path.is_file() and _has_hash(path, file.sha256) else None


def _has_hash(path: Path, sha256: str) -> bool:
    return pooch.file_hash(str(path), alg="sha256") == sha256


def _download(file: RemoteFile, folder: str) -> Path:
    import requests

    cache = cache_folder() / folder
    pooch.get_logger().setLevel("WARNING")  # no "Downloading ..." among a notebook's outputs
    try:
        # pooch writes to a temporary file, compares the hash, and only then gives the file its name
        return Path(pooch.retrieve(file.url, known_hash=f"sha256:{file.sha256}", fname=file.name, path=cache))
    except requests.RequestException as error:
        reason, remedy = type(error).__name__, "connect to the network and try again"
    except ValueError:
        reason, remedy = "the bytes that came are not the published ones", "try again on another network"
    except OSError as error:
        reason, remedy = str(error), f"make {cache} writable"
    data = os.environ.get("ATTN_DATA", "not set")
    raise DataUnavailable(
        f"{folder}/{file.name} could not be downloaded from {file.url} ({reason}): {remedy}, "
        f"or set ATTN_DATA (now: {data}) to a folder that holds {folder}/{file.name}"
    )
