package consumer;

import java.math.BigInteger;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.NavigableMap;
import java.util.TreeMap;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import software.amazon.kinesis.exceptions.InvalidStateException;
import software.amazon.kinesis.exceptions.KinesisClientLibDependencyException;
import software.amazon.kinesis.exceptions.ShutdownException;
import software.amazon.kinesis.exceptions.ThrottlingException;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/**
 * One shard, for as long as this worker holds its lease. The library calls it from one thread at a time.
 *
 * <p>What must hold: a checkpoint is never ahead of what the ledger has. So a batch is taken first and the checkpoint
 * follows; and if it cannot be taken, the process ends. Were the exception thrown instead, the library would log it and
 * go on behind the batch.
 *
 * <p>To do more with a line than to count it, do it in {@link #processRecords} before {@code ledger.take}, so that it
 * comes to the same when it is done again: an upsert by reading_id, an object named after it.
 */
final class ShardReader implements ShardRecordProcessor {
    /** Shown by the process when what was read could not be written. */
    static final int EXIT_NOT_TAKEN = 3;

    private static final Logger LOG = LoggerFactory.getLogger(ShardReader.class);

    private final Ledger ledger;
    private final Duration checkpointEvery;
    private String shard = "";
    private long checkpointedNs = System.nanoTime();
    private boolean ahead; // Of the last checkpoint.

    ShardReader(Ledger ledger, Duration checkpointEvery) {
        this.ledger = ledger;
        this.checkpointEvery = checkpointEvery;
    }

    @Override
    public void initialize(InitializationInput input) {
        shard = input.shardId();
        LOG.info("shard taken over; shard={} from={}", shard, input.extendedSequenceNumber().sequenceNumber());
    }

    @Override
    public void processRecords(ProcessRecordsInput input) {
        try {
            take(input.records());
        } catch (RuntimeException | Error failed) {
            LOG.error("batch not taken, so the worker ends; started again, it gets it again; shard={}", shard, failed);
            Runtime.getRuntime().halt(EXIT_NOT_TAKEN);
        }
        ahead |= !input.records().isEmpty();
        if (ahead && System.nanoTime() - checkpointedNs >= checkpointEvery.toNanos()) {
            checkpointIfPossible(input.checkpointer());
        }
    }

    private void take(List<KinesisClientRecord> records) {
        List<Line> lines = new ArrayList<>();
        NavigableMap<BigInteger, Integer> foreign = new TreeMap<>();
        for (KinesisClientRecord record : records) {
            Line.Parsed parsed = Line.parseRecord(record.data());
            lines.addAll(parsed.lines());
            if (parsed.foreign() > 0) {
                foreign.merge(new BigInteger(record.sequenceNumber()), parsed.foreign(), Integer::sum);
            }
        }
        if (!lines.isEmpty()) {
            int taken = ledger.take(lines);
            LOG.info("lines taken; shard={} new={} again={}", shard, taken, lines.size() - taken);
        }
        if (!foreign.isEmpty()) {
            int counted = ledger.countForeign(shard, foreign);
            LOG.warn("lines that no gateway wrote; shard={} new={} last={}", shard, counted, foreign.lastKey());
        }
    }

    @Override
    public void leaseLost(LeaseLostInput input) {
        LOG.info("shard left to another worker; shard={}", shard);
    }

    /** Without this checkpoint the shards that follow would wait for ever. */
    @Override
    public void shardEnded(ShardEndedInput input) {
        try {
            input.checkpointer().checkpoint();
            LOG.info("shard read to its end; shard={}", shard);
        } catch (InvalidStateException | ShutdownException failed) {
            throw new IllegalStateException(shard + ": its end has no checkpoint; its next owner tries again", failed);
        }
    }

    /** The worker ends, or the shard moves to another one: what is checkpointed now is not read again there. */
    @Override
    public void shutdownRequested(ShutdownRequestedInput input) {
        checkpointIfPossible(input.checkpointer());
    }

    /** One that fails costs a second delivery, which changes nothing. */
    private void checkpointIfPossible(RecordProcessorCheckpointer checkpointer) {
        try {
            checkpointer.checkpoint();
            ahead = false;
        } catch (ShutdownException lost) {
            LOG.info("no checkpoint, the shard is another worker's; shard={}", shard);
        } catch (InvalidStateException | ThrottlingException | KinesisClientLibDependencyException failed) {
            LOG.warn("no checkpoint, the next one covers it; shard={}", shard, failed);
        }
        checkpointedNs = System.nanoTime();
    }
}
