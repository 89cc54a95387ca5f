package consumer;

import java.util.BitSet;
import java.util.Collection;

/**
 * Which of a queue's sequences were taken: a bit for each of {@link #SEQUENCES} in a row. Immutable, pure.
 *
 * <p>To take a line twice is to take it once. That is the whole of how a second delivery changes nothing: whatever else
 * is added up with a line is added where its bit was not set yet, in the same write.
 *
 * @param taken the bits, lowest sequence first
 * @param lost the sum of what the taken gap records say was lost
 */
record Page(byte[] taken, long lost) {
    /** 512 bytes and the item's names stay below 1 KB, which is what DynamoDB writes as one unit. */
    static final int SEQUENCES = 4096;

    static final Page EMPTY = new Page(new byte[SEQUENCES / Byte.SIZE], 0);

    /** The number of the page that a sequence is on. */
    static long of(long sequence) {
        return sequence / SEQUENCES;
    }

    /** This page with these lines, which are all on it. */
    Page with(Collection<Line> lines) {
        byte[] bits = taken.clone();
        long sum = lost;
        for (Line line : lines) {
            int place = (int) (line.sequence() % SEQUENCES);
            int bit = 1 << place % Byte.SIZE;
            if ((bits[place / Byte.SIZE] & bit) == 0) {
                bits[place / Byte.SIZE] |= (byte) bit;
                sum += line.lost();
            }
        }
        return new Page(bits, sum);
    }

    /** How many sequences were taken. */
    int count() {
        return BitSet.valueOf(taken).cardinality();
    }

    /** The first place on this page that was taken. */
    int first() {
        return BitSet.valueOf(taken).nextSetBit(0);
    }

    /** The last place on this page that was taken. */
    int last() {
        return BitSet.valueOf(taken).length() - 1;
    }
}
