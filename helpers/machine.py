"""The machine: what it computes with, so that one seed gives one result on it, and how much it says while it works."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import sys
from collections.abc import Iterator

import numpy as np
import torch


def autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """bfloat16 where the hardware computes in it, else nothing."""
    return torch.autocast(device.type, torch.bfloat16) if in_bfloat16(device) else contextlib.nullcontext()


def in_bfloat16(device: torch.device) -> bool:
    """Whether models run in bfloat16: where the hardware computes in it, unless ``BOOK_BF16=off``."""
    if os.environ.get("BOOK_BF16") == "off":
        return False
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu.get_capabilities().get("avx512_bf16", False)


@contextlib.contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seed every generator, use one thread and deterministic kernels; put everything back afterwards."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn.deterministic
    python, numpy = random.getstate(), np.random.get_state()
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.cudnn.deterministic = cudnn
            random.setstate(python)
            np.random.set_state(numpy)


def keep_memory() -> None:
    """Ask the C library to reuse large blocks instead of returning them after each batch: a fifth faster on Linux."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # not every C library has mallopt
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(-3, 2**30)  # M_MMAP_THRESHOLD: blocks up to 1 GiB come from the heap
            mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: the heap is not handed back


def quiet() -> bool:
    """Whether progress bars stay away: in CI and while the book is built."""
    return "BOOK_PROFILE" in os.environ or "CI" in os.environ
