package hr.streaming;

import com.amazonaws.services.kinesisanalytics.runtime.KinesisAnalyticsRuntime;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.StatementSet;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;

/**
 * What Managed Service for Apache Flink starts: the statements of windows.sql as one job.
 *
 * <p>Their parameters are the application's runtime properties, group {@value #GROUP}. Checkpoints and parallelism are
 * the service's to set: from Flink 1.19 on it refuses an application that sets them.
 */
public final class Streaming {
    private static final String GROUP = "windows";
    private static final Pattern SET = Pattern.compile("SET\\s+'([^']+)'\\s*=\\s*'([^']*)'");

    private Streaming() {}

    public static void main(String[] arguments) throws IOException {
        Properties given = KinesisAnalyticsRuntime.getApplicationProperties().getOrDefault(GROUP, new Properties());
        run(StreamExecutionEnvironment.getExecutionEnvironment(), given);
    }

    /** Submits the job. */
    static TableResult run(StreamExecutionEnvironment flink, Properties given) throws IOException {
        List<String> statements = Script.filled(text("/windows.sql"), properties(given));
        StreamTableEnvironment tables = StreamTableEnvironment.create(flink);
        StatementSet inserts = tables.createStatementSet();
        for (String statement : statements) {
            Matcher setting = SET.matcher(statement);
            if (setting.matches()) {
                tables.getConfig().set(setting.group(1), setting.group(2));
            } else if (statement.startsWith("INSERT ")) {
                inserts.addInsertSql(statement);
            } else {
                tables.executeSql(statement);
            }
        }
        return inserts.execute();
    }

    private static Map<String, String> properties(Properties given) {
        return given.stringPropertyNames().stream().collect(Collectors.toMap(name -> name, given::getProperty));
    }

    private static String text(String resource) throws IOException {
        try (InputStream file = Streaming.class.getResourceAsStream(resource)) {
            return new String(file.readAllBytes(), StandardCharsets.UTF_8);
        }
    }
}
