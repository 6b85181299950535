"""What the figures were measured on."""

from merstore.machine import describe, name

__all__ = ["describe", "name"]
