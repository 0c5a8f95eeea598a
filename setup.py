"""Installs tfbnas. What is pinned, and why, stands beside each requirement."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "tfbnas" / "__init__.py").read_text(encoding="utf-8"))[1]

REQUIREMENTS = [
    # From 2.16 on Keras 2 is a package of its own; under 2.21 exported models no longer agreed with trained ones.
    "tensorflow>=2.16,<2.20",
    "tf_keras>=2.16,<2.20",
    "larq>=0.13.3",
    # Wheels exist for x86-64 Linux, macOS and Windows. A board without one can still load, time and report.
    "larq-compute-engine==0.16.*; platform_machine != 'aarch64' or sys_platform != 'linux'",
    "numpy>=1.24,<2",  # larq
    "tensorflow-datasets>=4.9.4",
    "tensorflow-metadata<1.18",  # newer ones need a protobuf that TensorFlow refuses
    "importlib_resources",  # tensorflow-datasets imports it without declaring it
    "etils<1.14; python_version < '3.11'",  # newer ones need Python 3.11, which old pips find out late
    "keras-tuner>=1.4.6",
    "jsonargparse[signatures]>=4.49,<5",
    "docstring-parser>=0.15",
    "pillow>=10",
    "pyyaml>=6",
    "tqdm>=4.60",
    "matplotlib>=3.8",
    "jinja2>=3.1",
]
TEST_REQUIREMENTS = ["pytest>=8", "pytest-xdist>=3.8", "ruff==0.17.*", "mypy==2.4.*", "types-PyYAML", "pre-commit>=3"]
DOCS_REQUIREMENTS = ["mkdocs>=1.6,<2", "mkdocstrings[python]>=1"]

setup(
    name="tfbnas",
    version=VERSION,
    description="Searches binary neural networks under a hardware budget and delivers verified TFLite models for ARM.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="tfbnas developers",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    keywords=(
        "binary neural networks, neural architecture search, quantization, TensorFlow, Keras, Larq, "
        "Larq Compute Engine, TFLite, ARM, embedded"
    ),
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10,<3.13",
    packages=[*find_packages(include=["tfbnas", "tfbnas.*"]), "tfbnas.presets"],
    package_dir={"tfbnas.presets": "recipes"},
    package_data={
        "tfbnas": ["py.typed", "data/bundled/**/*", "report/templates/*", "costs/latency_tables/*.json"],
        "tfbnas.presets": ["*.yaml"],
    },
    install_requires=REQUIREMENTS,
    extras_require={
        "test": TEST_REQUIREMENTS,
        "docs": DOCS_REQUIREMENTS,
        "gpu": ["tensorflow[and-cuda]>=2.16,<2.20"],
    },
)
