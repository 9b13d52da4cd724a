// The order of an epoch's rows: mlp.random.permutation, bit for bit.
//
// Every row gets 64 random bits, the lowest replaced by its own number; these keys are sorted by a
// bitonic network over a power of two of them, of which those beyond the rows are the largest there
// are. Batcher, "Sorting networks and their applications", AFIPS 1968.
#include <intrinsics.cuh>
#include <philox.cuh>

using Key = unsigned long long;
constexpr int THREADS = 256;
// `tile` below is how many keys a block sorts by itself: a power of two from 2 on, as many as its
// dynamic shared memory holds.

__device__ __forceinline__ void exchange(Key& low, Key& high, bool ascending) {
    if ((low > high) == ascending) {
        const Key other = low;
        low = high;
        high = other;
    }
}

// Of a pair's number, the place of its first key; the other is `distance`, a power of two, above.
__device__ __forceinline__ long long first_of_pair(long long pair, long long distance) {
    return 2 * pair - (pair & (distance - 1));
}

// The steps of distance `distance`, distance / 2, ..., 1 among the keys of a tile, the first of
// which is number `start` of all; `run` is the length of the runs that result.
__device__ __forceinline__ void merge_tile(Key* keys, int tile, long long start, long long run,
                                           int distance) {
    for (; distance > 0; distance /= 2) {
        for (int pair = threadIdx.x; pair < tile / 2; pair += THREADS) {
            const int i = static_cast<int>(first_of_pair(pair, distance));
            exchange(keys[i], keys[i + distance], ((start + i) & run) == 0);
        }
        __syncthreads();
    }
}

// Keys to memory or, once all are sorted, the rows that they name: those of index < rows.
__device__ __forceinline__ void write_tile(const Key* sorted, int tile, long long start, Key* keys,
                                           long long* order, long long rows, Key mask) {
    for (int i = threadIdx.x; i < tile; i += THREADS) {
        if (order && start + i < rows) order[start + i] = static_cast<long long>(sorted[i] & mask);
        if (!order) keys[start + i] = sorted[i];
    }
}

// Draws the keys of each block's tile and sorts them, every other tile downwards. order (rows,) or,
// where it is null, keys (gridDim.x * tile,) receive the result.
extern "C" __global__ void sort_tiles(const long long* counters, long long epoch, int tile,
                                      Key* keys, long long* order, long long rows, Key mask) {
    DYNAMIC_SHARED(shared);
    Key* const mine = reinterpret_cast<Key*>(shared);
    const long long start = static_cast<long long>(blockIdx.x) * tile;
    for (int pair = threadIdx.x; pair < tile / 2; pair += THREADS) {
        const long long row = start + 2 * pair;
        // Row r has words 2r and 2r + 1 of the draw, so a draw of four words is two rows.
        const Words words = philox(static_cast<unsigned>(row / 2), SHUFFLE_STREAM, epoch,
                                   counters[SEED]);
        for (int i = 0; i < 2; ++i) {
            const Key key = static_cast<Key>(words.word[2 * i]) << 32 | words.word[2 * i + 1];
            mine[2 * pair + i] = row + i < rows ? (key & ~mask) | (row + i) : ~Key(0);
        }
    }
    __syncthreads();
    for (int run = 2; run <= tile; run *= 2) merge_tile(mine, tile, start, run, run / 2);
    write_tile(mine, tile, start, keys, order, rows, mask);
}

// One step of distance >= tile among keys (2 pairs,).
extern "C" __global__ void merge_far(Key* keys, long long pairs, long long run,
                                     long long distance) {
    for (long long pair = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; pair < pairs;
         pair += static_cast<long long>(gridDim.x) * THREADS) {
        const long long i = first_of_pair(pair, distance);
        exchange(keys[i], keys[i + distance], (i & run) == 0);
    }
}

// The steps of distances below tile; order as for sort_tiles.
extern "C" __global__ void merge_near(long long run, int tile, Key* keys, long long* order,
                                      long long rows, Key mask) {
    DYNAMIC_SHARED(shared);
    Key* const mine = reinterpret_cast<Key*>(shared);
    const long long start = static_cast<long long>(blockIdx.x) * tile;
    for (int i = threadIdx.x; i < tile; i += THREADS) mine[i] = keys[start + i];
    __syncthreads();
    merge_tile(mine, tile, start, run, tile / 2);
    write_tile(mine, tile, start, keys, order, rows, mask);
}
