"""Loads an ONNX model that onnxruntime runs, with gradients where a torch form agrees with it.

Knows onnxruntime. What is trusted: its own operators; operators of other domains need a library and
are refused, and so is data outside the model's folder.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaudit.audit.files import identity, named_file, refusal, said
from dlaudit.audit.parts import Model
from dlaudit.audit.record import Card
from dlaudit.errors import UntrustedModel
from dlaudit.models import airlock
from dlaudit.models.declared import (
    DENSE,
    checked_batch,
    checked_bounds,
    checked_classes,
    checked_task,
)
from dlaudit.models.onnx_reading import References, references

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.models.onnx_module import OnnxModule

BATCH = 512
DOMAINS = {
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.preview.training",
    "com.microsoft",
    "com.microsoft.nchwc",
}
"""Whose operators onnxruntime brings along."""

TYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16",
    "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(int16)": "int16",
    "tensor(int8)": "int8", "tensor(uint8)": "uint8", "tensor(bool)": "bool",
}  # fmt: skip


def load(
    *,
    root: Path,
    path: str,
    bounds: list[Any] | None = None,
    classes: list[str] | None = None,
    output: str | None = None,
    reshape: bool = False,
    batch: int = BATCH,
    task: str = "",
) -> Model:
    """An ONNX model, run by onnxruntime: decisions and logits.

    Where every operator has a torch form, and its outputs agree with the runtime's on the data's
    first rows, the model offers gradients and a module as well; else its card says why not.

    A model for a fixed number of samples is given so many at a time, filled up with zeros. Axes of
    length 1 are added or dropped to fit its input; reshape: read each sample row by row into the
    shape that it declares. output: which of its outputs to use (default: ``logits``, else the first
    of numbers). bounds: ``[low, high]`` of valid inputs. task: ``multilabel`` or ``segmentation``
    where it decides no one class per sample. Raises LoadError, or UntrustedModel for data outside the
    model's folder.
    """
    checked_task(task, DENSE)
    limits, names, size = (
        checked_bounds(bounds),
        checked_classes(classes or []),
        checked_batch(batch),
    )
    file = named_file(root, path, expected="an ONNX model")
    found = _references(file)
    outside = sorted(set(found.domains) - DOMAINS)
    if outside:
        raise refusal(
            file, "operators", expected="those of onnxruntime", got=f"the domain {outside[0]!r}",
            hint="Operators that need a library of their own are not loaded.",
        )  # fmt: skip
    parts = {"model": file}
    for number, location in enumerate(found.locations):
        parts[f"external {number}"] = _beside(file, location)

    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise refusal(
            file, expected="a model that onnxruntime can run", got=said(error),
            hint="Was the file copied to its end?",
        ) from error  # fmt: skip
    runner = Runner(session, file, output=output, reshape=reshape)
    fingerprint, facts = identity(parts, {"output": output, "reshape": reshape})

    from dlaudit.models.onnx_twin import OnnxModel

    card = Card(
        name=file.name,
        fingerprint=fingerprint,
        facts={
            "kind": "ONNX", **facts, "input_shape": runner.declared, "output_name": runner.output,
            "airlock": {"model": "ONNX, read as data"}, "runtime": f"onnxruntime {onnxruntime.__version__}",
        },
    )  # fmt: skip
    if task:
        from dlaudit.models.structured import Structured

        return Structured(runner, task, card=card, bounds=limits, classes=names, batch=size)
    model = OnnxModel(runner, card=card, bounds=limits, classes=names, batch=size)
    model.adopt(*_torch_form(file, runner))
    return model


def _torch_form(file: Path, runner: Runner) -> tuple[OnnxModule | None, str]:
    """A torch module of the same graph, or why there is none."""
    from dlaudit.models.onnx_graph import Untranslatable, graph_of
    from dlaudit.models.onnx_module import OnnxModule

    if not runner.dtype.startswith("float"):
        return None, f"its inputs are of the type {runner.dtype}"
    try:
        graph = graph_of(memoryview(file.read_bytes()), file.parent)
    except Untranslatable as error:
        return None, f"{error} has no torch form here"
    except (ValueError, LookupError, TypeError, struct.error, OSError) as error:
        return None, f"its graph cannot be read ({said(error)})"
    try:
        return OnnxModule(
            graph,
            source=runner.input,
            output=runner.output,
            dtype=runner.dtype,
            declared=runner.declared,
        ), ""
    except Untranslatable as error:
        return None, f"{error} has no torch form here"


def _references(file: Path) -> References:
    kind = airlock.kind_of(file)
    if kind != "unknown":
        loader = airlock.READ_BY.get(kind)
        raise refusal(
            file, expected="an ONNX model", got=f"a file of the kind: {kind}",
            hint=f'use = "{loader}" reads it.' if loader else "",
        )  # fmt: skip
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        view = memoryview(mapped)
        try:
            return references(view)
        except ValueError as error:
            problem = str(error)
        finally:
            view.release()
    raise refusal(
        file, expected="a whole ONNX model", got=f"bytes that are none ({problem})",
        hint="Was the file copied to its end?",
    )  # fmt: skip


def _beside(file: Path, location: str) -> Path:
    """A file of external data, which must lie in the model's folder or below it."""
    folder = file.parent.resolve()
    leaves = not location or "\0" in location
    if leaves or not (folder / location).resolve().is_relative_to(folder):
        message = (
            f"{file}: external data: expected files in the model's folder, got {location!r}, which "
            "leaves it. It was not loaded."
        )
        raise UntrustedModel(message)
    return named_file(folder, location, expected="the model's external data")


class Runner:
    """Calls a session on any number of samples, in the shape and type that it declares."""

    def __init__(self, session: Any, file: Path, *, output: str | None, reshape: bool) -> None:
        """session: of onnxruntime. Raises LoadError unless it has one input and a usable output."""
        inputs = session.get_inputs()
        if len(inputs) != 1:
            raise refusal(
                file, "inputs", expected="one, the batch",
                got=f"{len(inputs)}: {', '.join(one.name for one in inputs)}",
                hint="Put the others into the graph, or wrap it in a `callable`.",
            )  # fmt: skip
        (self._input,) = inputs
        if self._input.type not in TYPES:
            raise refusal(file, "input", expected="numbers", got=self._input.type)
        self.declared = [size if isinstance(size, int) else "any" for size in self._input.shape]
        if not self.declared:
            raise refusal(file, "input", expected="one row per sample", got="a scalar")
        self.output = _output(session, file, output)
        self.input, self.dtype = self._input.name, TYPES[self._input.type]
        self._session, self._file, self._reshape = session, file, reshape

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x: (B, *input) -> the output's rows for these B samples."""
        import numpy as np

        x = self._fitted(x)
        fixed = self.declared[0]
        if not isinstance(fixed, int):
            return self._run(x)
        rows = []
        for start in range(0, max(len(x), 1), fixed):
            part = x[start : start + fixed]
            whole = np.zeros((fixed, *x.shape[1:]), dtype=x.dtype)
            whole[: len(part)] = part
            rows.append(self._run(whole)[: len(part)])
        return np.concatenate(rows)

    def _run(self, x: np.ndarray) -> np.ndarray:
        (given,) = self._session.run([self.output], {self._input.name: x})
        return given  # type: ignore[no-any-return]

    def _fitted(self, x: np.ndarray) -> np.ndarray:
        """x in the declared shape and type. Raises LoadError where that would be guessing."""
        import numpy as np

        wanted = np.dtype(TYPES[self._input.type])
        if x.dtype.kind == "f" and wanted.kind != "f":
            raise refusal(
                self._file, "input", expected=f"{wanted} (whole numbers)", got=str(x.dtype),
                hint="Token ids? Say tokens = true in [data].",
            )  # fmt: skip
        expected = self.declared[1:]
        if not _fits(x.shape[1:], expected):
            x = self._reshaped(x, expected)
        return np.ascontiguousarray(x, dtype=wanted)

    def _reshaped(self, x: np.ndarray, expected: list[Any]) -> np.ndarray:
        known = all(isinstance(size, int) for size in expected)
        if known and math.prod(x.shape[1:]) == math.prod(expected):
            units = [size for size in x.shape[1:] if size != 1] == [n for n in expected if n != 1]
            if units or self._reshape:
                return x.reshape(len(x), *expected)
            hint = "Both hold as many numbers: reshape = true reads each sample row by row."
        else:
            hint = ""
        raise refusal(
            self._file, f"input {self._input.name!r}", expected=f"shape {_shown(expected)} per sample",
            got=_shown(list(x.shape[1:])), hint=hint,
        )  # fmt: skip


def _output(session: Any, file: Path, output: str | None) -> str:
    """The name of the output to use."""
    given = {one.name: one.type for one in session.get_outputs()}
    if output is not None:
        if output not in given:
            raise refusal(file, "output", expected=f"one of {', '.join(given)}", got=repr(output))
        return output
    numbers = [name for name, kind in given.items() if kind in {"tensor(float)", "tensor(double)",
                                                                "tensor(float16)"}]  # fmt: skip
    if not numbers:
        kinds = ", ".join(f"{name}: {kind}" for name, kind in given.items())
        raise refusal(
            file, "outputs", expected="a tensor of logits or probabilities", got=kinds,
            hint="A classifier converted with a ZipMap? Convert it with zipmap=False.",
        )  # fmt: skip
    return "logits" if "logits" in numbers else numbers[0]


def _fits(shape: tuple[int, ...], expected: list[Any]) -> bool:
    return len(shape) == len(expected) and all(
        size in {"any", given} for size, given in zip(expected, shape, strict=True)
    )


def _shown(shape: list[Any]) -> str:
    return f"({', '.join(map(str, shape))})"
