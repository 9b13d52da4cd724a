// Runs a launch: blocks one after another, or in turns up to each grid_barrier.
#include "engine.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

namespace cuda_host {
namespace {

// Not on the stack, which a fault leaves without clearing up. Where blocks run one after another,
// all use the first.
std::vector<Block> blocks;

// Makes a block the one that runs, in the given place among those that are kept.
void start_block(const uint3& index, unsigned slot) {
    block = &blocks[slot];
    block->index = block_index = index;
    block->ended = block->waiting = block->votes = 0;
    block->counter = nullptr;
    block->threads.resize(thread_count);
    threads = block->threads.data();
    for (unsigned rank = 0; rank < thread_count; ++rank) {
        Thread& thread = threads[rank];
        thread.stack_pointer = new_fiber(slot * thread_count + rank, body);
        thread.state = State::ready;
        thread.index = {rank % block_size.x, rank / block_size.x % block_size.y,
                        rank / block_size.x / block_size.y};
        thread.rank = rank;
        thread.copies.clear();
        thread.products.clear();
        thread.product_group = 0;
        thread.shown = true;
        thread.group = 0;
    }
    fill_shared();
}

// Lets a block that waited for the others go on.
void resume_block(unsigned slot) {
    block = &blocks[slot];
    block_index = block->index;
    threads = block->threads.data();
    restore_shared(block->shared);
    block->waiting = 0;
    block->counter = nullptr;
    for (unsigned rank = 0; rank < thread_count; ++rank) threads[rank].state = State::ready;
}

// The blocks' numbers in the order in which they run.
std::vector<uint64_t> block_order() {
    std::vector<uint64_t> order(uint64_t(grid_size.x) * grid_size.y * grid_size.z);
    std::iota(order.begin(), order.end(), 0);
    const auto mode = static_cast<Mode>(settings->blocks);
    if (mode == Mode::reverse) std::reverse(order.begin(), order.end());
    if (mode == Mode::random) std::shuffle(order.begin(), order.end(), chance);
    return order;
}

uint3 index_of(uint64_t number) {
    const uint64_t in_plane = uint64_t(grid_size.x) * grid_size.y;
    return {unsigned(number % grid_size.x), unsigned(number / grid_size.x % grid_size.y),
            unsigned(number / in_plane)};
}

void run_in_turn() {
    blocks.resize(1);
    for (const uint64_t number : block_order()) {
        start_block(index_of(number), 0);
        run_block();
        if (!failure.empty()) return;
    }
}

// Where and with what the blocks wait for each other: all alike, or an error.
void check_all_wait_alike() {
    current = nullptr;
    const Block& first = blocks[0];
    for (const Block& other : blocks) {
        const Thread &here = first.threads[0], &there = other.threads[0];
        const std::string pair = "block " + place(first.index) + ", " + state_of(here) +
                                 "; block " + place(other.index) + ", " + state_of(there);
        if (!first.counter != !other.counter || here.line != there.line ||
            strcmp(here.file, there.file)) {
            failure = "blocks wait for each other: " + pair;
        } else if (first.counter != other.counter) {
            failure = "blocks wait with different counters: " + pair;
        }
        if (!failure.empty()) return;
    }
    if (*first.counter & 0x7FFFFFFFu) failure = "the counter of grid_barrier was not 0 at first";
}

// A cooperative launch: all blocks exist at once. Each runs up to a grid_barrier; from there they
// go on in an order chosen anew.
void run_together() {
    const uint64_t count = block_order().size();
    if (count * thread_count > MAX_FIBERS) {
        failure = "a cooperative launch of " + std::to_string(count * thread_count) +
                  " threads; the host keeps " + std::to_string(MAX_FIBERS) + " at once";
        return;
    }
    blocks.resize(count);
    for (bool first = true;; first = false) {
        uint64_t ended = 0;
        for (const uint64_t number : block_order()) {
            if (first) {
                start_block(index_of(number), number);
            } else {
                resume_block(number);
            }
            run_block();
            if (!failure.empty()) return;
            save_shared(block->shared);
            ended += block->ended == thread_count;
        }
        if (ended == count) return;
        check_all_wait_alike();
        if (!failure.empty()) return;
    }
}

void run_grid() {
    thread_count = block_size.x * block_size.y * block_size.z;
    if (settings->cooperative) {
        run_together();
    } else {
        run_in_turn();
    }
}

}  // namespace
}  // namespace cuda_host

using namespace cuda_host;

// 0, or 1 with a message and, where the processor stopped a thread, its program counter.
extern "C" int cuda_host_launch(void (*call)(void**), void** parameters, const Settings* asked,
                                unsigned char* base, char* message, size_t room,
                                uint64_t* program_counter) {
    settings = asked;
    kernel = call;
    arguments = parameters;
    failure.clear();
    arriving = nullptr;
    current = nullptr;
    grid_size = dim3(asked->grid[0], asked->grid[1], asked->grid[2]);
    block_size = dim3(asked->block[0], asked->block[1], asked->block[2]);
    early_copies = asked->early_copies;
    chance.seed(asked->seed);
    std::vector<Static> statics;
    for (int i = 0; i < asked->statics; ++i) {
        statics.push_back({base + asked->static_offset[i], asked->static_size[i]});
    }
    prepare_shared(asked->shared, statics);
    std::string reason;
    if (!guarded(run_grid, asked->seconds, reason, *program_counter)) {
        failure = current_place() + reason;
        if (arriving) failure += ", by copy_async at " + where(arriving->file, arriving->line);
    } else if (failure.empty() && !canaries_intact(reason)) {
        failure = "wrote " + reason;
    }
    snprintf(message, room, "%s", failure.c_str());
    return !failure.empty();
}
