"""An endpoint on this machine is asked slowly, again where that helps, and never elsewhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from dlaudit.errors import LoadError
from dlaudit.models import http
from dlaudit.models.http import Endpoint, EndpointFailed

WEIGHTS = np.array([[1.0, -1.0], [0.5, 0.25], [-2.0, 1.0]])
X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)


class Server(ThreadingHTTPServer):
    """Answers with ``statuses`` first, then with logits; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []
        self.asked: list[dict] = []
        self.body = b""
        self.location = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/predict"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append({"n": len(content["instances"]), "headers": dict(self.headers)})
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 0:
            self.connection.close()
            return
        answer = {"predictions": (np.array(content["instances"]) @ WEIGHTS).tolist()}
        body = self.server.body or json.dumps(answer).encode()
        self.send_response(status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_an_endpoint_answers_like_its_model(server, monkeypatch):
    monkeypatch.setenv(
        "http_proxy", "http://127.0.0.1:1"
    )  # a proxy of the environment is not asked
    model = http.load(url=server.url, per_second=1000, batch=4, headers={"X-Key": "k"})
    assert model.recognise(X) == "logits"
    np.testing.assert_allclose(model.logits(X).numpy(), X @ WEIGHTS, rtol=1e-5)
    assert [one["n"] for one in server.asked] == [4, 4, 2] * 2
    assert server.asked[0]["headers"]["X-Key"] == "k"
    assert model.offers == {"decisions", "logits"}
    assert "declared" in model.card.facts["identity"]
    assert "k" not in json.dumps(model.card.facts["url"])


@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_a_failure_that_may_pass_is_asked_again(server, status):
    server.statuses = [status, status]
    model = http.load(url=server.url, per_second=1000)
    np.testing.assert_allclose(model.logits(X).numpy(), X @ WEIGHTS, rtol=1e-5)
    assert len(server.asked) == 3


def test_it_gives_up_after_so_many_tries(server):
    server.statuses = [500] * 9
    with pytest.raises(EndpointFailed, match=r"got status 500 \(3 of 3 tries\)"):
        http.load(url=server.url, per_second=1000, tries=3).logits(X)
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_not_asked_again(server, status):
    server.statuses = [status] * 9
    with pytest.raises(EndpointFailed, match=rf"status {status} \(1 of 4 tries\)"):
        http.load(url=server.url, per_second=1000).logits(X)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_is_not_followed(server, status):
    server.statuses, server.location = [status], server.url
    with pytest.raises(EndpointFailed, match=f"status {status}"):
        http.load(url=server.url, per_second=1000).logits(X)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"hello", "no JSON"), (b"[1]", "a list"), (b"{}", "only"), (b'{"outputs": []}', "only outputs"),
        (b'{"predictions": [[1, 2]]}', "1 rows for 10"), (b'{"predictions": 3}', "no rows"),
        (b"[" * 200_000, "no JSON"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_named(server, body, said):
    server.body = body
    with pytest.raises(EndpointFailed, match=said):
        http.load(url=server.url, per_second=1000).logits(X)


def test_ragged_rows_and_words_are_refused_when_the_model_is_opened(server):
    for rows in ([["a", "b"]] * 10, [[1, 2]] * 9 + [[1]]):
        server.body = json.dumps({"predictions": rows}).encode()
        with pytest.raises(LoadError):
            http.load(url=server.url, per_second=1000).recognise(X)


def test_nobody_there_is_said():
    model = http.load(url="http://127.0.0.1:9/predict", per_second=1000, tries=2)
    with pytest.raises(EndpointFailed, match=r"ConnectionRefusedError|URLError"):
        model.logits(X)


def test_requests_are_spaced_and_pauses_grow():
    """By a clock of its own: no test waits."""
    now, slept = [0.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    endpoint = Endpoint("http://127.0.0.1:9/", key="p", headers={}, pause=0.5, tries=4, timeout=1,
                        sleep=sleep, clock=lambda: now[0])  # fmt: skip
    starts = []

    def asked(body):
        starts.append(now[0])
        if len(starts) in {2, 3}:
            raise ConnectionResetError
        return b'{"p": [[1]]}'

    endpoint._asked = asked
    for _ in range(3):
        endpoint(np.zeros((1, 1)))
    assert starts == [0.0, 0.5, 2.0, 4.5, 5.0]
    assert np.diff(starts).min() >= 0.5


BAD = [
    ({"url": "http://example.org/p"}, 'add host = "example.org"'),
    ({"url": "http://127.0.0.1.example.org/"}, "this machine"),
    ({"url": "http://example.org/p", "host": "example.com"}, "host: expected the url's host"),
    ({"url": "ftp://127.0.0.1/p"}, "url: expected http"),
    ({"url": "file:///etc/passwd"}, "url: expected http"),
    ({"url": "127.0.0.1:80"}, "url: expected http"), ({"url": ""}, "url: expected http"),
    ({"url": "http://me:secret@127.0.0.1/"}, "Secrets go into headers"),
    ({"url": "http://[::1/"}, "url: expected http"), ({"url": "http://127.0.0.1:99999/"}, "url: expected"),
    ({"output": "logit s"}, "Did you mean logits?"), ({"per_second": 0}, "per_second: expected a number"),
    ({"tries": 0}, "tries: expected"), ({"timeout": float("inf")}, "timeout: expected"),
    ({"headers": {"A": "b\r\nC: d"}}, "headers: expected one line"), ({"batch": 0}, "batch: expected"),
    ({"bounds": [1, 0]}, "bounds: expected low below high"), ({"classes": ["a"]}, "classes: expected"),
]  # fmt: skip


@pytest.mark.parametrize("row", BAD, ids=[str(row[0]) for row in BAD])
def test_what_a_plan_may_not_ask_is_refused_in_one_sentence(row):
    args, said = row
    with pytest.raises(LoadError) as refused:
        http.load(**({"url": "http://127.0.0.1:9/"} | args))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_machine_may_be_named():
    model = http.load(url="http://models.example.org/p", host="models.example.org")
    assert model.card.name == "models.example.org"
