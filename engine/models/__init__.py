"""Transformer models: their shapes and weights, their float64 reference, and the same models as wires and gates."""
