"""Where the sun is: times of dawn, sunrise, noon, sunset and dusk at a place.

The formulas are those of Jean Meeus, *Astronomical Algorithms*, 2nd edition (1998), chapters 25 and
28, in the low-precision form of NOAA's Solar Calculation Details
(https://gml.noaa.gov/grad/solcalc/calcdetails.html): within a minute of the almanac up to 72 degrees
of latitude, within ten beyond.

Owns: solar, sun_time.  May import: kernel.
"""

from __future__ import annotations

import datetime as _dt
from collections.abc import Callable
from math import acos, asin, cos, degrees, radians, sin, tan
from typing import Any

from celeriac.kernel.schedules import Schedule
from celeriac.kernel.walltime import DAY

ELEVATIONS: dict[str, tuple[int, float]] = {
    # The sun's disc counts at its upper edge, with the usual refraction: 50 minutes of arc.
    "dawn_astronomical": (-1, -18.0),
    "dawn_nautical": (-1, -12.0),
    "dawn_civil": (-1, -6.0),
    "sunrise": (-1, -0.8333),
    "solar_noon": (0, 0.0),
    "sunset": (1, -0.8333),
    "dusk_civil": (1, -6.0),
    "dusk_nautical": (1, -12.0),
    "dusk_astronomical": (1, -18.0),
}
"""Each event: before noon, at it, or after it; and the sun's elevation in degrees."""

MOST_DAYS = 400
"""Days that are searched: no polar night or day lasts longer."""


def _sun(instant: float) -> tuple[float, float]:
    """Return the sun's declination (radians), and how far a sundial is ahead of the clock (s)."""
    century = (instant / DAY + 2440587.5 - 2451545.0) / 36525
    mean_longitude = radians((280.46646 + century * (36000.76983 + century * 0.0003032)) % 360)
    anomaly = radians(357.52911 + century * (35999.05029 - 0.0001537 * century))
    eccentricity = 0.016708634 - century * (0.000042037 + 0.0000001267 * century)
    center = (
        sin(anomaly) * (1.914602 - century * (0.004817 + 0.000014 * century))
        + sin(2 * anomaly) * (0.019993 - 0.000101 * century)
        + sin(3 * anomaly) * 0.000289
    )
    node = radians(125.04 - 1934.136 * century)
    longitude = mean_longitude + radians(center - 0.00569 - 0.00478 * sin(node))
    tilt = (
        23
        + (26 + (21.448 - century * (46.815 + century * (0.00059 - century * 0.001813))) / 60) / 60
    )
    obliquity = radians(tilt + 0.00256 * cos(node))
    declination = asin(sin(obliquity) * sin(longitude))
    y = tan(obliquity / 2) ** 2
    equation = (
        y * sin(2 * mean_longitude)
        - 2 * eccentricity * sin(anomaly)
        + 4 * eccentricity * y * sin(anomaly) * cos(2 * mean_longitude)
        - 0.5 * y * y * sin(4 * mean_longitude)
        - 1.25 * eccentricity * eccentricity * sin(2 * anomaly)
    )
    return declination, degrees(equation) * 240


def sun_time(event: str, latitude: float, longitude: float, day: int) -> float | None:
    """Return when an event is on a day, in unix seconds; None where the sun does not do it.

    :param day: days since 1970-01-01; solar noon lies in it by the place's own mean time.
    """
    side, elevation = ELEVATIONS[event]
    instant = mean_noon = day * DAY + DAY / 2 - longitude * 240
    for _ in range(4):  # each round puts the sun where it is at the time found before
        declination, ahead = _sun(instant)
        angle = 0.0
        if side:
            place = radians(latitude)
            ratio = (sin(radians(elevation)) - sin(place) * sin(declination)) / (
                cos(place) * cos(declination)
            )
            if not -1 <= ratio <= 1:
                return None
            angle = degrees(acos(ratio))
        instant = mean_noon - ahead + side * angle * 240
    return instant


class solar(Schedule):  # noqa: N801 - Celery's name
    """When the sun rises, sets or stands highest at a place.

    :param event: dawn_astronomical, dawn_nautical, dawn_civil, sunrise, solar_noon, sunset,
        dusk_civil, dusk_nautical or dusk_astronomical.
    :param lat: degrees north.
    :param lon: degrees east.
    :raises ValueError: there is no such event, or no such place.
    """

    def __init__(
        self,
        event: str,
        lat: float,
        lon: float,
        nowfun: Callable[[], _dt.datetime] | None = None,
        app: Any = None,
    ) -> None:
        super().__init__(nowfun, app)
        if event not in ELEVATIONS:
            raise ValueError(f"no solar event is called {event!r}: {', '.join(ELEVATIONS)}")
        if not -90 <= lat <= 90:
            raise ValueError(f"a latitude is from -90 to 90 degrees, not {lat!r}")
        if not -180 <= lon <= 180:
            raise ValueError(f"a longitude is from -180 to 180 degrees, not {lon!r}")
        self.event, self.lat, self.lon = event, lat, lon

    def next_after(self, instant: float) -> float | None:
        """Return the next event after `instant`, to the second; None where it never comes."""
        today = int(instant // DAY)
        for day in range(today - 2, today + MOST_DAYS):
            found = sun_time(self.event, self.lat, self.lon, day)
            if found is not None and round(found) > instant:
                return round(found)
        return None

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, solar):
            return (self.event, self.lat, self.lon) == (other.event, other.lat, other.lon)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.event, self.lat, self.lon))

    def __reduce__(self) -> Any:
        return self.__class__, (self.event, self.lat, self.lon)
