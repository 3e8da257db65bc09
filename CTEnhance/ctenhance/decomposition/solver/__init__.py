"""Maximum likelihood per ray: forward model, solver, implicit gradient, standard errors."""
