"""scikit-learn's `check_estimator` on both classes: `python -m tests.estimators.check_estimators`.

Prints how many checks ran for each class, and every one that failed or could not run.
"""

import sys
import warnings
from collections import Counter

from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import check_estimator

import mlp

ESTIMATORS = (mlp.MLPClassifier, mlp.MLPRegressor)


def results(estimator):
    """One dict per check: its name, its status, and what it raised."""
    with warnings.catch_warnings():
        # As where scikit-learn runs them: what a check expects, it looks for itself.
        warnings.simplefilter("ignore")
        warnings.simplefilter("ignore", SkipTestWarning)
        return check_estimator(estimator, on_skip=None, on_fail=None)


def main() -> int:
    failed = 0
    for cls in ESTIMATORS:
        found = results(cls())
        counts = Counter(result["status"] for result in found)
        print(f"{cls.__name__}: {len(found)} checks, {dict(counts)}")
        for result in found:
            if result["status"] != "passed":
                print(f"  {result['status']}: {result['check_name']}: {result['exception']}")
        failed += counts["failed"] + counts["xfail"]
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
