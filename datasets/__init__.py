"""Days of load, sun, weather and prices: the schema, the frozen sets and the importers."""

from __future__ import annotations

from prosumer_gym.datasets.schema import BOUNDS, COVARIATES, LEAD_IN_DAYS, SPLITS, Dataset, Manifest
from prosumer_gym.datasets.store import list_datasets, load_dataset, load_dataset_folder, save_dataset

__all__ = [
    "BOUNDS",
    "COVARIATES",
    "LEAD_IN_DAYS",
    "SPLITS",
    "Dataset",
    "Manifest",
    "list_datasets",
    "load_dataset",
    "load_dataset_folder",
    "save_dataset",
]
