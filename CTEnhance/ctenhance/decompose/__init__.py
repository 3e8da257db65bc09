"""From photon-counting bins to material maps and spectral images: maximum likelihood, made differentiable."""
