"""scikit-learn's multi-layer perceptrons over this package's engine."""

from mlp.estimators.classifier import MLPClassifier
from mlp.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
