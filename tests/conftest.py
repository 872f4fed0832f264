"""Settings that every test shares."""

import os
import signal

# Before NumPy is imported anywhere: two BLAS threads beside a busy neighbour lose five to ten times.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Processes that tests start inherit an ignored SIGINT, as in the background of a shell; the tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
