"""Brain-like skeletons: linear neural dynamics seen through haemodynamics, after NetSim.

Smith et al. (2011), NeuroImage 54: z' = s A z + C u with A of 0.4 (0.1) along edges and -1 on the
diagonal, a neural lag of some 50 ms, inputs that switch on and off at random, the balloon model of
Buxton with haemodynamics that differ between nodes and subjects, 200 scans of 3 s, measurement
noise of 1 %. What passes in 50 ms is seen every 3 s: a law of effects within the step. numpy only.
"""

from __future__ import annotations

import numpy as np

from bench.external.world import Array, Mask, World, foreign

SCANS, INTERVAL, FINE = 200, 3.0, 0.02  # seconds
_WARM = 10  # scans before the first that counts
SOURCE = "after NetSim"


def skeleton(nodes: int) -> Mask:
    """The published graphs: a ring of five with one edge turned, and two such rings joined."""
    edges = np.zeros((nodes, nodes), bool)
    for first in range(0, nodes, 5):
        for k in range(4):
            edges[first + k, first + k + 1] = True
        edges[first, first + 4] = True
    for first in range(5, nodes, 5):
        edges[first - 5, first] = True
    return edges


def brains(nodes: int, stores: int, seed: int) -> World:
    """Subjects with one graph, as in NetSim's first two simulations."""
    edges = skeleton(nodes)
    series = [_subject(edges, np.random.default_rng([seed, nodes, k])) for k in range(stores)]
    every = np.repeat(edges[None], stores, axis=0)
    return foreign(f"NetSim-like, {nodes} nodes", SOURCE, np.stack(series), every)


def _subject(edges: Mask, rng: np.random.Generator) -> Array:
    """Scans [T, N] of one subject."""
    nodes = len(edges)
    strength = np.clip(rng.normal(0.4, 0.1, edges.shape), 0.2, 0.6) * edges
    steps = round((SCANS + _WARM) * INTERVAL / FINE)
    pace = 1.0 / 0.05  # of the neural dynamics, per second
    # on for 2.5 s and off for 10 s in the mean, and noise
    to_on, to_off = FINE / 10.0, FINE / 2.5
    flip = rng.random((steps, nodes))
    kick = rng.standard_normal((steps, nodes)) * np.sqrt(0.05 / FINE)
    z, on = np.zeros(nodes), np.zeros(nodes, bool)
    neural = np.empty((steps, nodes))
    for t in range(steps):
        on = np.where(on, flip[t] >= to_off, flip[t] < to_on)
        z = z + FINE * pace * (z @ strength - z + on + 0.05 * kick[t])
        neural[t] = z
    scans = _balloon(neural, rng)[_WARM * round(INTERVAL / FINE) :: round(INTERVAL / FINE)]
    return scans + 0.01 * scans.std(0) * rng.standard_normal(scans.shape)


def _balloon(neural: Array, rng: np.random.Generator) -> Array:
    """The signal [steps, N] by the balloon model (Friston et al., 2003, with their constants)."""
    steps, nodes = neural.shape
    decay, back = rng.normal(0.65, 0.065, nodes), rng.normal(0.41, 0.041, nodes)
    transit = np.clip(rng.normal(0.98, 0.2, nodes), 0.5, 1.6)
    stiff, rest, volume = 0.32, 0.34, 0.02
    signal, flow, size, oxygen = np.zeros(nodes), *np.ones((3, nodes))
    out = np.empty_like(neural)
    for t in range(steps):
        extracted = (1.0 - (1.0 - rest) ** (1.0 / flow)) / rest
        drained = size ** (1.0 / stiff)
        change = neural[t] - decay * signal - back * (flow - 1.0)
        size, oxygen, flow, signal = (
            np.maximum(size + FINE / transit * (flow - drained), 0.05),
            np.maximum(
                oxygen + FINE / transit * (flow * extracted - drained * oxygen / size), 0.05
            ),
            np.maximum(flow + FINE * signal, 0.05),
            signal + FINE * change,
        )
        out[t] = volume * (
            7.0 * rest * (1.0 - oxygen)
            + 2.0 * (1.0 - oxygen / size)
            + (2.0 * rest - 0.2) * (1.0 - size)
        )
    return out
