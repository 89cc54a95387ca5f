"""Firehose's language of prefixes: `!{timestamp:PATTERN}` and `!{partitionKeyFromQuery:KEY}` ("Custom prefixes for S3 objects").

What must hold: of the patterns only those that the templates use are known; any other is refused.
"""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

JAVA = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
DATES = {"year": "yyyy", "month": "MM", "day": "dd", "arrived": "yyyy-MM-dd"}  # Partition keys that may be of the arrival.


def evaluated(prefix: str, arrived: datetime, zone: str, keys: dict[str, str]) -> str:
    """Where an object goes whose oldest record arrived then; a key that is not there is a KeyError."""
    local = arrived.astimezone(ZoneInfo(zone))

    def one(match: re.Match[str]) -> str:
        namespace, value = match[1], match[2]
        if namespace == "partitionKeyFromQuery":
            return keys[value]
        if namespace != "timestamp" or set(re.findall(r"[A-Za-z]+", value)) - JAVA.keys():
            raise ValueError(match[0])
        return local.strftime(re.sub(r"[A-Za-z]+", lambda word: JAVA[word[0]], value))

    return re.sub(r"!\{(\w+):([^}]+)\}", one, prefix)


def looks_at(place: str, prefix: str) -> bool:
    """Whether what is written to the prefix lies in the partition: by a key of the line, or where a table says so by the arrival."""
    def one(match: re.Match[str]) -> str:
        of_the_line = rf"!\{{partitionKeyFrom(?:Query|Lambda):{match[1]}\}}"
        return rf"({of_the_line}|!\{{timestamp:{DATES[match[1]]}\}})" if match[1] in DATES else of_the_line

    apart = prefix.replace("!{timestamp:yyyy/MM/dd}", "!{timestamp:yyyy}/!{timestamp:MM}/!{timestamp:dd}")
    return bool(re.match(re.sub(r"\\\$\\\{!(\w+)\\\}", one, re.escape(place)), apart))
