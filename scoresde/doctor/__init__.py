"""Diagnosis of an installation: its components, and a short test against closed forms."""
