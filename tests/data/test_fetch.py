"""Downloads from a server on this machine: what goes well, and everything that can go wrong on the way."""

import errno
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recurra.data import fetch as fetching
from recurra.data.fetch import DataSet, RemoteFile, cache_folder, fetch, fetched, sets
from recurra.errors import DataError, RunError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FIRST, SECOND = b"a few words\n" * 20_000, b"\x00\x01\xff"


def remote(name: str, content: bytes) -> RemoteFile:
    return RemoteFile(name, len(content), hashlib.sha256(content).hexdigest())


TOY = DataSet(
    "toy",
    "two files",
    repository="someone/some-data",
    commit=COMMIT,
    folder="raw data",
    files=(remote("train/first.txt", FIRST), remote("second.bin", SECOND)),
)
FIRST_URL = f"/someone/some-data/{COMMIT}/raw%20data/train/first.txt"
SECOND_URL = f"/someone/some-data/{COMMIT}/raw%20data/second.bin"


@dataclass
class Answer:
    """What the server says: a status, a body, and how long it claims the body to be (None: no length at all)."""

    status: int = 200
    body: bytes = b""
    announced: int | None = -1


@dataclass
class Server:
    """A server that gives, to each path, one answer after another, the last one for ever."""

    url: str
    answers: dict[str, list[Answer]]
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server("", {FIRST_URL: [Answer(body=FIRST)], SECOND_URL: [Answer(body=SECOND)]})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            planned = state.answers.get(self.path, [Answer(404)])
            answer = planned.pop(0) if len(planned) > 1 else planned[0]
            self.send_response(answer.status)
            if answer.announced is not None:
                self.send_header("Content-Length", str(len(answer.body) if answer.announced < 0 else answer.announced))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        state.url = f"http://127.0.0.1:{listening.server_address[1]}"
        monkeypatch.setenv("RECURRA_MIRROR", state.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield state
        listening.shutdown()


@pytest.fixture(autouse=True)
def a_toy_set_and_a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "sets", lambda: {**sets(), "toy": TOY})
    monkeypatch.setattr(fetching, "WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "cache"))


def lying(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_set_arrives_whole_in_the_cache(server: Server, tmp_path: Path) -> None:
    assert fetched("toy") is None
    seen: list[tuple[str, int, int]] = []
    folder = fetch("toy", progress=lambda *told: seen.append(told))
    assert folder == tmp_path / "cache" / "toy" == fetched("toy")
    assert (folder / "train/first.txt").read_bytes() == FIRST
    assert (folder / "second.bin").read_bytes() == SECOND
    assert lying(folder) == {"train/first.txt", "second.bin"}
    total = len(FIRST) + len(SECOND)
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})
    assert seen[-1] == ("second.bin", total, total)
    assert ("train/first.txt", len(FIRST), total) in seen


def test_another_folder_and_another_server_can_be_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = {f"/public{path}": answers for path, answers in server.answers.items()}
    monkeypatch.setenv("RECURRA_MIRROR", "http://127.0.0.1:1")
    assert fetch("toy", folder=tmp_path / "mine", base_url=server.url + "/public/") == tmp_path / "mine" / "toy"
    assert server.asked == [f"/public{FIRST_URL}", f"/public{SECOND_URL}"]
    assert fetched("toy") is None


def test_what_is_there_is_not_fetched_again(server: Server) -> None:
    folder = fetch("toy")
    (folder / "second.bin").unlink()
    assert fetched("toy") is None
    server.asked.clear()
    seen: list[int] = []
    fetch("toy", progress=lambda name, done, total: seen.append(done))
    assert server.asked == [SECOND_URL]
    assert seen == [len(FIRST), len(FIRST) + len(SECOND)]


def test_another_file_of_that_name_is_left_as_it_is(server: Server, tmp_path: Path) -> None:
    mine = tmp_path / "cache/toy/second.bin"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"\x00\x01\xfe")
    with pytest.raises(DataError, match=r"second\.bin: is there already, but is not the file of this data set"):
        fetch("toy")
    assert mine.read_bytes() == b"\x00\x01\xfe"


@pytest.mark.parametrize(
    ("answers", "message", "tries"),
    [
        pytest.param([Answer(404)], r"first\.txt: the server answers 404 Not Found\.$", 1, id="not there"),
        pytest.param([Answer(403)], r"the server answers 403 Forbidden\.$", 1, id="not allowed"),
        pytest.param([Answer(503)], r"the server answers 503 Service Unavailable \(4 tries\)", 4, id="busy"),
        pytest.param(
            [Answer(body=FIRST.replace(b"w", b"W"))],
            rf"is not the expected file: its SHA-256 is [0-9a-f]{{64}},\nexpected {TOY.files[0].sha256}\.$",
            1,
            id="another file of the same size",
        ),
        pytest.param([Answer(body=b"words")], r"5 bytes where 240,000 are expected\.$", 1, id="a shorter file"),
        pytest.param([Answer(body=FIRST * 2)], r"more bytes where 240,000 are expected\.$", 1, id="a longer file"),
        pytest.param(
            [Answer(body=FIRST[:99_999], announced=len(FIRST))],
            r"the answer broke off after 99,999 of 240,000 bytes \(4 tries\)\.\nIs there a network\?",
            4,
            id="cut short",
        ),
        pytest.param(
            [Answer(body=FIRST[:99_999], announced=None)],
            r"99,999 bytes where 240,000 are expected\.$",
            1,
            id="cut short, no length announced",
        ),
    ],
)
def test_what_the_server_does_wrong_is_told(
    server: Server, tmp_path: Path, answers: list[Answer], message: str, tries: int
) -> None:
    server.answers[FIRST_URL] = answers
    seen = [0]
    with pytest.raises(DataError, match=message) as caught:
        fetch("toy", progress=lambda name, done, total: seen.append(done))
    assert FIRST_URL in str(caught.value)
    assert max(seen) <= len(FIRST), "what comes beyond the expected size is not taken in"
    assert server.asked == [FIRST_URL] * tries
    assert lying(tmp_path) == set(), "nothing half fetched lies about"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Answer(500), id="server error"),
        pytest.param(Answer(429), id="too many requests"),
        pytest.param(Answer(body=FIRST[:70_000], announced=len(FIRST)), id="cut short"),
    ],
)
def test_a_fault_that_passes_is_tried_again(server: Server, monkeypatch: pytest.MonkeyPatch, fault: Answer) -> None:
    waited: list[float] = []
    monkeypatch.setattr(fetching, "WAITS", (1.0, 2.0, 4.0))
    monkeypatch.setattr(fetching.time, "sleep", waited.append)
    server.answers[FIRST_URL] = [fault, fault, Answer(body=FIRST)]
    folder = fetch("toy")
    assert (folder / "train/first.txt").read_bytes() == FIRST
    assert server.asked == [FIRST_URL] * 3 + [SECOND_URL]
    assert waited == [1.0, 2.0]


def test_no_network_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as bound:  # bound and not listening: nobody answers there
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RECURRA_MIRROR", f"http://127.0.0.1:{bound.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(DataError, match=r"cannot be reached: .*refused.* \(4 tries\)\.\nIs there a network\?"):
            fetch("toy")
    assert lying(tmp_path) == set()


def test_a_server_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", 0.05)
    monkeypatch.setattr(fetching, "WAITS", ())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    silent = socket.create_server(("127.0.0.1", 0))
    start = time.monotonic()
    with silent, pytest.raises(DataError, match="cannot be reached: timed out"):
        fetch("toy", base_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("address", ["ftp://host", "host/path", "file:///etc", "http://", "http://[", "http://h:port"])
def test_an_address_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RECURRA_MIRROR", address)
    with pytest.raises(DataError, match=f"^RECURRA_MIRROR: {re.escape(repr(address))} is not an http or https address"):
        fetch("toy")
    with pytest.raises(DataError, match=r"^base_url: "):
        fetch("toy", base_url=address)


def test_a_name_no_resolver_takes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DataError, match="cannot be reached"):
        fetch("toy", base_url="http://a..b")


def test_a_full_disk_is_told(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, piece: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(
        Path, "open", lambda path, mode="r": Full(opened(path, mode)) if mode == "wb" else opened(path, mode)
    )
    with pytest.raises(RunError, match=r"first\.txt: cannot be written: No space left on device"):
        fetch("toy")
    assert lying(tmp_path) == set()


def test_a_cache_that_cannot_be_a_folder_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(DataError, match=r"first\.txt: cannot be opened: Not a directory\.$"):
        fetch("toy")
    assert server.asked == []


def test_an_interrupt_leaves_nothing_half_fetched(server: Server, tmp_path: Path) -> None:
    def stop(name: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("toy", progress=stop)
    assert lying(tmp_path) == set()
    assert lying(fetch("toy")) == {"train/first.txt", "second.bin"}


def test_a_kill_leaves_no_half_file_under_a_name(server: Server, tmp_path: Path) -> None:
    """Killed in the middle of a file, then fetched again: whole."""
    server.answers[FIRST_URL] = [Answer(body=FIRST[:100_000], announced=len(FIRST)), Answer(body=FIRST)]
    # The process ends itself, without warning, as soon as the first bytes have reached the disk.
    script = (
        "import os, signal, sys\n"
        "from recurra.data import fetch\n"
        f"toy = fetch.DataSet('toy', '', 'someone/some-data', {COMMIT!r}, 'raw data', '', "
        f"(fetch.RemoteFile('train/first.txt', {len(FIRST)}, {TOY.files[0].sha256!r}),))\n"
        "fetch.sets = lambda: {'toy': toy}\n"
        "fetch.fetch('toy', progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "cache/toy/train/first.txt").exists()
    assert (fetch("toy") / "train/first.txt").read_bytes() == FIRST


def test_names_that_cannot_be_fetched() -> None:
    with pytest.raises(DataError, match="unknown data set 'minst'; did you mean 'mnist'"):
        fetch("minst")
    with pytest.raises(DataError, match="digits: is part of Recurra; there is nothing to fetch"):
        fetch("digits")
    with pytest.raises(DataError, match=r"imdb: is not offered for download: .*\nInstead, unpack aclImdb_v1"):
        fetch("imdb")


def test_every_set_is_either_offered_or_explained() -> None:
    for name, each in sets().items():
        assert each.name == name
        assert each.summary
        if each.withheld:
            assert each.instead, name
            assert not each.files, name
            continue
        assert each.terms, name
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", each.repository), name
        assert re.fullmatch("[0-9a-f]{40}", each.commit), name
        assert each.files, name
        for file in each.files:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256), file
            assert file.size > 0, file
            assert not Path(file.name).is_absolute(), file
            assert ".." not in Path(file.name).parts, file


def test_the_table_names_the_files_the_tests_use(data_folder: Path) -> None:
    """Each file offered is the one lying beside the checkout, byte for byte."""
    offered = [each for each in sets().values() if each.files and (data_folder / each.name).is_dir()]
    assert offered
    for each in offered:
        for file in each.files:
            content = (data_folder / each.name / file.name).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256), file.name


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RECURRA_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"RECURRA_CACHE": "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/recurra"),
        ({"RECURRA_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/recurra"),
    ],
)
def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


def test_no_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("RECURRA_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(DataError, match="name a folder in RECURRA_CACHE"):
        cache_folder()
