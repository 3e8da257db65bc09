"""Scatter: its physics, its simulation, and the network that estimates it."""
