"""The old place of these two."""

from merstore.pages import picture as picture
from merstore.pages import plain as plain
