"""Scoring answer options by forward passes alone."""
