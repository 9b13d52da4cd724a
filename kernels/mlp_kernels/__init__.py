"""Compute kernels: plain functions over arrays that know nothing of networks or training."""
