"""CUDA kernels: sources (*.cu, *.cuh), and what is needed to choose, compile and launch them."""
