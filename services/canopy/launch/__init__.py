"""Starts units: one, or several of one plane folded in a process, with settings from the environment only.

Images start `python -m canopy.launch`; `canopy run` uses the same parts. No unit is imported before it is named.
"""
