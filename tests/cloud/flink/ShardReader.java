package hr.streaming;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.table.data.RowData;
import org.apache.flink.util.Collector;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.GetRecordsResponse;
import software.amazon.awssdk.services.kinesis.model.Record;
import software.amazon.awssdk.services.kinesis.model.ShardIteratorType;

/** Polls the shards of one task in turn. */
final class ShardReader implements SourceReader<RowData, ShardSource.Split> {
    private static final int RECORDS_MAX = 50;
    private static final int PAUSE_MS = 250;

    private final KinesisClient kinesis;
    private final ShardSource source;
    private final Map<String, String> read = new LinkedHashMap<>();
    private final Map<String, String> iterators = new LinkedHashMap<>();
    private boolean quiet;

    ShardReader(KinesisClient kinesis, ShardSource source) {
        this.kinesis = kinesis;
        this.source = source;
    }

    @Override
    public void addSplits(List<ShardSource.Split> splits) {
        for (ShardSource.Split split : splits) {
            read.put(split.shard(), split.read());
            iterators.put(split.shard(), kinesis.getShardIterator(get -> {
                get.streamARN(source.arn()).shardId(split.shard());
                if (split.read().isEmpty()) {
                    get.shardIteratorType(source.position());
                } else {
                    get.shardIteratorType(ShardIteratorType.AFTER_SEQUENCE_NUMBER).startingSequenceNumber(split.read());
                }
            }).shardIterator());
        }
    }

    @Override
    public InputStatus pollNext(ReaderOutput<RowData> output) throws Exception {
        quiet = true;
        for (String shard : iterators.keySet()) {
            String next = iterators.get(shard);
            GetRecordsResponse records =
                    kinesis.getRecords(get -> get.streamARN(source.arn()).shardIterator(next).limit(RECORDS_MAX));
            for (Record record : records.records()) {
                source.format().deserialize(record.data().asByteArray(), rows(output, record));
                read.put(shard, record.sequenceNumber());
                quiet = false;
            }
            iterators.put(shard, records.nextShardIterator());
        }
        return quiet ? InputStatus.NOTHING_AVAILABLE : InputStatus.MORE_AVAILABLE;
    }

    private static Collector<RowData> rows(ReaderOutput<RowData> output, Record record) {
        return new Collector<>() {
            @Override
            public void collect(RowData row) {
                output.collect(row, record.approximateArrivalTimestamp().toEpochMilli());
            }

            @Override
            public void close() {}
        };
    }

    @Override
    public CompletableFuture<Void> isAvailable() {
        return CompletableFuture.runAsync(
                () -> {}, CompletableFuture.delayedExecutor(quiet ? PAUSE_MS : 0, TimeUnit.MILLISECONDS));
    }

    @Override
    public List<ShardSource.Split> snapshotState(long checkpoint) {
        List<ShardSource.Split> splits = new ArrayList<>();
        read.forEach((shard, last) -> splits.add(new ShardSource.Split(shard, last)));
        return splits;
    }

    @Override
    public void start() {}

    @Override
    public void notifyNoMoreSplits() {}

    @Override
    public void close() {
        kinesis.close();
    }
}
