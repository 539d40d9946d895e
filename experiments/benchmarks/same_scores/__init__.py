"""Whether every runtime gives a bundle's scores; see `__main__`."""
