"""The CUDA backend: the contract in backend.py, all that CuPy is asked for in device.py."""
