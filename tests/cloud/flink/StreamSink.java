package hr.streaming;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.table.data.RowData;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.PutRecordsRequestEntry;

/** Puts each row on a stream as a record of its own, at the latest before a checkpoint. */
record StreamSink(String arn, int key, SerializationSchema<RowData> format) implements Sink<RowData> {
    private static final int BATCH_RECORDS_MAX = 100;

    @Override
    public SinkWriter<RowData> createWriter(WriterInitContext context) throws IOException {
        try {
            format.open(context.asSerializationSchemaInitializationContext());
        } catch (Exception refused) {
            throw new IOException("the format cannot be opened", refused);
        }
        return new Writer(KinesisClient.create(), this);
    }

    private static final class Writer implements SinkWriter<RowData> {
        private final KinesisClient kinesis;
        private final StreamSink sink;
        private final List<PutRecordsRequestEntry> waiting = new ArrayList<>();

        private Writer(KinesisClient kinesis, StreamSink sink) {
            this.kinesis = kinesis;
            this.sink = sink;
        }

        @Override
        public void write(RowData row, Context context) throws IOException {
            waiting.add(PutRecordsRequestEntry.builder()
                    .data(SdkBytes.fromByteArray(sink.format.serialize(row)))
                    .partitionKey(row.getString(sink.key).toString())
                    .build());
            if (waiting.size() == BATCH_RECORDS_MAX) {
                flush(false);
            }
        }

        @Override
        public void flush(boolean endOfInput) throws IOException {
            if (!waiting.isEmpty()) {
                int failed = kinesis.putRecords(put -> put.streamARN(sink.arn).records(waiting)).failedRecordCount();
                if (failed > 0) {
                    throw new IOException(failed + " records were refused");
                }
                waiting.clear();
            }
        }

        @Override
        public void close() {
            kinesis.close();
        }
    }
}
