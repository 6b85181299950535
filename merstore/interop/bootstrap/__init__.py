"""A folder for PYTHONPATH: the `sitecustomize` in it turns the switch on in a Python that starts."""

VARIABLE = "MERSTORE_SWITCH"
