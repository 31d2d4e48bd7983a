"""What turning the dial does to a model: perplexity, locality and next-token predictions (method.md §9)."""

from progloc.dial_curve.curve import DELTAS, Agreement, Curve, Point, agreements, dial_curve, layer_effects

__all__ = ["DELTAS", "Agreement", "Curve", "Point", "agreements", "dial_curve", "layer_effects"]
