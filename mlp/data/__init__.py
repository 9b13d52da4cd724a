"""Data on its way to a network: checks of host arrays, named data sets, standardisation."""
