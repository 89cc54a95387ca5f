{date: ((.timestamp[0:19] + "Z") as $t | ($t | strptime("%Y-%m-%dT%H:%M:%SZ") | mktime | strftime("%Y-%m-%dT%H:%M:%SZ")) as $valid |
if $t == $valid and (.timestamp | length) == 24 and .timestamp[19:20] == "." and .timestamp[23:24] == "Z"
and ((.timestamp[20:23] | explode | map(. > 47 and . < 58)) + ([.reading_id, .gateway_id, .sensor_id] | map(type == "string" and . != "")) | all)
then (.timestamp[0:10] | if . < "${FirstDay}" then "${FirstDay}" else . end) else null end)}
