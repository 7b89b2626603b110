"""Where and in which number format the network runs."""

import ctypes
import sys
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

BATCH = 500  # images a forward pass without gradients; more gains nothing on a CPU


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


def autocast(device: torch.device, *, cache: bool = True) -> AbstractContextManager[None]:
    """Matrix products in bfloat16 where the device has it, in fp32 elsewhere: chosen by the hardware, not by a flag.

    Without the cache each use of a weight converts it anew, as a CUDA graph's capture wants.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device), cache_enabled=cache)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for the tensors of the next step.

    A training step makes and frees some 300 MB of large tensors. glibc takes each from the system anew, page by page:
    on two cores that was half of the time. Does nothing where the C library is another.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no mapping of its own for a large block
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: give nothing back


@torch.inference_mode()
def predict(network: nn.Module, images: Tensor, *, exact: bool = False) -> Tensor:
    """Logits of any number of images, a batch at a time, with the network in evaluation mode.

    Args:
        network: on the device that shall do the work; its mode is restored.
        images: uint8 (N, 1, 28, 28), or (N, 1, 20, 20) for a cropped network; on any device.
        exact: in fp32, whatever the hardware would rather do.

    Returns:
        float32 (N, classes), on the CPU.
    """
    keep_freed_memory()
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with nullcontext() if exact else autocast(device):
        logits = [network(batch.to(device)).float().cpu() for batch in images.split(BATCH)]
    network.train(training)
    return torch.cat(logits)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of the images whose largest logit is their label's, 0..1. Logits (N, classes), labels (N,)."""
    return (logits.argmax(1) == labels).float().mean().item()
