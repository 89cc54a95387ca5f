package consumer;

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;

/**
 * What the command line asks for.
 *
 * @param application names the two tables and the fan-out consumer; workers of one name share the work
 * @param worker tells this process from the others
 * @param fanOut a throughput of its own, 2 MB/s a shard, at extra cost
 * @param metrics the library's metrics go to CloudWatch, at extra cost
 * @param failover after which a silent worker's shards are another one's
 */
record Options(
        String command,
        String stream,
        String application,
        String worker,
        boolean fanOut,
        boolean metrics,
        Duration failover,
        Duration checkpointEvery) {
    static final String USAGE = """
            Usage: consumer run|show --stream NAME [OPTION...]
                   consumer ledger [--application NAME]
              run     reads the stream until it is told to end (SIGTERM)
              show    says how it would be read, and asks AWS for nothing
              ledger  prints what was taken, a JSON object for each gateway queue

              --stream NAME              the stream
              --application NAME         names what it makes in the account (hr-consumer); start several workers
                                         of one name and they share the shards
              --worker NAME              this worker's name, no other's (a new one each time)
              --fan-out                  enhanced fan-out: registers a consumer of its own; without it, polls
              --metrics                  the library's metrics go to CloudWatch
              --failover SECONDS         a worker silent for so long loses its shards (10)
              --checkpoint-every SECONDS how much may be read again after a kill (10)

            Region, credentials and endpoint are found as by any AWS SDK: AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL.
            """;

    private static final Set<String> COMMANDS = Set.of("run", "show", "ledger");
    private static final Set<String> SWITCHES = Set.of("--fan-out", "--metrics");
    private static final Set<String> WITH_VALUE =
            Set.of("--stream", "--application", "--worker", "--failover", "--checkpoint-every");

    /** The options, or an IllegalArgumentException that says which is wrong. */
    static Options parse(List<String> words) {
        if (words.isEmpty() || !COMMANDS.contains(words.get(0))) {
            throw new IllegalArgumentException("the first word is run, show or ledger");
        }
        Map<String, String> given = new HashMap<>();
        for (int at = 1; at < words.size(); at++) {
            String word = words.get(at);
            if (SWITCHES.contains(word)) {
                given.put(word, "");
            } else if (WITH_VALUE.contains(word) && at + 1 < words.size()) {
                given.put(word, words.get(++at));
            } else {
                throw new IllegalArgumentException(word + ": no such option, or its value is missing");
            }
        }
        if (!given.containsKey("--stream") && !words.get(0).equals("ledger")) {
            throw new IllegalArgumentException("--stream is missing");
        }
        return new Options(
                words.get(0),
                given.getOrDefault("--stream", ""),
                given.getOrDefault("--application", "hr-consumer"),
                given.getOrDefault("--worker", UUID.randomUUID().toString()),
                given.containsKey("--fan-out"),
                given.containsKey("--metrics"),
                seconds(given, "--failover"),
                seconds(given, "--checkpoint-every"));
    }

    private static Duration seconds(Map<String, String> given, String name) {
        String text = given.getOrDefault(name, "10");
        if (!text.matches("[1-9][0-9]{0,4}")) {
            throw new IllegalArgumentException(name + ": whole seconds from 1 to 99999");
        }
        return Duration.ofSeconds(Long.parseLong(text));
    }
}
