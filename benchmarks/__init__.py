"""Speed, measured: each module a command. One BLAS thread, so that a rate of one core is one core's."""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
