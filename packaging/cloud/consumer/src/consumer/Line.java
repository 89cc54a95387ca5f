package consumer;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.IntNode;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * What the ledger asks of one line of a gateway's: its queue, its number in it, and what it says was lost. Pure.
 *
 * <p>The form is docs/wire.schema.json. What is not of it is foreign: it is counted and holds up nothing.
 *
 * @param queue the gateway and the epoch that its ids begin with, "living-room/0123456789abcdef"
 * @param sequence its number in that queue, from 1, none left out
 * @param lost how many sequences a gap record says were lost; 0 for any other line
 * @param object the whole line, for whoever does more than count
 */
record Line(String queue, long sequence, long lost, JsonNode object) {
    private static final JsonNode SCHEMA_VERSION = IntNode.valueOf(1);
    private static final Pattern NAME = Pattern.compile("[A-Za-z0-9._-]{1,64}");
    private static final Pattern EPOCH = Pattern.compile("[0-9a-f]{16}");
    private static final Pattern TIME =
            Pattern.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z");
    private static final ObjectMapper JSON =
            JsonMapper.builder().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS).build();

    /** A record, read: its lines, and how many more there were that no gateway wrote. */
    record Parsed(List<Line> lines, int foreign) {}

    /** Reads each line of a record's data. */
    static Parsed parseRecord(ByteBuffer data) {
        List<Line> lines = new ArrayList<>();
        int foreign = 0;
        for (String text : StandardCharsets.UTF_8.decode(data).toString().split("\n")) {
            if (text.isBlank()) {
                continue;
            }
            Optional<Line> line = parse(text);
            line.ifPresent(lines::add);
            foreign += line.isPresent() ? 0 : 1;
        }
        return new Parsed(lines, foreign);
    }

    /** Reads one line, if it is one of a gateway's. */
    static Optional<Line> parse(String text) {
        JsonNode object;
        try {
            object = JSON.readTree(text);
        } catch (JsonProcessingException notJson) {
            return Optional.empty();
        }
        JsonNode sequence = object.path("sequence");
        JsonNode lost = object.path("gap_readings_lost");
        String id = text(object, "reading_id");
        int dash = id.indexOf('-');
        boolean ours = SCHEMA_VERSION.equals(object.get("schema_version"))
                && NAME.matcher(text(object, "gateway_id")).matches()
                && NAME.matcher(text(object, "sensor_id")).matches()
                && TIME.matcher(text(object, "timestamp")).matches()
                && dash > 0
                && EPOCH.matcher(id.substring(0, dash)).matches()
                && sequence.isIntegralNumber()
                && sequence.canConvertToLong()
                && sequence.asLong() >= 1
                && id.substring(dash + 1).equals(sequence.asText())
                && (lost.isMissingNode() || lost.isIntegralNumber() && lost.canConvertToInt() && lost.asInt() >= 0)
                && Stream.of("heart_rate", "gap_reason", "record").filter(object::has).count() == 1;
        if (!ours) {
            return Optional.empty();
        }
        String queue = object.get("gateway_id").asText() + "/" + id.substring(0, dash);
        return Optional.of(new Line(queue, sequence.asLong(), lost.asLong(), object));
    }

    /** A field's text; empty if it is anything else. */
    private static String text(JsonNode object, String field) {
        JsonNode value = object.path(field);
        return value.isTextual() ? value.asText() : "";
    }
}
