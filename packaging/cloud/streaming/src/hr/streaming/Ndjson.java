package hr.streaming;

import java.io.IOException;
import java.util.Arrays;
import java.util.Set;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.formats.json.JsonFormatFactory;
import org.apache.flink.formats.json.JsonFormatOptions;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.format.ProjectableDecodingFormat;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.types.DataType;
import org.apache.flink.util.Collector;

/**
 * The format 'ndjson': each line of a record is a row, as Flink's own 'json' reads it.
 *
 * <p>Flink's 'json' takes one object of a record and no more. Lines cannot be taken apart in SQL, as a watermark is
 * declared where the table is, before any query. A line that is not JSON is no row, and what does not fit its column is
 * null.
 */
public final class Ndjson implements DeserializationFormatFactory {
    @Override
    public String factoryIdentifier() {
        return "ndjson";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of();
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of();
    }

    @Override
    public DecodingFormat<DeserializationSchema<RowData>> createDecodingFormat(
            DynamicTableFactory.Context context, ReadableConfig options) {
        Configuration lenient = new Configuration();
        lenient.set(JsonFormatOptions.IGNORE_PARSE_ERRORS, true);
        DecodingFormat<DeserializationSchema<RowData>> line =
                new JsonFormatFactory().createDecodingFormat(context, lenient);
        return new DecodingFormat<>() {
            @Override
            public DeserializationSchema<RowData> createRuntimeDecoder(
                    DynamicTableSource.Context source, DataType row) {
                if (line instanceof ProjectableDecodingFormat<DeserializationSchema<RowData>> projectable) {
                    int[][] all = new int[DataType.getFieldCount(row)][];
                    Arrays.setAll(all, column -> new int[] {column});
                    return new Lines(projectable.createRuntimeDecoder(source, row, all));
                }
                return new Lines(line.createRuntimeDecoder(source, row));
            }

            @Override
            public ChangelogMode getChangelogMode() {
                return ChangelogMode.insertOnly();
            }
        };
    }

    /** Rows of a whole record. */
    private static final class Lines implements DeserializationSchema<RowData> {
        private final DeserializationSchema<RowData> line;

        private Lines(DeserializationSchema<RowData> line) {
            this.line = line;
        }

        @Override
        public void open(InitializationContext context) throws Exception {
            line.open(context);
        }

        @Override
        public void deserialize(byte[] record, Collector<RowData> rows) throws IOException {
            int start = 0;
            for (int end = 0; end <= record.length; end++) {
                if (end == record.length || record[end] == '\n') {
                    if (end > start) {
                        line.deserialize(Arrays.copyOfRange(record, start, end), rows);
                    }
                    start = end + 1;
                }
            }
        }

        @Override
        public RowData deserialize(byte[] record) {
            throw new UnsupportedOperationException("a record has any number of rows");
        }

        @Override
        public boolean isEndOfStream(RowData row) {
            return false;
        }

        @Override
        public TypeInformation<RowData> getProducedType() {
            return line.getProducedType();
        }
    }
}
