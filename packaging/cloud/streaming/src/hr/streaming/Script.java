package hr.streaming;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * A text of SQL statements with parameters: `-- parameter NAME KIND [DEFAULT]` declares one, `${NAME}` stands for its
 * value.
 *
 * <p>A value goes into the text as it is, so it has to be of its kind, and no kind has a quote in it. One that is not
 * declared is refused: a misspelt name would leave the default in force.
 */
final class Script {
    private static final Map<String, Pattern> KINDS = Map.of(
            "number", Pattern.compile("[1-9][0-9]{0,2}"),
            // Of a longer one SQL wants the precision, and Flink takes none.
            "interval", Pattern.compile("[1-9][0-9]?"),
            "word", Pattern.compile("[A-Za-z0-9_-]+"),
            "arn", Pattern.compile("arn:[A-Za-z0-9:/_.-]+"));
    private static final Pattern PARAMETER = Pattern.compile("-- parameter (\\S+) (\\S+)(?: (\\S+))?");
    private static final Pattern PLACE = Pattern.compile("\\$\\{([^}]+)}");

    private Script() {}

    /** The statements, without comments, with the given values or the defaults. */
    static List<String> filled(String text, Map<String, String> given) {
        Map<String, String> values = new HashMap<>();
        for (String line : text.lines().toList()) {
            Matcher parameter = PARAMETER.matcher(line);
            if (parameter.matches()) {
                String name = parameter.group(1);
                String value = given.getOrDefault(name, parameter.group(3));
                if (value == null || !KINDS.get(parameter.group(2)).matcher(value).matches()) {
                    throw new IllegalArgumentException(
                            "property " + name + " has to be of the kind " + parameter.group(2) + ": " + value);
                }
                values.put(name, value);
            }
        }
        for (String name : given.keySet()) {
            if (!values.containsKey(name)) {
                throw new IllegalArgumentException("no such property: " + name + "; there are " + values.keySet());
            }
        }
        String code = text.lines()
                .filter(line -> !line.stripLeading().startsWith("--"))
                .collect(Collectors.joining("\n"));
        String statements =
                PLACE.matcher(code).replaceAll(place -> Matcher.quoteReplacement(values.get(place.group(1))));
        return Arrays.stream(statements.split(";\\s*(\n|$)"))
                .map(String::strip)
                .filter(statement -> !statement.isEmpty())
                .toList();
    }
}
