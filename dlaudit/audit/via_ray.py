"""Jobs on a Ray cluster, or on a Ray started for the run: the only door to that library.

An extra (``pip install dlaudit[ray]``). Every node must see the run's folder and the plan's files
under the same paths, and Ray authenticates nobody: whoever reaches its ports runs code there. Keep
it to machines and networks that you trust.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from dlaudit.audit.executor import TICK, Limits, Pool, late, one_thread
from dlaudit.audit.perform import Done, Job, Opened, Workplace, open_workplace
from dlaudit.audit.plan import Source
from dlaudit.audit.record import Errored
from dlaudit.audit.wire import Begin, Perform, Refused, Reply, Request
from dlaudit.errors import PlanError

os.environ.setdefault(
    "RAY_USAGE_STATS_ENABLED", "0"
)  # no telemetry, whatever the library's default
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


class Serving:
    """What an actor does: it opens the plan, then performs jobs. Messages are bytes, not pickles."""

    def __init__(self) -> None:
        """Nothing is open yet."""
        self._workplace: Workplace | None = None

    def answer(self, message: bytes) -> bytes:
        """The reply to one request, both as in ``wire``."""
        request = cast("Request", msgspec.msgpack.decode(message, type=Request))
        return msgspec.msgpack.encode(self._reply(request))

    def _reply(self, request: Request) -> Reply:
        if isinstance(request, Begin):
            try:
                opened, self._workplace = open_workplace(request.source)
            except PlanError as error:
                return Refused(problems=error.problems)
            return opened
        if self._workplace is None:
            return Refused(problems=("nothing is open",))
        with one_thread():
            return self._workplace.perform(request.job)


class RayExecutor(Pool["RayWorker"]):
    """On a Ray cluster (``RAY_ADDRESS``), or on a Ray started for this run."""

    name = "ray"

    def __init__(self, slots: int | None = None, limits: Limits | None = None) -> None:
        """slots: actors at a time. Raises PlanError if Ray is not installed."""
        super().__init__(slots, limits)
        try:
            import ray
        except ImportError as error:
            message = "--executor ray: Ray is not installed. Install dlaudit[ray]."
            raise PlanError(message) from error
        self._ray = ray
        self._ours = not ray.is_initialized()
        if self._ours and "RAY_ADDRESS" in os.environ:
            ray.init(log_to_driver=False)
        elif self._ours:
            ray.init(
                num_cpus=self.slots, include_dashboard=False, log_to_driver=False,
                configure_logging=False,
            )  # fmt: skip

    def start(self, source: Source) -> RayWorker:
        """See ``Pool``."""
        return RayWorker(source, self._ray)

    def pause(self, workers: Sequence[RayWorker]) -> None:
        """See ``Pool``."""
        asked = [worker.asked for worker in workers if worker.asked is not None]
        if asked:
            self._ray.wait(asked, num_returns=1, timeout=TICK)

    def close(self) -> None:
        """See ``Pool``; a Ray that was started here is shut down."""
        super().close()
        if self._ours and self._ray.is_initialized():
            self._ray.shutdown()


class RayWorker:
    """One actor, seen from the driver."""

    def __init__(self, source: Source, ray: Any) -> None:
        """Start the actor and have it open the plan."""
        self.job: Job | None = None
        self._ray = ray
        self._opened = False
        actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Serving)
        self._actor = actor.remote()
        self._since = time.monotonic()
        self.asked: Any = self._ask(Begin(source=source))
        self._next: Perform | None = None

    def perform(self, job: Job) -> None:
        """See ``AnyWorker``."""
        self.job = job
        self._since = time.monotonic()
        if self._opened:
            self.asked = self._ask(Perform(job=job))
        else:
            self._next = Perform(job=job)

    def poll(self, limits: Limits) -> Reply | Errored | None:
        """See ``AnyWorker``."""
        if self.asked is None:
            return None
        if not self._ray.wait([self.asked], timeout=0)[0]:
            # Ray itself watches the memory of its nodes.
            return late(self._since, limits, opened=self._opened)
        try:
            raw = self._ray.get(self.asked)
        except self._ray.exceptions.RayError as error:
            message = f"the actor ended before it answered: {type(error).__name__}"
            return Errored(error="WorkerDied", message=message, traceback=str(error))
        self.asked = None
        reply = cast("Reply", msgspec.msgpack.decode(raw, type=Opened | Refused | Done))
        if isinstance(reply, Opened):
            self._opened, self._since = True, time.monotonic()
            if self._next is not None:
                self.asked, self._next = self._ask(self._next), None
        return reply

    def kill(self) -> None:
        """See ``AnyWorker``."""
        self._ray.kill(self._actor, no_restart=True)

    def _ask(self, message: Begin | Perform) -> Any:
        return self._actor.answer.remote(msgspec.msgpack.encode(message))
