"""What is measured of attention, and the pass that measures it."""
