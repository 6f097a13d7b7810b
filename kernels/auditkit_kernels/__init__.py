"""Fused operations with their plain PyTorch definitions; imports nothing else of auditkit."""

from auditkit_kernels.eps_loss import eps_loss
from auditkit_kernels.noising import noising
from auditkit_kernels.sampler_step import sampler_step

__all__ = ["eps_loss", "noising", "sampler_step"]
