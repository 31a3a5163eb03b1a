"""Builds an extension of your own on the compiled rooms: python setup.py build_ext --inplace

Nothing is linked: the rooms hand over their functions at import. Only their headers must be found.
"""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

from erlmcp.core import get_include

setup(
    name="router",
    ext_modules=cythonize(
        [Extension("router", ["router.pyx"], include_dirs=[get_include()])],
        # Where the package lies: after "pip install -e" Cython does not find it by itself.
        include_path=[str(Path(get_include()).parents[1])],
        language_level=3,
    ),
)
