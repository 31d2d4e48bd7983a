"""Attention that also says where it looked."""
