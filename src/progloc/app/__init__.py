"""Audits on the loopback address, and the study in which people rate them."""
