// Places in the small arrays that change from step to step; those of counters are in philox.cuh.
#pragma once

enum Scalar { LEARNING_RATE, GRADIENT_SCALE, SKIP };  // SKIP is 1 for a step without update
enum Scaling { LOSS_SCALE, GOOD_STEPS };              // for float16
enum Total { LOSS_SUM, WEIGHT_SUM };
