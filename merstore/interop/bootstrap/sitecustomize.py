"""Turns the switch on as soon as the program has imported NumPy; before, it could read no feature.

Python imports this at its start. It imports nothing but what Python itself has loaded by then, and
goes on to the `sitecustomize` that there would be without it.
"""

import os
import sys
from importlib.machinery import PathFinder

HERE = os.path.dirname(os.path.abspath(__file__))


class _AfterNumpy:
    """Waits for the import of NumPy, or of merstore: that imports NumPy when it is half there itself,
    and must be whole first.
    """

    @classmethod
    def find_spec(cls, name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name not in ("numpy", "merstore"):
            return None
        sys.meta_path.remove(cls)
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path)
        spec = next(filter(None, found), None)
        if spec is None or spec.loader is None:
            sys.meta_path.insert(0, cls)
            return spec
        execute = spec.loader.exec_module

        def then_switch(module):  # type: ignore[no-untyped-def]
            execute(module)
            _switch()  # type: ignore[no-untyped-call]

        spec.loader.exec_module = then_switch  # type: ignore[method-assign]
        return spec


def _switch():  # type: ignore[no-untyped-def]
    try:
        try:
            import merstore  # noqa: F401
        except ModuleNotFoundError as missing:
            if missing.name != "merstore":
                raise
            sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(HERE))))
        from merstore.interop.switch import install_from_environment

        install_from_environment()
    except Exception as error:  # noqa: BLE001  (going on would read other features, silently)
        print(f"merstore: the program cannot read from the store: {error}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(2)


sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]
if os.environ.get("MERSTORE_SWITCH"):
    sys.meta_path.insert(0, _AfterNumpy)

_next = PathFinder.find_spec("sitecustomize", sys.path)
if _next is not None and _next.loader is not None:
    _next.loader.exec_module(sys.modules[__name__])
