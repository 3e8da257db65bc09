"""Physics of the scan: units, geometry, projector, filtered backprojection, noise (torch, differentiable)."""
