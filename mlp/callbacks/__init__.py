"""Callbacks: what may happen around epochs, and the ones that come with the package."""

from mlp.callbacks.base import AnyCallback, Callback, EachEpoch, as_callback, as_callbacks
from mlp.callbacks.best import BestWeights, EarlyStopping
from mlp.callbacks.logs import CSVLog, JSONLinesLog
from mlp.callbacks.norms import NormsLog
from mlp.callbacks.stop_file import StopFile
from mlp.callbacks.tensorboard import TensorBoard

__all__ = [
    "AnyCallback",
    "BestWeights",
    "CSVLog",
    "Callback",
    "EachEpoch",
    "EarlyStopping",
    "JSONLinesLog",
    "NormsLog",
    "StopFile",
    "TensorBoard",
    "as_callback",
    "as_callbacks",
]
