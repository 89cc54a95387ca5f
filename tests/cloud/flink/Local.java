package hr.streaming;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Properties;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/**
 * The application on a Flink of this process alone, where the managed service would start it.
 *
 * <p>Arguments: a file of the application's properties, and one of Flink's, which the service would set. It ends with
 * the job.
 */
public final class Local {
    private Local() {}

    public static void main(String[] files) throws Exception {
        Configuration flink = new Configuration();
        read(files[1]).forEach((name, value) -> flink.setString((String) name, (String) value));
        Streaming.run(StreamExecutionEnvironment.createLocalEnvironment(flink), read(files[0])).await();
    }

    private static Properties read(String file) throws Exception {
        Properties read = new Properties();
        read.load(Files.newBufferedReader(Path.of(file)));
        return read;
    }
}
