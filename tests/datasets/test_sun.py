from __future__ import annotations

import numpy as np
import pandas as pd
import pvlib
import pytest

from prosumer_gym.datasets.sun import sun_over


@pytest.mark.parametrize(("latitude", "longitude"), [(34.1, -117.4), (52.2, 0.1), (-33.9, 151.2)])
@pytest.mark.parametrize("step", ["1h", "15min"])
def test_the_sun_and_the_clear_sky_are_those_of_pvlib(latitude: float, longitude: float, step: str) -> None:
    begin = pd.date_range("2016-01-01", "2017-01-01", freq=step, tz="UTC", inclusive="left")[::7]
    length = pd.Timedelta(step)
    cosine, clear = sun_over(begin, length, latitude, longitude)
    instants = pd.DatetimeIndex([at + (k + 0.5) / 12 * length for at in begin for k in range(12)])
    zenith = pvlib.solarposition.get_solarposition(instants, latitude, longitude)["zenith"]
    expected = np.maximum(np.cos(np.radians(zenith)), 0.0).to_numpy().reshape(-1, 12).mean(axis=1)
    np.testing.assert_allclose(cosine, expected, atol=0.004)
    sky = pvlib.clearsky.haurwitz(zenith)["ghi"].to_numpy().reshape(-1, 12).mean(axis=1)
    np.testing.assert_allclose(clear, sky, atol=6.0)
