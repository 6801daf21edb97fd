"""A serving model as one file: as ONNX, or as torch's own exported program (`.pt2`)."""

import contextlib
import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import ExportGraphSignature, InputKind

from ecdctr.exceptions import ConfigError, InputError
from ecdctr.features import FeatureSet
from ecdctr.scoring.serving import ServingModel

Format = Literal["onnx", "pt2"]
FORMATS: tuple[Format, ...] = get_args(Format)
Predict = Callable[[Mapping[str, Tensor]], NDArray[np.float64]]
"""Columns as `ecdctr.scoring.serving.columns_of` gives them → probabilities `(B,)`."""

OUTPUT = "probability"
ABOUT = "ecdctr.json"
"""The file within a `.pt2`, and the key of an ONNX file's metadata, that says what the model is."""

LARGEST_ONNX = 2**31 - 2**24
"""Bytes of weights; a message of the format may have 2 GiB in all."""


def trace(model: ServingModel, features: FeatureSet) -> ExportedProgram:
    """The graph of a serving model, with the weights that its probability depends on and no other."""
    # Two rows, since a graph that is traced with one row is one for one row.
    example = {name: torch.ones(2, dtype=torch.int64) for name in features.id_fields}
    example |= {name: torch.zeros(2) for name in features.number_fields}
    example |= {name: torch.zeros(2, length, dtype=torch.int64) for name, length in features.sequence_fields.items()}
    rows = Dim("rows", min=1)
    with torch.no_grad(), _quiet():
        program = torch.export.export(model, (example,), dynamic_shapes=({name: {0: rows} for name in example},))
    return _without_unused(program)


def parameters(program: ExportedProgram) -> int:
    """Numbers that a file of the program holds."""
    return sum(tensor.numel() for tensor in program.state_dict.values())


def write(program: ExportedProgram, path: Path, form: Format, about: Mapping[str, Any]) -> None:
    """Write the file.

    Args:
        program: As `trace` gives it.
        path: The file; its name ends as the format's.
        form: The format.
        about: What is said of the model within the file, as JSON.

    Raises:
        ConfigError: The packages that write ONNX are not installed.
        InputError: More weights than the format can hold.
    """
    if form == "pt2":
        with _quiet():
            torch.export.save(program, path, extra_files={ABOUT: json.dumps(about)})
        return
    held = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if held > LARGEST_ONNX:
        raise InputError(
            f"the model has {held:,} bytes of weights, an ONNX file may have 2 GiB",
            hint="export it with --format pt2, or train it with a smaller embedding_dim or vocabularies",
        )
    try:
        with _quiet():
            made = torch.onnx.export(
                program, input_names=list(about["inputs"]), output_names=[OUTPUT], external_data=False, verbose=False
            )
    except ImportError as error:
        raise _no_onnx(error) from error
    assert made is not None
    made.model.metadata_props[ABOUT] = json.dumps(about)
    made.save(path, external_data=False)


def load(path: Path, form: Format) -> Predict:
    """A file as whoever serves it would run it.

    Raises:
        ConfigError: onnxruntime is not installed.
    """
    if form == "pt2":
        with _quiet():
            module = torch.export.load(path).module()

        def run(columns: Mapping[str, Tensor]) -> NDArray[np.float64]:
            with torch.no_grad():
                found: NDArray[np.float64] = module(dict(columns)).double().numpy()
            return found

        return run
    try:
        import onnxruntime
    except ImportError as error:
        raise _no_onnx(error) from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    asked = [node.name for node in session.get_inputs()]

    def call(columns: Mapping[str, Tensor]) -> NDArray[np.float64]:
        given = {name: columns[name].numpy() for name in asked}
        found: NDArray[np.float64] = session.run([OUTPUT], given)[0].astype(np.float64)
        return found

    return call


def _no_onnx(error: ImportError) -> ConfigError:
    return ConfigError(f"ONNX asks for a package that is missing: {error}", hint="pip install 'ecdctr[export]'")


def _without_unused(program: ExportedProgram) -> ExportedProgram:
    """The same program without weights that nothing reads."""
    graph = copy.deepcopy(program.graph)
    graph.eliminate_dead_code()
    signature = program.graph_signature
    weights = {spec.arg.name: spec for spec in signature.input_specs if spec.kind != InputKind.USER_INPUT}
    unused = [node for node in graph.nodes if node.op == "placeholder" and not node.users and node.name in weights]
    gone = {node.name for node in unused}
    for node in unused:
        graph.erase_node(node)
    kept = [spec for spec in signature.input_specs if spec.arg.name not in gone]
    targets = {spec.target for spec in kept}
    return ExportedProgram(
        root=program.graph_module,
        graph=graph,
        graph_signature=ExportGraphSignature(kept, signature.output_specs),
        state_dict={name: tensor for name, tensor in program.state_dict.items() if name in targets},
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants={name: value for name, value in program.constants.items() if name in targets},
        verifiers=program.verifiers,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the notes of torch's exporter on its own workings, which tell a user nothing."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
