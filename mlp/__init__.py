"""fused-mlp: multi-layer perceptrons trained from scratch, on readable backpropagation.

>>> import mlp
>>> net = mlp.Network(2, [mlp.Dense(8, "tanh"), mlp.Dense(2, "softmax")], seed=1)
>>> history = mlp.Trainer(net, "cross_entropy").fit([[0, 1], [1, 0]], [0, 1], epochs=2)
>>> len(history["loss"])
2
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlp.activations import ACTIVATIONS as ACTIVATIONS
    from mlp.backends import available_backends as available_backends
    from mlp.callbacks import BestWeights as BestWeights
    from mlp.callbacks import Callback as Callback
    from mlp.callbacks import CSVLog as CSVLog
    from mlp.callbacks import EarlyStopping as EarlyStopping
    from mlp.callbacks import JSONLinesLog as JSONLinesLog
    from mlp.callbacks import NormsLog as NormsLog
    from mlp.callbacks import StopFile as StopFile
    from mlp.callbacks import TensorBoard as TensorBoard
    from mlp.data.blocks import ArrayBlocks as ArrayBlocks
    from mlp.data.dataset import Dataset as Dataset
    from mlp.data.parquet_blocks import ParquetBlocks as ParquetBlocks
    from mlp.data.preprocessing import Standardizer as Standardizer
    from mlp.data.sources import load_data as load_data
    from mlp.data.survey import survey as survey
    from mlp.data.table_preprocessing import TablePreprocessor as TablePreprocessor
    from mlp.data.tables import read_table as read_table
    from mlp.epoch_plan import EpochPlan as EpochPlan
    from mlp.errors import BackendUnavailable as BackendUnavailable
    from mlp.errors import DeviceFault as DeviceFault
    from mlp.errors import DeviceOutOfMemory as DeviceOutOfMemory
    from mlp.errors import InvalidInput as InvalidInput
    from mlp.errors import InvalidSetting as InvalidSetting
    from mlp.errors import MLPError as MLPError
    from mlp.errors import ModelFileError as ModelFileError
    from mlp.errors import TrainingDiverged as TrainingDiverged
    from mlp.estimators import MLPClassifier as MLPClassifier
    from mlp.estimators import MLPRegressor as MLPRegressor
    from mlp.evaluation import Evaluation as Evaluation
    from mlp.gradcheck import check_gradients as check_gradients
    from mlp.gradients import Gradients as Gradients
    from mlp.initializers import INITIALIZERS as INITIALIZERS
    from mlp.interop.onnx import export_onnx as export_onnx
    from mlp.interop.sklearn import from_sklearn as from_sklearn
    from mlp.interop.sklearn import to_sklearn as to_sklearn
    from mlp.interop.torch import from_torch as from_torch
    from mlp.interop.torch import to_torch as to_torch
    from mlp.learning_rate_finder import LearningRateCurve as LearningRateCurve
    from mlp.learning_rate_finder import find_learning_rate as find_learning_rate
    from mlp.losses import LOSSES as LOSSES
    from mlp.losses import MAE as MAE
    from mlp.losses import MSE as MSE
    from mlp.losses import BinaryCrossEntropy as BinaryCrossEntropy
    from mlp.losses import CrossEntropy as CrossEntropy
    from mlp.losses import HalfSquaredError as HalfSquaredError
    from mlp.losses import Huber as Huber
    from mlp.losses import Loss as Loss
    from mlp.losses import Poisson as Poisson
    from mlp.network import Network as Network
    from mlp.network import load as load
    from mlp.optimizers import OPTIMIZERS as OPTIMIZERS
    from mlp.optimizers import SGD as SGD
    from mlp.optimizers import Adagrad as Adagrad
    from mlp.optimizers import Adam as Adam
    from mlp.optimizers import AdamW as AdamW
    from mlp.optimizers import Lion as Lion
    from mlp.optimizers import Optimizer as Optimizer
    from mlp.optimizers import RMSprop as RMSprop
    from mlp.report import write_report as write_report
    from mlp.schedules import SCHEDULES as SCHEDULES
    from mlp.schedules import Constant as Constant
    from mlp.schedules import Cosine as Cosine
    from mlp.schedules import Exponential as Exponential
    from mlp.schedules import InverseScaling as InverseScaling
    from mlp.schedules import LinearWarmup as LinearWarmup
    from mlp.schedules import OneCycle as OneCycle
    from mlp.schedules import ReduceOnPlateau as ReduceOnPlateau
    from mlp.schedules import Schedule as Schedule
    from mlp.schedules import StepDecay as StepDecay
    from mlp.spec import Dense as Dense
    from mlp.spec import NetworkSpec as NetworkSpec
    from mlp.trainer import Trainer as Trainer

__version__ = "0.1.0"

# Module -> its public names. Each is imported when first used, so that `import mlp` stays quick.
_PUBLIC = {
    "activations": ["ACTIVATIONS"],
    "backends": ["available_backends"],
    "callbacks": [
        "BestWeights",
        "CSVLog",
        "Callback",
        "EarlyStopping",
        "JSONLinesLog",
        "NormsLog",
        "StopFile",
        "TensorBoard",
    ],
    "data.blocks": ["ArrayBlocks"],
    "data.dataset": ["Dataset"],
    "data.parquet_blocks": ["ParquetBlocks"],
    "data.preprocessing": ["Standardizer"],
    "data.sources": ["load_data"],
    "data.survey": ["survey"],
    "data.table_preprocessing": ["TablePreprocessor"],
    "data.tables": ["read_table"],
    "epoch_plan": ["EpochPlan"],
    "errors": [
        "BackendUnavailable",
        "DeviceFault",
        "DeviceOutOfMemory",
        "InvalidInput",
        "InvalidSetting",
        "MLPError",
        "ModelFileError",
        "TrainingDiverged",
    ],
    "estimators": ["MLPClassifier", "MLPRegressor"],
    "evaluation": ["Evaluation"],
    "gradcheck": ["check_gradients"],
    "initializers": ["INITIALIZERS"],
    "learning_rate_finder": ["LearningRateCurve", "find_learning_rate"],
    "losses": [
        "LOSSES",
        "MAE",
        "MSE",
        "BinaryCrossEntropy",
        "CrossEntropy",
        "HalfSquaredError",
        "Huber",
        "Loss",
        "Poisson",
    ],
    "gradients": ["Gradients"],
    "interop.onnx": ["export_onnx"],
    "interop.sklearn": ["from_sklearn", "to_sklearn"],
    "interop.torch": ["from_torch", "to_torch"],
    "network": ["Network", "load"],
    "optimizers": [
        "OPTIMIZERS",
        "SGD",
        "Adagrad",
        "Adam",
        "AdamW",
        "Lion",
        "Optimizer",
        "RMSprop",
    ],
    "report": ["write_report"],
    "schedules": [
        "SCHEDULES",
        "Constant",
        "Cosine",
        "Exponential",
        "InverseScaling",
        "LinearWarmup",
        "OneCycle",
        "ReduceOnPlateau",
        "Schedule",
        "StepDecay",
    ],
    "spec": ["Dense", "NetworkSpec"],
    "trainer": ["Trainer"],
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = [*sorted(_MODULE_OF), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mlp' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mlp.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
