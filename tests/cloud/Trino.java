import com.amazonaws.services.glue.model.Table;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.MapperFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.trino.client.ClientSession;
import io.trino.client.StatementClient;
import io.trino.client.StatementClientFactory;
import io.trino.plugin.hive.InternalHiveConnectorFactory;
import io.trino.plugin.hive.metastore.Database;
import io.trino.plugin.hive.metastore.HiveMetastore;
import io.trino.plugin.hive.metastore.PrincipalPrivileges;
import io.trino.plugin.hive.metastore.file.FileHiveMetastore;
import io.trino.plugin.hive.metastore.glue.converter.GlueToTrinoConverter;
import io.trino.plugin.iceberg.InternalIcebergConnectorFactory;
import io.trino.server.testing.TestingTrinoServer;
import io.trino.spi.Plugin;
import io.trino.spi.connector.Connector;
import io.trino.spi.connector.ConnectorContext;
import io.trino.spi.connector.ConnectorFactory;
import io.trino.spi.security.PrincipalType;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.ZoneOffset;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import okhttp3.OkHttpClient;

/**
 * A real Trino in one process, with its Hive and its Iceberg connector over one catalogue in a folder: what Athena engine
 * 3 is made of.
 *
 * <p>Started as `java -cp 'lib/*' Trino.java FOLDER`. Each line of standard input is JSON: an object is a Glue TableInput
 * (a table or a view), taken over by Trino's own Glue converter; a string is a statement. Each is answered by one line:
 * columns, types, rows and how many bytes were read; or error.
 */
public class Trino {
    private static final String DATABASE = "hr_data";
    private static final ObjectMapper JSON = JsonMapper.builder()
            .enable(MapperFeature.ACCEPT_CASE_INSENSITIVE_PROPERTIES)
            .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .build();
    private static final Map<String, String> HIVE = Map.of(
            "hive.partition-projection-enabled", "true",
            "hive.recursive-directories", "true", // As in Athena.
            "hive.table-statistics-enabled", "false", // Projected partitions have none.
            "hive.ignore-absent-partitions", "true", // A bucket has no folders that could be missing.
            "hive.iceberg-catalog-name", "iceberg", // Athena has one catalogue for both kinds of table.
            "hive.security", "allow-all");

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err); // What Trino logs is not an answer.
        HiveMetastore catalogue = FileHiveMetastore.createTestingFileHiveMetastore(new File(arguments[0]));
        catalogue.createDatabase(Database.builder()
                .setDatabaseName(DATABASE)
                .setOwnerName(Optional.of("public"))
                .setOwnerType(Optional.of(PrincipalType.ROLE))
                .build());
        try (TestingTrinoServer trino = TestingTrinoServer.builder().build();
                BufferedReader requests =
                        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            trino.installPlugin(new Connectors(List.of(
                    new Factory("hive", (name, settings, context) -> InternalHiveConnectorFactory.createConnector(
                            name, settings, context, binder -> {}, Optional.of(catalogue), Optional.empty())),
                    new Factory("iceberg", (name, settings, context) -> InternalIcebergConnectorFactory.createConnector(
                            name, settings, context, binder -> {}, Optional.empty(), Optional.empty())))));
            trino.createCatalog("awsdatacatalog", "hive", HIVE);
            trino.createCatalog("iceberg", "iceberg", Map.of(
                    "iceberg.catalog.type", "TESTING_FILE_METASTORE",
                    "hive.metastore.catalog.dir", new File(arguments[0]).toURI().toString(),
                    "hive.metastore.user", "test", // The same folder as the other's.
                    "iceberg.expire_snapshots.min-retention", "0s",
                    "iceberg.remove_orphan_files.min-retention", "0s"));
            ClientSession session = ClientSession.builder()
                    .server(trino.getBaseUrl())
                    .user(Optional.of("test"))
                    .catalog("awsdatacatalog")
                    .schema(DATABASE)
                    .timeZone(ZoneOffset.UTC) // Athena's
                    .build();
            OkHttpClient http = new OkHttpClient();
            String line;
            while ((line = requests.readLine()) != null) {
                ObjectNode answer = JSON.createObjectNode();
                try {
                    JsonNode request = JSON.readTree(line);
                    if (request.isObject()) {
                        take(catalogue, JSON.treeToValue(request, Table.class));
                    } else {
                        run(http, session, request.asText(), answer);
                    }
                } catch (RuntimeException refused) {
                    answer.put("error", String.valueOf(refused.getMessage()));
                    refused.printStackTrace();
                }
                answers.println(JSON.writeValueAsString(answer));
                answers.flush();
            }
        }
    }

    private static void run(OkHttpClient http, ClientSession session, String statement, ObjectNode answer) {
        try (StatementClient query = StatementClientFactory.newStatementClient(http, session, statement)) {
            ArrayNode rows = answer.putArray("rows");
            while (query.isRunning()) {
                if (query.currentData().getData() != null) {
                    query.currentData().getData().forEach(row -> rows.add(JSON.valueToTree(row)));
                }
                query.advance();
            }
            var end = query.finalStatusInfo();
            if (end.getError() != null) {
                throw new IllegalArgumentException(
                        end.getError().getMessage(), end.getError().getFailureInfo().toException());
            }
            ArrayNode columns = answer.putArray("columns");
            ArrayNode types = answer.putArray("types");
            if (end.getColumns() != null) {
                end.getColumns().forEach(column -> {
                    columns.add(column.getName());
                    types.add(column.getType());
                });
            }
            answer.put("bytes", end.getStats().getPhysicalInputBytes());
        }
    }

    private static void take(HiveMetastore catalogue, Table glue) {
        glue.getStorageDescriptor().withNumberOfBuckets(0); // As Glue answers when none was given.
        catalogue.createTable(
                io.trino.plugin.hive.metastore.Table.builder(GlueToTrinoConverter.convertTable(glue, DATABASE))
                        .setOwner(Optional.of("owner")) // Athena keeps none; Trino asks for one.
                        .build(),
                PrincipalPrivileges.NO_PRIVILEGES);
    }

    /** How a connector is made. */
    private interface Maker {
        Connector make(String catalog, Map<String, String> settings, ConnectorContext context);
    }

    /** A connector without the class loader of its own that an installed plugin gets. */
    private record Factory(String name, Maker maker) implements ConnectorFactory {
        @Override
        public String getName() {
            return name;
        }

        @Override
        public Connector create(String catalog, Map<String, String> settings, ConnectorContext context) {
            return maker.make(catalog, settings, context);
        }
    }

    private record Connectors(List<ConnectorFactory> factories) implements Plugin {
        @Override
        public Iterable<ConnectorFactory> getConnectorFactories() {
            return factories;
        }
    }
}
