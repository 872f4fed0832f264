"""Speed of the kernels beside the limits of the machine."""
