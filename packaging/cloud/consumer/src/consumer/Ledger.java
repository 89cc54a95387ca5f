package consumer;

import java.math.BigInteger;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.stream.Collectors;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.dynamodb.model.AttributeValue;
import software.amazon.awssdk.services.dynamodb.model.BillingMode;
import software.amazon.awssdk.services.dynamodb.model.ConditionalCheckFailedException;
import software.amazon.awssdk.services.dynamodb.model.KeyType;
import software.amazon.awssdk.services.dynamodb.model.ResourceInUseException;
import software.amazon.awssdk.services.dynamodb.model.ScalarAttributeType;

/**
 * What the consumer took, in a DynamoDB table that all its workers share.
 *
 * <p>The stream brings lines twice: a gateway repeats what it got no answer for, and a worker that ends between a line
 * and the checkpoint leaves it to the next one. Two workers may also hold one shard for a moment. So nothing is ever
 * added to a sum; an item only grows by what was not in it, and a write holds only if nobody else wrote in between.
 *
 * <ul>
 *   <li>An item for each {@link Page} of a queue: a page costs one write for each batch, not one for each line.
 *   <li>An item for each shard: its foreign lines. They have no id, but their record has a place in the shard, and
 *       records come in that order: what stands behind the last place is new.
 * </ul>
 */
final class Ledger {
    /** Others write at the same moment this often only if something is wrong. */
    private static final int TRIES_MAX = 100;

    private static final long PAUSE_MS_MAX = 50;
    private static final String SHARD_PREFIX = "shard/"; // No queue's: an epoch is hexadecimal.

    private final DynamoDbAsyncClient client;
    private final String table;

    Ledger(DynamoDbAsyncClient client, String table) {
        this.client = client;
        this.table = table;
    }

    /** Makes the table unless it is there. */
    void create() {
        try {
            join(client.createTable(create -> create.tableName(table)
                    .billingMode(BillingMode.PAY_PER_REQUEST)
                    .sseSpecification(sse -> sse.enabled(true))
                    .attributeDefinitions(
                            a -> a.attributeName("name").attributeType(ScalarAttributeType.S),
                            a -> a.attributeName("page").attributeType(ScalarAttributeType.N))
                    .keySchema(
                            k -> k.attributeName("name").keyType(KeyType.HASH),
                            k -> k.attributeName("page").keyType(KeyType.RANGE))));
        } catch (ResourceInUseException present) {
            // Another worker made it, or an earlier run.
        }
        join(client.waiter().waitUntilTableExists(describe -> describe.tableName(table)));
    }

    /** Takes lines. Durable on return; lines that were taken before change nothing. Answers how many were new. */
    int take(Collection<Line> lines) {
        record Place(String queue, long page) {}
        Map<Place, List<Line>> pages = lines.stream()
                .collect(Collectors.groupingBy(line -> new Place(line.queue(), Page.of(line.sequence()))));
        int taken = 0;
        for (Map.Entry<Place, List<Line>> entry : pages.entrySet()) {
            taken += take(key(entry.getKey().queue(), entry.getKey().page()), entry.getValue());
        }
        return taken;
    }

    private int take(Map<String, AttributeValue> key, List<Line> lines) {
        return changed(key, item -> {
            Page before = page(item);
            Page after = before.with(lines);
            int more = after.count() - before.count();
            Map<String, AttributeValue> values = Map.of(
                    "taken", AttributeValue.fromB(SdkBytes.fromByteArray(after.taken())), "lost", number(after.lost()));
            return new Change("taken", values, more);
        });
    }

    /** Counts foreign lines by the place of their record in the shard. Durable on return; each place counts once. */
    int countForeign(String shard, NavigableMap<BigInteger, Integer> foreign) {
        return changed(key(SHARD_PREFIX + shard, 0), item -> {
            BigInteger counted = new BigInteger(item.getOrDefault("position", AttributeValue.fromS("-1")).s());
            int more = foreign.tailMap(counted, false).values().stream().mapToInt(Integer::intValue).sum();
            Map<String, AttributeValue> values = Map.of(
                    "position", AttributeValue.fromS(foreign.lastKey().toString()),
                    "foreign_lines", number(count(item, "foreign_lines") + more));
            return new Change("position", values, more);
        });
    }

    /** The ledger as rows, as packaging/cloud/queries/ledger.sql has them, and how many lines were foreign. */
    Report report() {
        Map<String, TreeMap<Long, Page>> queues = new TreeMap<>();
        long[] foreign = {0};
        join(client.scanPaginator(scan -> scan.tableName(table).consistentRead(true)).items().subscribe(item -> {
            String name = item.get("name").s();
            if (name.startsWith(SHARD_PREFIX)) {
                foreign[0] += count(item, "foreign_lines");
            } else {
                queues.computeIfAbsent(name, any -> new TreeMap<>()).put(count(item, "page"), page(item));
            }
        }));
        List<Row> rows = queues.entrySet().stream()
                .map(queue -> Row.of(queue.getKey(), queue.getValue()))
                .toList();
        return new Report(rows, foreign[0]);
    }

    /** What {@link #report} answers. */
    record Report(List<Row> queues, long foreignLines) {}

    /** A queue: how many lines are there, and how many between the first and the last are not. */
    record Row(
            String gatewayId,
            String epoch,
            long sequences,
            long firstSequence,
            long lastSequence,
            long missing,
            long lost,
            long unexplained) {
        static Row of(String queue, NavigableMap<Long, Page> pages) {
            long sequences = pages.values().stream().mapToLong(Page::count).sum();
            long lost = pages.values().stream().mapToLong(Page::lost).sum();
            long first = pages.firstKey() * Page.SEQUENCES + pages.firstEntry().getValue().first();
            long last = pages.lastKey() * Page.SEQUENCES + pages.lastEntry().getValue().last();
            long missing = last - first + 1 - sequences;
            int slash = queue.indexOf('/');
            String gateway = queue.substring(0, slash);
            String epoch = queue.substring(slash + 1);
            return new Row(gateway, epoch, sequences, first, last, missing, lost, missing - lost);
        }
    }

    /** An item's new values, the attribute that tells if it is still the one they are computed from, what is new. */
    private record Change(String guard, Map<String, AttributeValue> values, int more) {}

    private interface Step {
        Change of(Map<String, AttributeValue> item);
    }

    /** Reads, computes, writes if nobody wrote in between; from the beginning if somebody did. */
    private int changed(Map<String, AttributeValue> key, Step step) {
        for (int tries = 0; tries < TRIES_MAX; tries++) {
            Map<String, AttributeValue> item =
                    join(client.getItem(get -> get.tableName(table).key(key).consistentRead(true))).item();
            Change change = step.of(item);
            if (change.more() == 0) {
                return 0;
            }
            Map<String, AttributeValue> whole = new HashMap<>(key);
            whole.putAll(change.values());
            AttributeValue before = item.get(change.guard());
            try {
                join(client.putItem(put -> put.tableName(table)
                        .item(whole)
                        .expressionAttributeNames(Map.of("#guard", change.guard()))
                        .conditionExpression(before == null ? "attribute_not_exists(#guard)" : "#guard = :before")
                        .expressionAttributeValues(before == null ? null : Map.of(":before", before))));
                return change.more();
            } catch (ConditionalCheckFailedException overtaken) {
                pause();
            }
        }
        throw new IllegalStateException(table + ": an item was written by others " + TRIES_MAX + " times in a row");
    }

    private static void pause() {
        try {
            Thread.sleep(ThreadLocalRandom.current().nextLong(PAUSE_MS_MAX));
        } catch (InterruptedException ending) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted before it was written", ending);
        }
    }

    private static Page page(Map<String, AttributeValue> item) {
        AttributeValue taken = item.get("taken");
        return taken == null ? Page.EMPTY : new Page(taken.b().asByteArray(), count(item, "lost"));
    }

    private static Map<String, AttributeValue> key(String name, long page) {
        return Map.of("name", AttributeValue.fromS(name), "page", number(page));
    }

    private static AttributeValue number(long value) {
        return AttributeValue.fromN(Long.toString(value));
    }

    private static long count(Map<String, AttributeValue> item, String name) {
        AttributeValue value = item.get(name);
        return value == null ? 0 : Long.parseLong(value.n());
    }

    /** What a call answers, or what it failed with. */
    private static <T> T join(CompletableFuture<T> call) {
        try {
            return call.join();
        } catch (CompletionException failed) {
            throw failed.getCause() instanceof RuntimeException cause ? cause : failed;
        }
    }
}
