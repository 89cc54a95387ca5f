package hr.streaming;

import java.util.Set;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.format.EncodingFormat;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.connector.sink.SinkV2Provider;
import org.apache.flink.table.connector.sink.abilities.SupportsPartitioning;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.connector.source.SourceProvider;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableSinkFactory;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.factories.SerializationFormatFactory;
import org.apache.flink.table.types.DataType;

/**
 * A stand-in for the tables of Flink's Kinesis connector, which is on no registry that the tests reach.
 *
 * <p>As there: tables 'kinesis' with its options' names (any that windows.sql does not use is refused), shards are
 * splits whose position is in the checkpoint, the watermark is made behind the source and so is one per task, any
 * format may give several rows per record, the sink takes what its format takes, in partitions by the first column of
 * PARTITIONED BY, and may repeat what came after the last checkpoint. Left out: resharding, retries, enhanced fan-out,
 * metadata columns.
 */
public final class KinesisTables implements DynamicTableSourceFactory, DynamicTableSinkFactory {
    private static final ConfigOption<String> STREAM_ARN =
            ConfigOptions.key("stream.arn").stringType().noDefaultValue();
    private static final ConfigOption<String> REGION =
            ConfigOptions.key("aws.region").stringType().noDefaultValue();
    private static final ConfigOption<String> POSITION =
            ConfigOptions.key("source.init.position").stringType().defaultValue("LATEST");

    @Override
    public String factoryIdentifier() {
        return "kinesis";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of(STREAM_ARN, REGION, FactoryUtil.FORMAT);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of(POSITION);
    }

    @Override
    public DynamicTableSource createDynamicTableSource(Context context) {
        FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
        var format = helper.discoverDecodingFormat(DeserializationFormatFactory.class, FactoryUtil.FORMAT);
        helper.validate();
        return new SourceTable(
                helper.getOptions().get(STREAM_ARN),
                helper.getOptions().get(POSITION),
                format,
                context.getPhysicalRowDataType());
    }

    @Override
    public DynamicTableSink createDynamicTableSink(Context context) {
        FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
        var format = helper.discoverEncodingFormat(SerializationFormatFactory.class, FactoryUtil.FORMAT);
        helper.validate();
        String partition = context.getCatalogTable().getPartitionKeys().get(0);
        int key = DataType.getFieldNames(context.getPhysicalRowDataType()).indexOf(partition);
        return new SinkTable(helper.getOptions().get(STREAM_ARN), key, format, context.getPhysicalRowDataType());
    }

    private record SourceTable(
            String arn, String position, DecodingFormat<DeserializationSchema<RowData>> format, DataType row)
            implements ScanTableSource {
        @Override
        public ChangelogMode getChangelogMode() {
            return format.getChangelogMode();
        }

        @Override
        public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
            return SourceProvider.of(new ShardSource(arn, position, format.createRuntimeDecoder(context, row)));
        }

        @Override
        public DynamicTableSource copy() {
            return this;
        }

        @Override
        public String asSummaryString() {
            return "Kinesis";
        }
    }

    private record SinkTable(
            String arn, int key, EncodingFormat<SerializationSchema<RowData>> format, DataType row)
            implements DynamicTableSink, SupportsPartitioning {
        @Override
        public ChangelogMode getChangelogMode(ChangelogMode requested) {
            return format.getChangelogMode();
        }

        @Override
        public SinkRuntimeProvider getSinkRuntimeProvider(Context context) {
            return SinkV2Provider.of(new StreamSink(arn, key, format.createRuntimeEncoder(context, row)));
        }

        @Override
        public void applyStaticPartition(java.util.Map<String, String> partition) {
            throw new UnsupportedOperationException("no statement names a partition");
        }

        @Override
        public DynamicTableSink copy() {
            return this;
        }

        @Override
        public String asSummaryString() {
            return "Kinesis";
        }
    }
}
