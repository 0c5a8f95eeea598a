"""Recipes that are over at once, for the tests of the sweep."""
