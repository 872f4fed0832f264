"""A compiled model in cleartext: the fixed-point program on sample texts, every bound checked, beside float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.clear import clear
from engine.kernels import get_kernels
from engine.models.compiled import PublicModel
from engine.parameters import Small

__all__ = ["run_clear"]


def run_clear(
    public: PublicModel,
    integers: Mapping[str, Small],
    sequences: Sequence[NDArray[np.int64]],
    progress: Callable[[int, int], None] | None = None,
) -> list[NDArray[np.float64]]:
    """What the protocol would reveal of each sequence. Raises BoundError with the author's line."""
    out = []
    for i, ids in enumerate(sequences):
        outputs = clear(public.plan((len(ids),)), get_kernels(), public.inputs([ids]), integers, check=True)
        out += public.results(outputs, (len(ids),))
        if progress is not None:
            progress(i + 1, len(sequences))
    return out
