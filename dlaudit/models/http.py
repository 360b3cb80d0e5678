"""Asks a model behind an HTTP endpoint: a black box that answers at its own pace.

Knows one protocol (``{"instances": …}`` in, ``{"predictions": …}`` out, as TensorFlow Serving and KServe
speak it); never which model answers. Nothing leaves this machine unless the plan names the host.
"""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from dlaudit.audit.evidence import digest, fingerprint
from dlaudit.audit.files import refusal
from dlaudit.audit.parts import Model
from dlaudit.audit.record import Card, canonical
from dlaudit.errors import AuditError, nearest
from dlaudit.models.declared import DENSE, checked_batch, checked_bounds, checked_classes

if TYPE_CHECKING:
    import numpy as np

LOOPBACK = ("localhost", "127.0.0.1", "::1")
FORMS = ("logits", "logit", "probabilities", "probability", "decisions", *DENSE)
BATCH = 64
ANSWER = 64 * 1024 * 1024
"""Bytes of one answer."""

AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which asking again makes sense."""


class EndpointFailed(AuditError):
    """The endpoint gave no usable answer, however often it was asked."""


def load(
    *,
    url: str,
    host: str | None = None,
    bounds: list[Any] | None = None,
    classes: list[str] | None = None,
    output: str = "",
    key: str = "predictions",
    headers: dict[str, str] | None = None,
    per_second: float = 20.0,
    tries: int = 4,
    timeout: float = 30.0,
    version: str = "",
    batch: int = BATCH,
) -> Model:
    """A model behind ``url``, asked with POST: decisions, and logits where it gives scores.

    host: must be named where it is not this machine. output: ``logits``, ``logit``, ``probabilities``,
    ``probability`` or ``decisions``, or the task ``multilabel`` or ``segmentation``; recognised if it is
    not said, except decisions and tasks. key: where the
    outputs stand in the answer. headers: such as ``{ Authorization = "Bearer ${TOKEN}" }``. per_second:
    requests at most; tries: of each, with growing pauses; timeout: seconds of each. version: what you
    say the endpoint runs: its identity, which nobody here can check. Raises LoadError.
    """
    limits, names, size = (
        checked_bounds(bounds),
        checked_classes(classes or []),
        checked_batch(batch),
    )
    place = _checked_url(url, host)
    if output and output not in FORMS:
        raise refusal(
            None, "output", expected=f"one of {', '.join(FORMS)}", got=repr(output),
            hint=nearest(output, FORMS),
        )  # fmt: skip
    for name, value in (("per_second", per_second), ("tries", tries), ("timeout", timeout)):
        if not (math.isfinite(value) and value > 0):
            raise refusal(None, name, expected="a number above 0", got=str(value))
    for name, text in (headers or {}).items():
        if not name.isascii() or any(sign in name + text for sign in "\r\n\0"):
            raise refusal(None, "headers", expected="one line of text each", got=repr(name))
    asked = Endpoint(
        url, key=key, headers=headers or {}, pause=1 / per_second, tries=tries, timeout=timeout
    )

    from dlaudit.models.black_box import BlackBox

    settings = {"url": url, "key": key, "output": output, "version": version}
    card = Card(
        name=place, fingerprint=fingerprint([("settings", digest(canonical(settings)))]),
        facts={
            "kind": "HTTP endpoint", "url": url, "version": version or "not declared",
            "identity": "declared: what answers behind the address cannot be checked from here",
        },
    )  # fmt: skip
    if output in DENSE:
        from dlaudit.models.structured import Structured

        return Structured(asked, output, card=card, bounds=limits, classes=names, batch=size)
    return BlackBox(asked, card=card, bounds=limits, classes=names, batch=size, form=output)


def _checked_url(url: str, host: str | None) -> str:
    """The host that is asked. Raises LoadError unless it is this machine or named by the plan."""
    try:
        parts = urlsplit(url)
        place, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise refusal(None, "url", expected="http://host:port/path", got=repr(url)) from error
    if parts.scheme not in {"http", "https"} or not place or parts.username or parts.password:
        raise refusal(
            None, "url", expected="http://host:port/path, without a user's name", got=repr(url),
            hint='Secrets go into headers = { Authorization = "Bearer ${TOKEN}" }.',
        )  # fmt: skip
    if host is not None and host != place:
        raise refusal(None, "host", expected=f"the url's host, {place!r}", got=repr(host))
    if host is None and place not in LOOPBACK:
        raise refusal(
            None, "url", expected=f"this machine ({', '.join(LOOPBACK)})", got=repr(place),
            hint=f'The data would leave this machine. If that is meant, add host = "{place}".',
        )  # fmt: skip
    return place


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it could lead to a host that the plan does not name."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse."""


class Endpoint:
    """Calls the endpoint with arrays, one request at a time."""

    def __init__(
        self,
        url: str,
        *,
        key: str,
        headers: dict[str, str],
        pause: float,
        tries: int,
        timeout: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """pause: seconds from the start of one request to that of the next."""
        self._url, self._key = url, key
        self._headers = {"Content-Type": "application/json", **headers}
        self._pause, self._tries, self._timeout = pause, tries, timeout
        self._sleep, self._clock = sleep, clock
        self._next = 0.0
        # Neither proxies of the environment nor redirections: what is asked is what the plan says.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay())

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x: (B, *input) -> the outputs' rows. Raises EndpointFailed."""
        import numpy as np

        body = json.dumps({"instances": x.tolist()}).encode()
        problem = ""
        for attempt in range(self._tries):
            self._wait(2.0**attempt * self._pause if attempt else 0.0)
            try:
                answer = self._asked(body)
            except urllib.error.HTTPError as error:
                error.close()
                problem = f"status {error.code}"
                if error.code not in AGAIN:
                    break
            except (OSError, HTTPException) as error:
                problem = f"{type(error).__name__}: {getattr(error, 'reason', error)}"
            else:
                rows = self._rows(answer, len(x))
                return np.asarray(rows)
        message = (
            f"{self._url}: expected an answer, got {problem} ({attempt + 1} of {self._tries} tries)"
        )
        raise EndpointFailed(message)

    def _wait(self, extra: float) -> None:
        now = self._clock()
        if (left := max(self._next - now, 0.0) + extra) > 0:
            self._sleep(left)
        self._next = max(now, self._next) + extra + self._pause

    def _asked(self, body: bytes) -> bytes:
        request = urllib.request.Request(self._url, body, self._headers, method="POST")  # noqa: S310
        with self._opener.open(request, timeout=self._timeout) as answer:
            content: bytes = answer.read(ANSWER + 1)
        return content

    def _rows(self, answer: bytes, n: int) -> list[Any]:
        if len(answer) > ANSWER:
            self._unusable(f"more than {ANSWER} bytes")
        try:
            given = json.loads(answer)
        except (ValueError, RecursionError) as error:
            self._unusable("no JSON", error)
        if not isinstance(given, dict) or self._key not in given:
            got = (
                f"only {', '.join(given)}"
                if isinstance(given, dict)
                else f"a {type(given).__name__}"
            )
            self._unusable(got)
        rows = given[self._key]
        if not isinstance(rows, list) or len(rows) != n:
            count = len(rows) if isinstance(rows, list) else "no"
            self._unusable(f"{count} rows for {n} inputs")
        return list(rows)

    def _unusable(self, got: str, cause: Exception | None = None) -> NoReturn:
        message = f'{self._url}: expected {{"{self._key}": one row per input}}, got {got}'
        raise EndpointFailed(message) from cause
