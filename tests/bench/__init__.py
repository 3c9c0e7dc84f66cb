"""Measurements: figures with method and spread, never assertions."""
