"""Builds merstore._core: the Cython module together with the plain C of csrc/.

Everything else about the package is declared in pyproject.toml. Two environment variables change the
flags: MERSTORE_WERROR=1 makes warnings errors (used by `make lint`), MERSTORE_SANITIZE=1 builds under
AddressSanitizer and UndefinedBehaviorSanitizer (used by `make sanitize`).
"""

import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

# Portable on purpose: no -march=native, so a wheel runs on any machine of its architecture.
compile_args = ["-std=c11", "-O3", "-Wall", "-Wextra"]
link_args: list[str] = []

if os.environ.get("MERSTORE_WERROR") == "1":
    compile_args += ["-Werror"]

if os.environ.get("MERSTORE_SANITIZE") == "1":
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    compile_args += [*sanitize, "-O1", "-g", "-fno-omit-frame-pointer"]
    link_args += sanitize

core = Extension(
    "merstore._core",
    sources=["merstore/_core.pyx", *sorted(glob("csrc/*.c"))],
    depends=sorted(glob("csrc/*.h")),
    include_dirs=["csrc"],
    extra_compile_args=compile_args,
    extra_link_args=link_args,
)

setup(
    ext_modules=cythonize(
        [core],
        build_dir="build/cython",  # the generated C never lies among the sources
        compiler_directives={"language_level": 3},
    )
)
