"""Types of the compiled module; its source is csrc/python."""

from typing import TypedDict

SOURCES: str
CUDA_SEGMENT: int
EDGE_WIDTH_STEP: int
MAX_EDGE_TYPES: int

RESPONSE_STATISTICS: int
CALENDAR_RUN: int
LIKELIHOOD_RUN: int
POSTERIOR_RUN: int

class CudaError(RuntimeError): ...

class BuildInfo(TypedDict):
    version: str
    cuda: bool
    openmp: bool
    cpu_level: str

# (address, strides of the leading axes in elements, elements per step in time); None: absent
_Operand = tuple[int, tuple[int, ...], int]
_Operands = tuple[_Operand | None, ...]

def build_info() -> BuildInfo: ...
def set_cpu_level(level: str) -> str: ...

# Evidence operators: sizes, scales and addresses in the order of csrc/evidence/evidence.h
_Sizes = tuple[int, ...]
_Scales = tuple[float, ...]

def window_statistics(
    sizes: _Sizes,
    scales: _Scales,
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    threads: int,
    /,
) -> None: ...
def response_terms(
    sizes: _Sizes,
    scales: _Scales,
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    threads: int,
    /,
) -> None: ...
def mean_field(
    sizes: _Sizes,
    spread: float,
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    threads: int,
    /,
) -> None: ...
def lag_relevance(
    sizes: _Sizes,
    scales: _Scales,
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    threads: int,
    /,
) -> None: ...
def bank_relevance(
    sizes: _Sizes,
    scales: _Scales,
    receivers: list[int],
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    threads: int,
    /,
) -> None: ...

# Calendar, delays, likelihood and posterior: sizes and addresses in the order of their headers
def calendar_forward(
    sizes: _Sizes, inputs: tuple[int, ...], outputs: tuple[int, ...], threads: int, /
) -> None: ...
def calendar_backward(
    sizes: _Sizes,
    inputs: tuple[int, ...],
    kept: tuple[int, ...],
    incoming: tuple[int, ...],
    gradients: tuple[int, ...],
    threads: int,
    /,
) -> None: ...
def delay_forward(
    sizes: _Sizes, delays: list[int], earlier: int, later: int, threads: int, /
) -> None: ...
def delay_backward(
    sizes: _Sizes, delays: list[int], later: int, earlier: int, threads: int, /
) -> None: ...
def prior_forward(
    sizes: _Sizes,
    bound: float,
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    threads: int,
    /,
) -> None: ...
def prior_backward(
    sizes: _Sizes,
    bound: float,
    inputs: tuple[int, ...],
    log_share: int,
    incoming: tuple[int, ...],
    gradients: tuple[int, ...],
    threads: int,
    /,
) -> None: ...
def effects_forward(
    sizes: _Sizes,
    prior_sd: float,
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    threads: int,
    /,
) -> None: ...
def effects_backward(
    sizes: _Sizes,
    prior_sd: float,
    inputs: tuple[int, ...],
    incoming: tuple[int, ...],
    gradients: tuple[int, ...],
    threads: int,
    /,
) -> None: ...
def likelihood_forward(
    sizes: _Sizes, inputs: tuple[int, ...], nll: int, threads: int, /
) -> None: ...
def likelihood_backward(
    sizes: _Sizes,
    inputs: tuple[int, ...],
    grad_nll: int,
    gradients: tuple[int, ...],
    threads: int,
    /,
) -> None: ...

# Edge operators: addresses, 0 where absent; csrc/python/bindings.cpp lists them.
_Addresses = tuple[int, ...]
_Draw = tuple[int, bool, float, int | None, int, bool]

def edge_forward(
    sizes: tuple[int, ...],
    first: _Addresses,
    second: _Addresses,
    draw: _Draw | tuple[()],
    results: _Addresses,
    threads: int,
    /,
) -> None: ...
def edge_backward(
    sizes: tuple[int, ...],
    first: _Addresses,
    second: _Addresses,
    draw: _Draw | tuple[()],
    results: _Addresses,
    incoming: _Addresses,
    gradients: _Addresses,
    threads: int,
    /,
) -> None: ...
def response_forward(
    dtype: int,
    sizes: tuple[int, ...],
    steps: int,
    inputs: _Operands,
    response: _Operand,
    final: _Operand,
    threads: int,
    /,
) -> None: ...
def response_backward(
    dtype: int,
    sizes: tuple[int, ...],
    steps: int,
    inputs: _Operands,
    shared_axes: int,
    incoming: _Operands,
    outgoing: _Operands,
    threads: int,
    /,
) -> None: ...
def response_forward_cuda(
    dtype: int,
    sizes: tuple[int, ...],
    steps: int,
    inputs: _Operands,
    response: _Operand,
    final: _Operand,
    device: int,
    stream: int,
    /,
) -> None: ...
def response_backward_cuda(
    dtype: int,
    sizes: tuple[int, ...],
    steps: int,
    inputs: _Operands,
    shared_axes: int,
    incoming: _Operands,
    outgoing: _Operands,
    workspace: int,
    device: int,
    stream: int,
    /,
) -> None: ...
