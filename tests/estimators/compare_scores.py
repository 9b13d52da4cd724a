"""Scores and seconds of both libraries with default settings, on five data sets, over 10 seeds.

`python -m tests.estimators.compare_scores [--seeds 10] [--raw]` prints a Markdown table. Each seed
has its own split (a quarter is held out) and its own initial weights; rows are standardised on the
training part unless `--raw`. The two libraries take turns, so that whatever else the machine does
falls on both.
"""

import argparse
import time
import warnings

import numpy as np
import sklearn.neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import mlp
from tests.estimators.problems import BUNDLED

LIBRARIES = {"scikit-learn": sklearn.neural_network, "fused-mlp": mlp}


def run(library, X, y, seed, raw):
    """Score on the held-out rows, and seconds of the fit."""
    parts = train_test_split(X, y, random_state=seed, stratify=y if y.dtype.kind == "i" else None)
    train, held_out, y_train, y_held_out = parts
    if not raw:
        scaler = StandardScaler().fit(train)
        train, held_out = scaler.transform(train), scaler.transform(held_out)
    cls = "MLPClassifier" if y.dtype.kind == "i" else "MLPRegressor"
    model = getattr(library, cls)(random_state=seed)
    started = time.perf_counter()
    model.fit(train, y_train)
    return model.score(held_out, y_held_out), time.perf_counter() - started


def compare(name, seeds, raw):
    """Library -> (seeds, 2), scores and seconds."""
    X, y = BUNDLED[name](return_X_y=True)
    found = {library: [] for library in LIBRARIES}
    for seed in range(seeds):
        for library, module in LIBRARIES.items():
            found[library].append(run(module, X, y, seed, raw))
    return {library: np.array(values) for library, values in found.items()}


def cells(values):
    """Mean and standard deviation of scores and seconds (seeds, 2)."""
    means, spreads = values.mean(axis=0), values.std(axis=0)
    return f"{means[0]:.4f} ± {spreads[0]:.4f} | {means[1]:.2f} ± {spreads[1]:.2f}"


def table(names, seeds, raw):
    """Lines of Markdown."""
    yield f"| data set | {' | '.join(f'score, {lib} | seconds, {lib}' for lib in LIBRARIES)} |"
    yield "| --- |" + " ---: | ---: |" * len(LIBRARIES)
    for name in names:
        yield f"| {name} | {' | '.join(map(cells, compare(name, seeds, raw).values()))} |"


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--raw", action="store_true", help="rows as they are")
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for line in table(BUNDLED, options.seeds, options.raw):
            print(line, flush=True)


if __name__ == "__main__":
    main()
