"""Downloads: folder, then cache, then network; only the published bytes; nothing half done."""

import gzip
import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from attn.tasks import download
from attn.tasks.download import DataUnavailable, available, fetch
from attn.tasks.sources import SOURCES, RemoteFile, Source

CONTENT = gzip.compress(b"a line\n" * 1000, mtime=0)


class Server:
    """A local web server that answers every request with `body`, and counts them."""

    def __init__(self) -> None:
        self.body, self.status, self.requests = CONTENT, 200, 0
        self.announced: int | None = None  # a false Content-Length
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.requests += 1
                self.send_response(owner.status)
                length = len(owner.body) if owner.announced is None else owner.announced
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(owner.body)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file.gz"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no ATTN_DATA, and no proxy between the test and its own server."""
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("ATTN_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache"


def _file(url: str, content: bytes = CONTENT) -> RemoteFile:
    return RemoteFile("file.gz", url, hashlib.sha256(content).hexdigest())


def _no_server() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/file.gz"


def _files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_downloaded_once_and_then_taken_from_the_cache(
    server: Server, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        path = fetch(_file(server.url), "set")
        assert path == cache / "set" / "file.gz"
        assert path.read_bytes() == CONTENT
    assert server.requests == 1
    assert _files_in(cache) == ["file.gz"]
    assert capfd.readouterr().err == ""  # a notebook's outputs stay the same, download or not


def test_no_network_is_one_line_with_both_ways(cache: Path) -> None:
    with pytest.raises(DataUnavailable) as caught:
        fetch(_file(_no_server()), "set")
    message = str(caught.value)
    assert "\n" not in message
    assert "connect to the network" in message
    assert "set ATTN_DATA (now: not set) to a folder that holds set/file.gz" in message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert _files_in(cache) == []


@pytest.mark.parametrize(
    "body",
    [CONTENT[:-10], b"<html>please log in</html>", b"", CONTENT + b"x"],
    ids=["truncated", "a login page", "empty", "too long"],
)
def test_a_corrupted_download_leaves_nothing_and_the_next_one_works(
    server: Server, cache: Path, body: bytes
) -> None:
    server.body = body
    with pytest.raises(DataUnavailable, match=r"not the published ones.*or set ATTN_DATA"):
        fetch(_file(server.url), "set")
    assert _files_in(cache) == []
    server.body = CONTENT
    assert fetch(_file(server.url), "set").read_bytes() == CONTENT


def test_a_connection_that_breaks_off_leaves_nothing(server: Server, cache: Path) -> None:
    server.body, server.announced = CONTENT[:20], len(CONTENT)
    with pytest.raises(DataUnavailable):
        fetch(_file(server.url), "set")
    assert _files_in(cache) == []


def test_a_file_that_is_gone_from_the_server(server: Server, cache: Path) -> None:
    server.status = 404
    with pytest.raises(DataUnavailable, match="HTTPError"):
        fetch(_file(server.url), "set")
    assert _files_in(cache) == []


def test_a_damaged_cache_is_downloaded_again(server: Server, cache: Path) -> None:
    (cache / "set").mkdir(parents=True)
    (cache / "set" / "file.gz").write_bytes(CONTENT[:100])
    assert fetch(_file(server.url), "set").read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written(server: Server, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataUnavailable, match=r"make .*cache.* writable, or set ATTN_DATA"):
        fetch(_file(server.url), "set")


def test_the_folder_comes_first_and_is_only_read(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data" / "set" / "file.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    path.parent.chmod(0o500)
    monkeypatch.setenv("ATTN_DATA", str(tmp_path / "data"))
    assert fetch(_file(_no_server()), "set") == path
    assert not cache.exists()
    path.parent.chmod(0o700)


def test_a_damaged_file_in_the_folder_is_an_error_not_a_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "set" / "file.gz"
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-10])
    monkeypatch.setenv("ATTN_DATA", str(tmp_path))
    with pytest.raises(DataUnavailable, match=r"file\.gz is damaged .*replace it .* unset ATTN_DATA"):
        fetch(_file(server.url), "set")
    assert server.requests == 0
    assert path.read_bytes() == CONTENT[:-10]


def test_a_folder_without_the_file_falls_back_and_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTN_DATA", "no/such/folder")
    with pytest.raises(DataUnavailable, match=r"set ATTN_DATA \(now: no/such/folder\)"):
        fetch(_file(_no_server()), "set")
    assert fetch(_file(server.url), "set").read_bytes() == CONTENT


def test_available_never_asks_the_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = (_file(server.url), _file(server.url)._replace(name="other.gz"))
    monkeypatch.setitem(SOURCES, "multi30k", Source("A set", "set", "free", files))
    assert not available("multi30k")
    fetch(files[0], "set")
    assert not available("multi30k")  # one of two
    monkeypatch.setenv("ATTN_DATA", str(tmp_path))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "other.gz").write_bytes(CONTENT)
    before = server.requests
    assert available("multi30k")  # one from the cache, one from the folder
    assert server.requests == before
    with pytest.raises(
        ValueError, match="no data set is called 'imagenet'; there are: multi30k, multi30k-fr"
    ):
        available("imagenet")


def test_the_table_names_every_file_once_with_a_whole_hash() -> None:
    for source in SOURCES.values():
        names = [file.name for file in source.files]
        assert len(set(names)) == len(names)
        for file in source.files:
            assert file.url.startswith("https://")
            assert file.url.endswith("/" + file.name)
            assert len(bytes.fromhex(file.sha256)) == 32
