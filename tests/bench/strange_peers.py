"""Peers that misbehave: one prints, one dies, one diverges. Which, the number of epochs says."""

from __future__ import annotations

import os
import sys

import numpy as np

PRINTS, DIES, DIVERGES = 1, 2, 3


class Training:
    def __init__(self, case, problem, threads, device):
        self.case, self.problem = case, problem

    def reset(self):
        pass

    def run(self, epochs):
        print("a line that is no reply")
        if self.case.epochs == DIES and epochs == DIES:
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(3)
        return 0.0

    def parameters(self):
        factor = np.nan if self.case.epochs == DIVERGES else 1
        return [W * factor for W in self.problem.weights], self.problem.biases
