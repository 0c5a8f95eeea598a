"""Runs a recipe under many budgets, seeds and settings, and compares: `python -m tfbnas.sweep RECIPE ...`.

KerasTuner hands out the trials and keeps their state (`oracle/`); each trial is a run of the recipe in a process of its
own (`trials/`), so that it goes on where it was interrupted and takes nobody with it when it fails.
"""
