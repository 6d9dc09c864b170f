"""Bring crops to the device; from a cache, a thread reads them while the GPU computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from patchit_hf.data.lazy import LazyCrops
from patchit_hf.data.store import CropStore

DEPTH = 3  # batches that are read ahead


def crops_on(
    source: CropStore | LazyCrops, plan: Iterable[Tensor], device: torch.device
) -> Iterator[Tensor]:
    """Yield the crops of each planned batch, uint8 ``[B, 3, H, W]`` on the device.

    Args:
        source: the crops.
        plan: row numbers of each batch.
        device: the device.
    """
    if isinstance(source, CropStore) and device.type == "cuda":
        yield from _read_ahead(source, plan, device)
        return
    for crops in source.batches(plan):
        yield crops.to(device, non_blocking=True)


def _read_ahead(
    source: CropStore, plan: Iterable[Tensor], device: torch.device
) -> Iterator[Tensor]:
    """Read into page-locked memory, from which the GPU copies without the CPU.

    The thread only reads. All GPU calls are made here, since a CUDA graph may be being captured.
    """
    batches = iter(plan)
    waiting: deque[tuple[Future[None], Tensor]] = deque()
    free: list[tuple[Tensor, torch.cuda.Event]] = []
    pool = ThreadPoolExecutor(1, "crops")
    try:
        while True:
            while len(waiting) < DEPTH and (rows := next(batches, None)) is not None:
                waiting.append(_read(source, rows, free, pool))
            if not waiting:
                return
            read, buffer = waiting.popleft()
            read.result()
            crops = buffer.to(device, non_blocking=True)
            fetched = torch.cuda.Event()
            fetched.record()
            free.append((buffer, fetched))
            yield crops.permute(0, 3, 1, 2)
    finally:
        pool.shutdown(cancel_futures=True)


def _read(
    source: CropStore,
    rows: Tensor,
    free: list[tuple[Tensor, torch.cuda.Event]],
    pool: ThreadPoolExecutor,
) -> tuple[Future[None], Tensor]:
    shape = (len(rows), *source.array.shape[1:])
    buffer: Tensor | None = None
    if free and free[0][0].shape == shape:
        buffer, fetched = free.pop(0)
        fetched.synchronize()
    if buffer is None:
        buffer = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
    return pool.submit(source.read_into, rows, buffer.numpy()), buffer
