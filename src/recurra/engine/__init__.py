"""Runs a cell along time."""
