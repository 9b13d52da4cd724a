"""Kernels for the processor, compiled by Numba when first called and cached on disk."""
