import com.amazonaws.services.glue.model.Table;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.MapperFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.trino.Session;
import io.trino.execution.QueryIdGenerator;
import io.trino.execution.warnings.WarningCollector;
import io.trino.plugin.hive.InternalHiveConnectorFactory;
import io.trino.plugin.hive.metastore.Database;
import io.trino.plugin.hive.metastore.HiveMetastore;
import io.trino.plugin.hive.metastore.PrincipalPrivileges;
import io.trino.plugin.hive.metastore.file.FileHiveMetastore;
import io.trino.plugin.hive.metastore.glue.converter.GlueToTrinoConverter;
import io.trino.spi.security.PrincipalType;
import io.trino.spi.connector.Connector;
import io.trino.spi.connector.ConnectorContext;
import io.trino.spi.connector.ConnectorFactory;
import io.trino.spi.type.TimeZoneKey;
import io.trino.sql.planner.plan.OutputNode;
import io.trino.testing.LocalQueryRunner;
import io.trino.testing.MaterializedResult;
import io.trino.testing.MaterializedRow;
import io.trino.testing.QueryRunner.MaterializedResultWithPlan;
import io.trino.testing.TestingSession;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Optional;

/**
 * A real Trino in one process, with its Hive connector over a folder: what Athena engine 3 is made of.
 *
 * <p>Started as `java -cp 'lib/*' Trino.java FOLDER`. Each line of standard input is JSON: an object is a Glue TableInput
 * (a table or a view), taken over by Trino's own Glue converter; a string is a statement. Each is answered by one line:
 * columns, types and rows (numbers as numbers, everything else as text), or error.
 */
public class Trino {
    private static final String DATABASE = "hr_data";
    private static final ObjectMapper JSON = JsonMapper.builder()
            .enable(MapperFeature.ACCEPT_CASE_INSENSITIVE_PROPERTIES)
            .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .build();

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err); // What Trino logs is not an answer.
        HiveMetastore catalogue = FileHiveMetastore.createTestingFileHiveMetastore(new File(arguments[0]));
        catalogue.createDatabase(Database.builder()
                .setDatabaseName(DATABASE)
                .setOwnerName(Optional.of("public"))
                .setOwnerType(Optional.of(PrincipalType.ROLE))
                .build());
        Session session = TestingSession.testSessionBuilder()
                .setCatalog("awsdatacatalog")
                .setSchema(DATABASE)
                .setTimeZoneKey(TimeZoneKey.UTC_KEY) // Athena's
                .build();
        QueryIdGenerator queryIds = new QueryIdGenerator();
        try (LocalQueryRunner trino = LocalQueryRunner.builder(session).build();
                BufferedReader requests =
                        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            trino.createCatalog("awsdatacatalog", new Hive(catalogue), Map.of(
                    "hive.partition-projection-enabled", "true",
                    "hive.ignore-absent-partitions", "true", // A bucket has no folders that could be missing.
                    "hive.security", "allow-all"));
            String line;
            while ((line = requests.readLine()) != null) {
                ObjectNode answer = JSON.createObjectNode();
                try {
                    JsonNode request = JSON.readTree(line);
                    if (request.isObject()) {
                        take(catalogue, JSON.treeToValue(request, Table.class));
                    } else {
                        fill(answer, run(trino, queryIds, request.asText()));
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

    private static MaterializedResultWithPlan run(LocalQueryRunner trino, QueryIdGenerator queryIds, String statement) {
        Session own = Session.builder(trino.getDefaultSession()).setQueryId(queryIds.createNextQueryId()).build();
        return trino.executeWithPlan(own, statement, WarningCollector.NOOP);
    }

    private static void take(HiveMetastore catalogue, Table glue) {
        glue.getStorageDescriptor().withNumberOfBuckets(0); // As Glue answers when none was given.
        catalogue.createTable(
                io.trino.plugin.hive.metastore.Table.builder(GlueToTrinoConverter.convertTable(glue, DATABASE))
                        .setOwner(Optional.of("owner")) // Athena keeps none; Trino asks for one.
                        .build(),
                PrincipalPrivileges.NO_PRIVILEGES);
    }

    /** The Hive connector without the class loader of its own that an installed plugin gets. */
    private record Hive(HiveMetastore catalogue) implements ConnectorFactory {
        @Override
        public String getName() {
            return "hive";
        }

        @Override
        public Connector create(String catalog, Map<String, String> settings, ConnectorContext context) {
            return InternalHiveConnectorFactory.createConnector(
                    catalog, settings, context, binder -> {}, Optional.of(catalogue), Optional.empty());
        }
    }

    private static void fill(ObjectNode answer, MaterializedResultWithPlan run) {
        MaterializedResult result = run.getMaterializedResult();
        ArrayNode columns = answer.putArray("columns");
        ((OutputNode) run.getQueryPlan().getRoot()).getColumnNames().forEach(columns::add);
        ArrayNode types = answer.putArray("types");
        result.getTypes().forEach(type -> types.add(type.getDisplayName()));
        ArrayNode rows = answer.putArray("rows");
        for (MaterializedRow row : result.getMaterializedRows()) {
            ArrayNode fields = rows.addArray();
            for (Object field : row.getFields()) {
                if (field == null) {
                    fields.addNull();
                } else if (field instanceof Double || field instanceof Float) {
                    fields.add(((Number) field).doubleValue());
                } else if (field instanceof Number number && !(field instanceof java.math.BigDecimal)) {
                    fields.add(number.longValue());
                } else if (field instanceof Boolean truth) {
                    fields.add(truth);
                } else {
                    fields.add(field.toString());
                }
            }
        }
    }
}
