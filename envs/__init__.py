"""Gymnasium faces of the world."""
