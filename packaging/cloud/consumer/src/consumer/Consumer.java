package consumer;

import static software.amazon.kinesis.common.InitialPositionInStream.TRIM_HORIZON;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.dynamodb.model.ResourceNotFoundException;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.common.KinesisClientUtil;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.leases.LeaseAssignmentStrategy;
import software.amazon.kinesis.leases.LeaseManagementConfig;
import software.amazon.kinesis.metrics.MetricsConfig;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.RetrievalConfig;
import software.amazon.kinesis.retrieval.RetrievalSpecificConfig;
import software.amazon.kinesis.retrieval.fanout.FanOutConfig;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * Reads the readings' stream with the Kinesis Client Library and keeps exactly the ledger's count.
 *
 * <p>An example to start from: {@link ShardReader} is where the lines come by, {@link Ledger} how what comes twice is
 * counted once. How to run it, and why it is as it is: README.md.
 */
public final class Consumer {
    private static final int EXIT_FAILED = 1;
    private static final int EXIT_USAGE = 2;
    /** A shard's last batch and its checkpoint take no longer. */
    private static final Duration SHUTDOWN_MAX = Duration.ofSeconds(30);
    /** What a leader misses before another is chosen; the library's own documentation asks for at least 3. */
    private static final int LEADER_HEARTBEATS = 3;
    /** Attempts of a call to DynamoDB: about 20 s, longer than the throttling of a table that doubles its load. */
    private static final int ATTEMPTS_MAX = 10;

    private static final ObjectMapper JSON =
            JsonMapper.builder().propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE).build();

    private Consumer() {}

    public static void main(String[] words) throws IOException {
        Options options;
        try {
            options = Options.parse(List.of(words));
        } catch (IllegalArgumentException wrong) {
            System.err.println(wrong.getMessage() + "\n\n" + Options.USAGE);
            System.exit(EXIT_USAGE);
            return;
        }
        DynamoDbAsyncClient dynamo = DynamoDbAsyncClient.builder()
                .overrideConfiguration(override -> override.retryStrategy(retry -> retry.maxAttempts(ATTEMPTS_MAX)))
                .build();
        Ledger ledger = new Ledger(dynamo, options.application() + "-ledger");
        switch (options.command()) {
            case "run" -> run(options, dynamo, ledger);
            case "show" -> show(options, dynamo);
            default -> print(options, ledger);
        }
        System.exit(0);
    }

    private static void run(Options options, DynamoDbAsyncClient dynamo, Ledger ledger) {
        ledger.create();
        ConfigsBuilder configs = configs(options, dynamo, ledger);
        Scheduler scheduler = new Scheduler(
                configs.checkpointConfig(),
                configs.coordinatorConfig(),
                leases(options, configs.leaseManagementConfig()),
                configs.lifecycleConfig(),
                metrics(options, configs.metricsConfig()),
                // An empty list is an occasion for a checkpoint, too: a quiet shard is not read again.
                configs.processorConfig().callProcessRecordsEvenForEmptyRecordList(true),
                retrieval(options, configs.retrievalConfig()));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> end(scheduler)));
        scheduler.run();
        if (!scheduler.hasGracefulShutdownStarted()) {
            Runtime.getRuntime().halt(EXIT_FAILED); // What it could not start with, it has logged.
        }
    }

    private static ConfigsBuilder configs(Options options, DynamoDbAsyncClient dynamo, Ledger ledger) {
        return new ConfigsBuilder(
                // The library's own choice of a stream's beginning is its end: what waits there would be left out.
                new SingleStreamTracker(
                        options.stream(), InitialPositionInStreamExtended.newInitialPosition(TRIM_HORIZON)),
                options.application(),
                KinesisClientUtil.createKinesisAsyncClient(KinesisAsyncClient.builder()),
                dynamo,
                CloudWatchAsyncClient.create(),
                options.worker(),
                () -> new ShardReader(ledger, options.checkpointEvery()));
    }

    /**
     * The library's own times are for hundreds of shards: a leader that was killed is replaced after two minutes, and
     * till then nobody hands on its shards; a new worker is known after half a minute; the one that made the leases
     * sleeps a minute before it reads. Here all follow {@code --failover}, and a new worker gets its share as soon.
     */
    private static LeaseManagementConfig leases(Options options, LeaseManagementConfig config) {
        long failoverMs = options.failover().toMillis();
        config.workerUtilizationAwareAssignmentConfig()
                .workerMetricsReporterFreqInMillis(failoverMs)
                .varianceBalancingFrequency(1);
        return config.failoverTimeMillis(failoverMs)
                .leaseAssignmentIntervalMillis(failoverMs)
                .shardSyncIntervalMillis(failoverMs)
                .dynamoDbLockBasedLeaderHeartbeatPeriodInMillis(failoverMs)
                .dynamoDbLockBasedLeaderLeaseDurationInMillis(LEADER_HEARTBEATS * failoverMs)
                // By the processors' load, few and quiet shards would all stay with the first worker.
                .leaseAssignmentStrategy(LeaseAssignmentStrategy.LEASE_COUNT_BASED);
    }

    private static MetricsConfig metrics(Options options, MetricsConfig config) {
        return options.metrics() ? config : config.metricsFactory(new NullMetricsFactory());
    }

    /** Without either, the library takes fan-out, which costs extra. */
    private static RetrievalConfig retrieval(Options options, RetrievalConfig config) {
        RetrievalSpecificConfig chosen = options.fanOut()
                ? new FanOutConfig(config.kinesisClient())
                        .streamName(options.stream())
                        .applicationName(options.application())
                : new PollingConfig(options.stream(), config.kinesisClient());
        return config.retrievalSpecificConfig(chosen);
    }

    private static void end(Scheduler scheduler) {
        try {
            scheduler.startGracefulShutdown().get(SHUTDOWN_MAX.toMillis(), TimeUnit.MILLISECONDS);
            Runtime.getRuntime().halt(0); // Or the end would be told as that of a signal.
        } catch (Exception late) {
            System.err.println("not ended in time; what was not checkpointed is read again");
        }
    }

    private static void show(Options options, DynamoDbAsyncClient dynamo) throws IOException {
        ConfigsBuilder configs = configs(options, dynamo, null);
        LeaseManagementConfig leases = leases(options, configs.leaseManagementConfig());
        MetricsConfig metrics = metrics(options, configs.metricsConfig());
        RetrievalSpecificConfig retrieval = retrieval(options, configs.retrievalConfig()).retrievalSpecificConfig();
        System.out.println(JSON.writeValueAsString(new Shown(
                options.stream(),
                leases.tableName(),
                retrieval.getClass().getSimpleName(),
                metrics.metricsFactory().getClass().getSimpleName(),
                leases.failoverTimeMillis(),
                leases.dynamoDbLockBasedLeaderLeaseDurationInMillis())));
    }

    /** How the stream would be read, as the library was told. */
    private record Shown(
            String stream, String leaseTable, String retrieval, String metrics, long failoverMs, long leaderLeaseMs) {}

    private static void print(Options options, Ledger ledger) throws IOException {
        Ledger.Report report;
        try {
            report = ledger.report();
        } catch (ResourceNotFoundException none) {
            System.err.println("nothing was ever read under the name " + options.application());
            System.exit(EXIT_FAILED);
            return;
        }
        for (Ledger.Row row : report.queues()) {
            System.out.println(JSON.writeValueAsString(row));
        }
        System.out.println("{\"foreign_lines\":" + report.foreignLines() + "}");
    }
}
