"""Backpropagation worked out in numbers: two classic examples, or one row through any network.

>>> from mlp.explain import explain_example
>>> walk = explain_example("relu")
>>> walk.values["updated"][1]["W"][0][0]  # m2 after one step of gradient descent
-0.7000000000000002
"""

from mlp.explain.examples import EXAMPLES, explain_example
from mlp.explain.report import Walk
from mlp.explain.walk import explain_row

__all__ = ["EXAMPLES", "Walk", "explain_example", "explain_row"]
