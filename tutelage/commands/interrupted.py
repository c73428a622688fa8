"""Ctrl-C, said kindly."""


class Interrupted(Exception):
    """Ctrl-C, with what the user should know."""
