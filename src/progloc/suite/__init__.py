"""Experiments as wholes: a plan of runs, made once each, and the report on them."""
