"""Settings that every test shares."""

import os

# Before NumPy is imported anywhere: two BLAS threads beside a busy neighbour lose five to ten times.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
