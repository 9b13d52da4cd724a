"""Networks to and from other libraries' forms: ONNX, PyTorch, scikit-learn; and the comparison."""
