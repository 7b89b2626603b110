"""Where the network runs and in which number format, and what a process sets once before it computes."""

import ctypes
import os
import sys
from contextlib import AbstractContextManager

import torch


def best_device() -> torch.device:
    """The first CUDA device, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices natively; where it does not, fp32 is faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # oneDNN's names for CPUs with AVX512-BF16 or AMX instructions (x86) and BF16 (ARM).
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """Matrix products in bfloat16 where the device has it, in fp32 elsewhere: chosen by the hardware, not by a flag."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


def configure() -> None:
    """Set up this process for fast training and inference; entry points call it once, before the first tensor.

    - Large tensors get huge pages, which take one page fault where 512 small pages take 512: a training step on full
      images is some 15 % faster. PyTorch reads this environment variable once, when it allocates its first tensor.
    - glibc keeps the memory that is freed, for the tensors of the next step. It would otherwise return some 300 MB to
      the system in each step, and fetch them again page by page. Another C library is left as it is.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no separate mapping for a large block
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: return nothing to the system
