"""Response operator: carry-over (adstock recurrence) fused with saturation (Hill).

The public function lives here; `reference` holds its plain PyTorch form.
"""

from __future__ import annotations

from torch import Tensor

from causalmmm.kernels.response import reference

__all__ = ["adstock_hill"]


def adstock_hill(
    x: Tensor,
    decay: Tensor,
    slope: Tensor,
    half_saturation: Tensor,
    initial: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Response of rows of exposure: geometric carry-over, then Hill saturation (odd in its input).

        a_t = decay_t a_{t-1} + (1 - decay_t) x_t,          a_{-1} = initial
        s_t = sign(a_t) |a_t|^slope_t / (|a_t|^slope_t + half_saturation_t^slope_t)

    Args:
        x: exposure [..., T], T >= 1, time on the last axis; float32, float64 or bfloat16.
        decay: share of yesterday's stock that stays, in [0, 1); [..., 1] or, moving in time, [..., T].
        slope: steepness > 0; [..., 1] or [..., T].
        half_saturation: stock > 0 that gives half of the full response; [..., 1] or [..., T].
        initial: stock before the first step [...], without a time axis; zero when absent.

    Leading axes of all five broadcast against each other.

    Returns:
        `response` [..., T] in (-1, 1), in the dtype of `x`, and `final` [...], the stock after the
        last step, to be passed on as `initial` of the next piece of the same series. The
        computation, and `final`, are float64 for float64 `x` and float32 otherwise.

    A stock below the smallest normal number counts as zero: response and gradients are zero there.
    Sources: the saturation is Hill's equation in the form
    used by Jin et al. (2017), "Bayesian methods for media mix modeling", section 2.2, and the
    carry-over is their geometric adstock, normalised to sum to one.

    Raises:
        ValueError: a shape does not broadcast, or T is 0.
        TypeError: `x` is not floating point.
    """
    _check(x, decay, slope, half_saturation)
    return reference.adstock_hill(x, decay, slope, half_saturation, initial)


def _check(x: Tensor, decay: Tensor, slope: Tensor, half_saturation: Tensor) -> None:
    if not x.is_floating_point():
        raise TypeError(f"adstock_hill: x must be floating point, got {x.dtype}")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"adstock_hill: x needs at least one time step, got shape {list(x.shape)}")
    steps = x.shape[-1]
    for name, value in (("decay", decay), ("slope", slope), ("half_saturation", half_saturation)):
        if value.ndim == 0 or value.shape[-1] not in (1, steps):
            raise ValueError(
                f"adstock_hill: the last axis of {name} must be 1 or {steps} (the time steps of x), "
                f"got shape {list(value.shape)}"
            )
