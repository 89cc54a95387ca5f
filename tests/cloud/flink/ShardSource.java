package hr.streaming;

import java.nio.charset.StandardCharsets;
import java.util.List;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SourceSplit;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.api.java.typeutils.ResultTypeQueryable;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.table.data.RowData;
import software.amazon.awssdk.services.kinesis.KinesisClient;

/** Reads a stream's shards, each by one task; the tasks' checkpoints say how far. */
record ShardSource(String arn, String position, DeserializationSchema<RowData> format)
        implements Source<RowData, ShardSource.Split, Boolean>, ResultTypeQueryable<RowData> {

    /** A shard, and the last record that was read of it; none yet if empty. */
    record Split(String shard, String read) implements SourceSplit {
        @Override
        public String splitId() {
            return shard;
        }
    }

    @Override
    public Boundedness getBoundedness() {
        return Boundedness.CONTINUOUS_UNBOUNDED;
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
        return format.getProducedType();
    }

    @Override
    public SourceReader<RowData, Split> createReader(SourceReaderContext context) throws Exception {
        format.open(null);
        return new ShardReader(KinesisClient.create(), this);
    }

    @Override
    public SplitEnumerator<Split, Boolean> createEnumerator(SplitEnumeratorContext<Split> tasks) {
        return new Shards(this, tasks, false);
    }

    @Override
    public SplitEnumerator<Split, Boolean> restoreEnumerator(SplitEnumeratorContext<Split> tasks, Boolean assigned) {
        return new Shards(this, tasks, assigned);
    }

    @Override
    public SimpleVersionedSerializer<Split> getSplitSerializer() {
        return new Text<>() {
            @Override
            String text(Split split) {
                return split.shard + " " + split.read;
            }

            @Override
            Split value(String text) {
                String[] words = text.split(" ", 2);
                return new Split(words[0], words[1]);
            }
        };
    }

    @Override
    public SimpleVersionedSerializer<Boolean> getEnumeratorCheckpointSerializer() {
        return new Text<>() {
            @Override
            String text(Boolean assigned) {
                return assigned.toString();
            }

            @Override
            Boolean value(String text) {
                return Boolean.valueOf(text);
            }
        };
    }

    /** Gives the shards to the tasks in turn, once; what a task had before a restart it has from its checkpoint. */
    private static final class Shards implements SplitEnumerator<Split, Boolean> {
        private final ShardSource source;
        private final SplitEnumeratorContext<Split> tasks;
        private boolean assigned;

        private Shards(ShardSource source, SplitEnumeratorContext<Split> tasks, boolean assigned) {
            this.source = source;
            this.tasks = tasks;
            this.assigned = assigned;
        }

        @Override
        public void addReader(int task) {
            if (assigned || tasks.registeredReaders().size() < tasks.currentParallelism()) {
                return;
            }
            assigned = true;
            try (KinesisClient kinesis = KinesisClient.create()) {
                var shards = kinesis.listShards(list -> list.streamARN(source.arn)).shards();
                for (int i = 0; i < shards.size(); i++) {
                    tasks.assignSplit(new Split(shards.get(i).shardId(), ""), i % tasks.currentParallelism());
                }
            }
        }

        @Override
        public void addSplitsBack(List<Split> splits, int task) {
            splits.forEach(split -> tasks.assignSplit(split, task));
        }

        @Override
        public Boolean snapshotState(long checkpoint) {
            return assigned;
        }

        @Override
        public void start() {}

        @Override
        public void handleSplitRequest(int task, String host) {}

        @Override
        public void close() {}
    }

    /** A value that is written as text. */
    private abstract static class Text<T> implements SimpleVersionedSerializer<T> {
        abstract String text(T value);

        abstract T value(String text);

        @Override
        public int getVersion() {
            return 1;
        }

        @Override
        public byte[] serialize(T value) {
            return text(value).getBytes(StandardCharsets.UTF_8);
        }

        @Override
        public T deserialize(int version, byte[] written) {
            return value(new String(written, StandardCharsets.UTF_8));
        }
    }
}
