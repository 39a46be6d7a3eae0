"""The days of a data set as a community lives them.

Axis letters: D days, H hours of a day, N prosumers.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset


def staged(dataset: Dataset, community: Community) -> Dataset:
    """The data set with PV as large as the community's, `fleet.pv_ratio` times its own; itself where that is 1.

    Wherever data and community meet this is called, once: a second time would multiply again. The result has the id of
    the data set and a digest of its own.

    Raises:
        UsageError: the community has another number of prosumers or cannot play these days.
    """
    dataset.check_community(community)
    ratio = community.fleet.pv_ratio
    if np.all(ratio == 1.0):
        return dataset
    return dataset.replace(pv_kw=dataset.pv_kw * ratio, pv_capacity_kw=dataset.pv_capacity_kw * ratio)
