"""Heart-rate variability with its error known: artefact correction after Lipponen and Tarvainen (2019), "A robust
algorithm for heart rate variability time series artefact correction using novel beat classification", J Med Eng Technol
43(3). Pure; numbers are milliseconds. The constants are the paper's; the order of decisions is that of its figure 1.
"""

import math
from dataclasses import dataclass

ALPHA = 5.2  # of the time-varying threshold
WINDOW_BEATS = 91  # of the same
MEDIAN_BEATS = 11
C1, C2 = 0.13, 0.17  # the border of ectopic beats
ARTEFACT_SHARE_MAX = 0.05  # more, and a window says nothing


@dataclass
class Artefacts:
    """Indices into the times of the beats."""

    ectopic: list
    missed: list
    extra: list
    long_or_short: list

    def count(self):
        return len(self.ectopic) + len(self.missed) + len(self.extra) + len(self.long_or_short)


def quantile(ordered, share):
    """Linear between the two nearest, of values in order."""
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def rolling(values, width, of):
    """`of` the ordered values in a window around each; at the ends there are fewer."""
    half = width // 2
    return [of(sorted(values[max(0, i - half) : i + half + 1])) for i in range(len(values))]


def thresholds(values):
    """What a value is measured by: 5.2 times the quartile deviation of those around it."""

    def deviation(ordered):
        return ALPHA * (quantile(ordered, 0.75) - quantile(ordered, 0.25)) / 2

    return rolling([abs(value) for value in values], WINDOW_BEATS, deviation)


def normed(values, by):
    """Where half of the values are alike there is nothing to measure by: not a number, and so no artefact."""
    return [value / th if th > 0 else math.nan for value, th in zip(values, by)]


def extreme(of, *values):
    return math.nan if any(map(math.isnan, values)) else of(values)


def intervals(beats):
    """One for each beat, from the one before; the first has none, and counts as the mean."""
    rr = [after - before for before, after in zip(beats, beats[1:])]
    return [sum(rr) / len(rr), *rr]


def find_artefacts(beats):
    """Those of one pass, as indices into the times of the beats."""
    found = Artefacts([], [], [], [])
    if len(beats) < 5:
        return found
    rr = intervals(beats)
    differences = [after - before for before, after in zip(rr, rr[1:])]
    differences.insert(0, sum(differences) / len(differences))
    d = normed(differences, thresholds(differences))
    median = rolling(rr, MEDIAN_BEATS, lambda ordered: quantile(ordered, 0.5))
    deviations = [value - middle for value, middle in zip(rr, median)]
    deviations = [2 * value if value < 0 else value for value in deviations]
    th2 = thresholds(deviations)
    m = normed(deviations, th2)
    padded = [d[2], d[1], *d, d[-2], d[-3]]

    def neighbours(i):
        before, after = padded[i + 1], padded[i + 3]
        return extreme(max, before, after) if d[i] > 0 else extreme(min, before, after) if d[i] < 0 else 0.0

    def following(i):
        one, two = padded[i + 3], padded[i + 4]
        return extreme(min, one, two) if d[i] >= 0 else extreme(max, one, two) if d[i] < 0 else 0.0

    i = 0
    while i < len(rr) - 2:
        if abs(d[i]) <= 1:
            i += 1
            continue
        if (d[i] > 1 and neighbours(i) < -C1 * d[i] - C2) or (d[i] < -1 and neighbours(i) > -C1 * d[i] + C2):
            found.ectopic.append(i)
            i += 1
            continue
        if not (abs(d[i]) > 1 or abs(m[i]) > 3):
            i += 1
            continue
        candidates = [i]
        if abs(d[i + 1]) < abs(d[i + 2]):
            candidates.append(i + 1)
        for j in candidates:
            is_long = d[j] > 1 and following(j) < -1
            is_short = d[j] < -1 and following(j) > 1
            i += 1
            if not (is_long or is_short or abs(m[j]) > 3):
                continue
            if is_short and abs(rr[j] + rr[j + 1] - median[j]) < th2[j]:
                found.extra.append(j)
            elif is_long and abs(rr[j] / 2 - median[j]) < th2[j]:
                found.missed.append(j)
            else:
                found.long_or_short.append(j)
    return found


def moved(indices, gone, by):
    """Indices after so many beats before them went, or came."""
    return [index + by * sum(other < index for other in gone) for index in indices]


def between_neighbours(beats, indices):
    """The beats at `indices` are put halfway between those around them, as these were."""
    inside = {index for index in indices if 1 < index < len(beats) - 1}
    out = [(beats[i - 1] + beats[i + 1]) / 2 if i in inside else beat for i, beat in enumerate(beats)]
    return sorted(out)


def corrected_once(beats, artefacts):
    """An extra beat goes, a missed one is put into the middle, an early or late one between its neighbours."""
    extra, missed = artefacts.extra, artefacts.missed
    beats = [beat for index, beat in enumerate(beats) if index not in set(extra)]
    missed = [index for index in moved(missed, extra, -1) if 1 < index < len(beats)]
    ectopic, long_or_short = (moved(indices, extra, -1) for indices in (artefacts.ectopic, artefacts.long_or_short))
    for index in sorted(missed, reverse=True):
        beats.insert(index, (beats[index - 1] + beats[index]) / 2)
    for indices in (ectopic, long_or_short):
        beats = between_neighbours(beats, moved(indices, missed, 1))
    return beats


def correct(rr):
    """The corrected intervals, and how many artefacts were found in the uncorrected ones. Goes on for as long as that
    leaves fewer."""
    beats = [0.0]
    for interval in rr:
        beats.append(beats[-1] + interval)
    artefacts = find_artefacts(beats)
    first = count = artefacts.count()
    while count > 0:
        beats = corrected_once(beats, artefacts)
        artefacts = find_artefacts(beats)
        if artefacts.count() >= count:
            break
        count = artefacts.count()
    return [after - before for before, after in zip(beats, beats[1:])], first


def rmssd(rr):
    """Root mean square of successive differences."""
    squares = [(after - before) ** 2 for before, after in zip(rr, rr[1:])]
    return math.sqrt(sum(squares) / len(squares)) if squares else None
