"""Programs: `python -m tfbnas.recipes.<method>_<network>`."""
