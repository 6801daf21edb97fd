"""Package metadata; tool settings are in pyproject.toml, the exact versions of everything in constraints.txt."""

from pathlib import Path

from setuptools import Extension, find_packages, setup

ROOT = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (ROOT / "ecdctr/__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)
README = ROOT / "README.md"

# Exact where one version is the only one that fits the others, see CONTRIBUTING.md, "Versions".
RUNTIME = [
    "pyspark==4.0.2",
    "delta-spark==4.0.1",
    "torch==2.12.1",
    "horovod==0.28.1",
    "petastorm==0.13.1",
    "pyarrow==14.0.2",
    "numpy==1.26.4",
    "pandas==2.3.3",
    "setuptools<70",
    "packaging",
    "cffi",
    "cloudpickle",
    "psutil",
    "pyyaml>=6",
    "pydantic>=2.7",
    "typer>=0.12",
    "rich>=13",
    "safetensors>=0.4",
    "matplotlib>=3.8",
    "jinja2>=3.1",
]
EXTRAS = {
    "tracking": ["tensorboard", "mlflow-skinny"],
    "export": ["onnx", "onnxruntime", "onnxscript"],
    "dev": [
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "hypothesis",
        "ruff",
        "mypy",
        "import-linter",
        "nbmake",
        "ipykernel",
        "codespell",
        "pre-commit",
        "scikit-learn",
        "scipy",
        "types-PyYAML",
        "types-psutil",
        "pandas-stubs",
    ],
    "bench": ["duckdb"],
}

setup(
    name="ecdctr",
    version=VERSION,
    description="Cross-domain click-through-rate training: natural content teaches the ad model",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.12",
    packages=find_packages(include=["ecdctr", "ecdctr.*"]),
    package_data={"ecdctr": ["py.typed", "**/*.html", "**/*.j2", "**/*.css"]},
    # Plain shared libraries; without a compiler the package installs all the same, and torch and Horovod do their work, slower.
    ext_modules=[
        Extension(
            f"ecdctr.{package}._{name}", [f"ecdctr/{package}/{name}.cpp"], extra_compile_args=flags, optional=True
        )
        for package, name, flags in (
            ("nn", "rows", ["-O3"]),
            ("nn", "clicks", ["-O3"]),
            ("distributed", "counters", ["-O2", "-std=c++17"]),
        )
    ],
    install_requires=RUNTIME,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["ecdctr=ecdctr.cli:main"]},
)
