"""Example configs, shipped with the package."""
