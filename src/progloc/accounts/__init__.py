"""Audits: what a model's answer rested on, and whether that picture can be believed."""
