"""Spatial bases: linear maps from coefficients to densities, with fast slices."""
