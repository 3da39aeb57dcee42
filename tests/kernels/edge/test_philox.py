"""The noise of edges: known answers, what it depends on, and its law."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalmmm.kernels import edge_noise, edge_sample
from causalmmm.kernels.edge.philox import edge_words, philox


def philox_by_hand(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 as the paper states it, in Python integers that do not wrap."""
    low = 0xFFFFFFFF
    for step in range(10):
        round_key = [
            (key[0] + step * 0x9E3779B9) & low,
            (key[1] + step * 0xBB67AE85) & low,
        ]
        high0, low0 = divmod(0xD2511F53 * counter[0], 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * counter[2], 1 << 32)
        counter = [high1 ^ counter[1] ^ round_key[0], low1, high0 ^ counter[3] ^ round_key[1], low0]
    return counter


# From the known-answer file that accompanies the authors' Random123 library.
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_answers(counter, key, expected):
    words = philox(tuple(torch.tensor(c) for c in counter), tuple(key))
    assert [int(word) for word in words] == expected
    assert philox_by_hand(counter, key) == expected


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(-(2**63), 2**63 - 1),
    store=st.integers(0, 2**62),
    nodes=st.integers(2, 5),
    types=st.integers(2, 9),
)
def test_words_are_philox_of_seed_store_and_pair(seed, store, nodes, types):
    words = edge_words(seed, torch.tensor([store]), nodes, types)
    i, j, k = nodes - 1, nodes - 2, types - 1
    counter = [store & 0xFFFFFFFF, store >> 32, (i << 16) + j, k // 4]
    key = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF]
    assert int(words[0, i, j, k]) == philox_by_hand(counter, key)[k % 4]
    assert torch.equal(edge_words(torch.tensor([seed]), torch.tensor([store]), nodes, types), words)


def test_no_two_edges_share_their_words():
    stores = torch.tensor([0, 1, 2, 2**16, 2**32, 2**32 + 1, 2**40])
    words = edge_words(7, stores, 33, 2).reshape(-1, 2)
    assert len(torch.unique(words, dim=0)) == len(words)


def test_noise_depends_on_the_store_not_on_the_batch_or_the_number_of_nodes():
    stores = torch.tensor([5, 900, 17, 2**33])
    whole = edge_noise(11, stores, 6, 3)
    order = [3, 0, 2]
    assert torch.equal(edge_noise(11, stores[order], 6, 3), whole[order])
    assert torch.equal(edge_noise(11, stores[1:2], 4, 2), whole[1:2, :4, :4, :2])
    assert not torch.equal(edge_noise(12, stores, 6, 3), whole)


def test_extreme_words_give_finite_noise():
    from causalmmm.kernels.edge.philox import gumbel

    ends = gumbel(torch.tensor([0, 0xFFFFFFFF]), torch.float32)
    exact = [-np.log(-np.log(2.0**-24)), -np.log(-np.log1p(-(2.0**-24)))]
    np.testing.assert_allclose(ends, exact, rtol=1e-5)


def test_noise_is_standard_gumbel_in_every_word_and_uncorrelated_between_words():
    noise = edge_noise(3, torch.arange(300), 10, 6, dtype=torch.float64).reshape(-1, 6).numpy()
    for word in noise.T:
        assert stats.kstest(word, "gumbel_r").pvalue > 1e-3
    assert abs(np.corrcoef(noise.T) - np.eye(6)).max() < 0.025


def test_samples_follow_the_binary_concrete_law():
    """Maddison et al. (2017), section 3: logit(z_1) * tau is logistic around l_1 - l_0."""
    nodes, width, stores, temperature = 8, 4, 500, 0.5
    zero = torch.zeros(stores, nodes, width, dtype=torch.float64)
    square, row = torch.zeros(width, width).double(), torch.zeros(width).double()
    bias = torch.tensor([0.3, -0.9], dtype=torch.float64)
    out = edge_sample(
        zero,
        zero,
        square,
        row,
        zero,
        zero,
        square,
        square,
        row,
        torch.zeros(2, width).double(),
        bias,
        torch.zeros(nodes, nodes, 2),
        temperature=temperature,
        seed=21,
    )
    pairs = ~torch.eye(nodes, dtype=torch.bool)
    logit = torch.logit(out.z[:, pairs, 1]).flatten().numpy() * temperature
    assert stats.kstest(logit, "logistic", args=(-1.2, 1.0)).pvalue > 1e-3
    share = (out.z[:, pairs, 1] > 0.5).double().mean().item()
    assert abs(share - 1 / (1 + np.exp(1.2))) < 4 * np.sqrt(0.25 / (stores * 56))
