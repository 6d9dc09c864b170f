"""Random numbers as a function: what the n-th sample of a run gets depends on (seed, n) alone.

Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011), a
counter-based generator, on 64-bit integers. There is no state to save: any process can compute the
numbers of any sample, so one process or eight, fresh or resumed, see the same run.
"""

from __future__ import annotations

import math
import zlib
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.uint64]
_MASK, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))


def philox(counter: tuple[Words, ...], key: tuple[int, int]) -> tuple[Words, ...]:
    """Return Philox4x32-10 of a counter and a key.

    Args:
        counter: four uint64 arrays that broadcast, each value in [0, 2**32).
        key: two integers in [0, 2**32).

    Returns:
        Four uint64 arrays of the broadcast shape, each value in [0, 2**32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = (np.uint64(word) for word in key)
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (p1 >> _HALF) ^ c1 ^ k0,
            p1 & _MASK,
            (p0 >> _HALF) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return c0, c1, c2, c3


class Draws:
    """The random numbers for a batch of samples.

    Every use names a stream ("cell", "jitter", ...), so that a new option never changes what the
    others draw. The numbers are computed on the CPU (there are only a few per sample) and moved to
    ``device``; they are the same bits everywhere.

    Args:
        seed: the run's seed, in [0, 2**64).
        numbers: global sample numbers, int64 ``[B]``, not negative.
        device: where the results go.
        progress: the fraction of training that is done when the batch is drawn, in [0, 1); 1
            outside training. For tasks that change while training.
        rows: the row of each sample's crop in the training set, int64 ``[B]``; None where crops
            have no number, as in streams. For tasks that ask which crop it was.

    Example:
        >>> import torch
        >>> draws = Draws(0, torch.tensor([7, 8]))
        >>> draws.integers("cell", 18).tolist()
        [13, 11]
        >>> alone = Draws(0, torch.tensor([8]))
        >>> alone.integers("cell", 18).tolist()
        [11]
    """

    def __init__(
        self,
        seed: int,
        numbers: Tensor,
        device: torch.device | str | None = None,
        progress: float = 1.0,
        rows: Tensor | None = None,
    ) -> None:
        self.seed, self.progress = seed, progress
        self.rows = rows
        self.numbers = numbers.to("cpu", torch.int64)
        self.device = torch.device(device or "cpu")

    def __len__(self) -> int:
        return len(self.numbers)

    def _bits(self, stream: str, shape: tuple[int, ...]) -> Tensor:
        """Return random 32-bit integers, int64 ``[B, *shape]``, on the CPU."""
        count = math.prod(shape)
        blocks = (count + 3) // 4
        numbers = self.numbers.numpy().astype(np.uint64)[:, None]
        words = philox(
            (
                numbers & _MASK,
                numbers >> _HALF,
                np.array(zlib.crc32(stream.encode()), np.uint64),
                np.arange(blocks, dtype=np.uint64)[None],
            ),
            _key(self.seed),
        )
        bits = np.stack(np.broadcast_arrays(*words), axis=-1).reshape(len(self), 4 * blocks)
        return torch.from_numpy(bits[:, :count].astype(np.int64)).reshape(len(self), *shape)

    def integers(self, stream: str, high: int, shape: tuple[int, ...] = ()) -> Tensor:
        """Return integers in [0, high), int64 ``[B, *shape]``; high is at most 2**31."""
        return ((self._bits(stream, shape) * high) >> 32).to(self.device)

    def uniform(self, stream: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Return numbers in [0, 1), float32 ``[B, *shape]``, multiples of 2**-24."""
        return ((self._bits(stream, shape) >> 8).to(torch.float32) / 2**24).to(self.device)

    def permutations(self, stream: str, length: int) -> Tensor:
        """Return one random permutation of ``range(length)`` per sample, int64 ``[B, length]``."""
        return self._bits(stream, (length,)).argsort(dim=1, stable=True).to(self.device)


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, num_crops: int) -> Tensor:
    """Return the order in which an epoch visits the crops: a permutation, int64 ``[num_crops]``."""
    words = philox(
        (
            np.arange(num_crops, dtype=np.uint64),
            np.array(epoch, np.uint64),
            np.array(zlib.crc32(b"order"), np.uint64),
            np.array(0, np.uint64),
        ),
        _key(seed),
    )
    first, second = (torch.from_numpy(word.astype(np.int64)) for word in words[:2])
    return ((first << 31) ^ second).argsort(stable=True)


def _key(seed: int) -> tuple[int, int]:
    return seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF


def sampled_rows(size: int, count: int, batch: int = 100) -> tuple[Tensor, ...]:
    """Return batches of at most ``count`` row numbers below ``size``, always the same ones."""
    rows = epoch_order(0, 0, size)[:count].sort().values
    return tuple(rows.split(batch))


def crop_rows(seed: int, numbers: Tensor, num_crops: int) -> Tensor:
    """Return the row of the crop that each sample of a run is cut from.

    Sample n belongs to epoch ``n // num_crops``; every epoch visits every crop once.

    Args:
        seed: the run's seed.
        numbers: global sample numbers, int64 ``[B]``.
        num_crops: number of training crops.

    Returns:
        Row numbers, int64 ``[B]``.

    Example:
        >>> import torch
        >>> sorted(crop_rows(0, torch.arange(5), 5).tolist())
        [0, 1, 2, 3, 4]
    """
    epochs = numbers // num_crops
    rows = torch.empty_like(numbers)
    for epoch in epochs.unique().tolist():
        chosen = epochs == epoch
        rows[chosen] = epoch_order(seed, epoch, num_crops)[numbers[chosen] % num_crops]
    return rows


EVAL_SEED = 0  # the held-out questions are the same in every run
