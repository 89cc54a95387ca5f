((PARTITION_QUERY) | .date) as $date | {year: $date[0:4], month: $date[5:7], day: $date[8:10],
session: (.session_id | if type == "string" and test("^[0-9a-f]{16}-s[0-9]+$") then . else null end)}
