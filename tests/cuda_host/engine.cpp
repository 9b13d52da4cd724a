// Runs a block: its threads as fibers, and what they wait for.
#include "engine.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <numeric>

namespace cuda_host {

uint3 thread_index, block_index;
dim3 block_size, grid_size;
Thread* current = nullptr;
Block* block = nullptr;
Thread* threads = nullptr;
unsigned thread_count;
const Settings* settings;
void (*kernel)(void**);
void** arguments;
std::mt19937_64 chance;
std::string failure;

std::string place(const uint3& index) {
    char text[64];
    snprintf(text, sizeof text, "(%u, %u, %u)", index.x, index.y, index.z);
    return text;
}

std::string where(const char* file, int line) {
    const std::string path = file;
    return path.substr(path.find_last_of('/') + 1) + ":" + std::to_string(line);
}

std::string state_of(const Thread& thread) {
    const std::string who = "thread " + place(thread.index);
    if (thread.state == State::ended) return who + " has ended";
    return who + " waits in " + thread.what + " at " + where(thread.file, thread.line);
}

namespace {

void* scheduler = nullptr;

void leave() { switch_stack(&current->stack_pointer, scheduler); }

void wait_as(State state, const char* what, const char* file, int line) {
    current->state = state;
    current->what = what;
    current->file = file;
    current->line = line;
}

void resume(Thread& thread) {
    current = &thread;
    thread_index = thread.index;
    switch_stack(&scheduler, thread.stack_pointer);
}

bool has_ready(unsigned warp) {
    const Thread* first = threads + warp * LANES;
    const Thread* last = threads + std::min((warp + 1) * LANES, thread_count);
    return std::any_of(first, last,
                       [](const Thread& thread) { return thread.state == State::ready; });
}

// One warp runs until it can no more, in fixed orders, so that it gets as far ahead as it may; in
// a random order any warp may be next.
bool next_warp(unsigned& warp) {
    const unsigned warps = (thread_count + LANES - 1) / LANES;
    const auto mode = static_cast<Mode>(settings->threads);
    const unsigned first = mode == Mode::random ? chance() % warps : 0;
    for (unsigned i = 0; i < warps; ++i) {
        warp = mode == Mode::reverse ? warps - 1 - i : (first + i) % warps;
        if (has_ready(warp)) return true;
    }
    return false;
}

void run_warp(unsigned warp) {
    unsigned order[LANES];
    std::iota(order, order + LANES, warp * LANES);
    const auto mode = static_cast<Mode>(settings->threads);
    if (mode == Mode::reverse) std::reverse(order, order + LANES);
    if (mode == Mode::random) std::shuffle(order, order + LANES, chance);
    for (const unsigned rank : order) {
        if (rank >= thread_count || threads[rank].state != State::ready) continue;
        resume(threads[rank]);
        if (!failure.empty()) return;
    }
}

void explain_deadlock() {
    current = nullptr;
    std::string text;
    const Thread* last = nullptr;
    for (unsigned rank = 0; rank < thread_count; ++rank) {
        const Thread& thread = threads[rank];
        const bool new_place = !last || thread.state != last->state || thread.line != last->line ||
                               (thread.state != State::ended && thread.what != last->what);
        if (new_place && text.size() < 400) text += (last ? "; " : "") + state_of(thread);
        last = &thread;
    }
    failure = "block " + place(block_index) + ": threads wait for each other: " + text;
}

// The first of the mask's lanes that waits in something else, or has ended.
const Thread* stranger() {
    const unsigned first = current->rank / LANES * LANES;
    for (unsigned lane = 0; lane < LANES; ++lane) {
        if (!(current->mask >> lane & 1) || first + lane >= thread_count) continue;
        const Thread& other = threads[first + lane];
        if (other.state == State::ready) continue;
        const bool same = other.state == State::in_warp && other.operation == current->operation &&
                          other.mask == current->mask && other.line == current->line &&
                          !strcmp(other.what, current->what) && !strcmp(other.file, current->file);
        if (!same) return &other;
    }
    return nullptr;
}

bool all_lanes_here() {
    const unsigned first = current->rank / LANES * LANES;
    for (unsigned lane = 0; lane < LANES; ++lane) {
        if (!(current->mask >> lane & 1)) continue;
        if (threads[first + lane].state != State::in_warp) return false;
    }
    return true;
}

}  // namespace

std::string current_place() {
    return "block " + place(block_index) + (current ? ", thread " + place(current->index) : "") +
           ": ";
}

void body() {
    kernel(arguments);
    check_copies_done();
    if (block->waiting) {
        const auto stuck = std::find_if(threads, threads + thread_count, [](const Thread& other) {
            return other.state == State::at_barrier;
        });
        fail(stuck->file, stuck->line, "the thread ends while thread %s waits in %s",
             place(stuck->index).c_str(), stuck->what);
    }
    current->state = State::ended;
    ++block->ended;
    leave();
}

void run_block() {
    unsigned warp;
    while (next_warp(warp)) {
        run_warp(warp);
        if (!failure.empty()) return;
    }
    if (block->ended < thread_count && !block->counter) {
        explain_deadlock();
    } else if (shared_was_overrun()) {
        failure = "block " + place(block_index) + " wrote outside its shared memory";
    }
}

void fail(const char* file, int line, const char* format, ...) {
    char text[512];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    failure = current_place() + where(file, line) + ": " + text;
    leave();
    __builtin_unreachable();
}

unsigned lane() { return current->rank % LANES; }

// Notes that the current thread has come to a barrier; true for the last of the block.
static bool come_to(const char* what, const char* file, int line) {
    for (unsigned rank = 0; block->waiting && rank < thread_count; ++rank) {
        const Thread& other = threads[rank];
        if (other.state != State::at_barrier) continue;
        if (other.line != line || strcmp(other.what, what) || strcmp(other.file, file)) {
            fail(file, line, "%s, while %s", what, state_of(other).c_str());
        }
        break;  // all that wait were compared with one of them
    }
    if (block->ended) {
        fail(file, line, "%s after %u threads of the block have ended", what, block->ended);
    }
    wait_as(State::at_barrier, what, file, line);
    return ++block->waiting == thread_count;
}

unsigned count_at_barrier(bool predicate, const char* file, int line) {
    current->predicate = predicate;
    if (!come_to("__syncthreads", file, line)) {
        leave();
        return block->votes;
    }
    block->waiting = block->votes = 0;
    for (unsigned rank = 0; rank < thread_count; ++rank) {
        threads[rank].state = State::ready;
        block->votes += threads[rank].predicate;
    }
    leave();  // so that who goes on first is the order's choice, not always the last to come
    return block->votes;
}

void grid_barrier(unsigned* counter, const char* file, int line) {
    if (!settings->cooperative) {
        fail(file, line, "grid_barrier in a launch that is not cooperative");
    }
    if (grid_size.y * grid_size.z > 1) fail(file, line, "grid_barrier: the grid is not a row");
    if (come_to("grid_barrier", file, line)) {
        *counter += block_index.x == 0 ? 0x80000000u - (grid_size.x - 1) : 1u;
        block->counter = counter;
    }
    leave();
}

void barrier(const char* file, int line) { count_at_barrier(false, file, line); }

void together(const char* what, Operation operation, unsigned mask, void* operand,
              const char* file, int line) {
    if (!(mask >> lane() & 1)) fail(file, line, "%s: the mask lacks lane %u itself", what, lane());
    const unsigned first = current->rank / LANES * LANES;
    if (thread_count - first < LANES && mask >> (thread_count - first)) {
        fail(file, line, "%s: the mask names lanes that the block does not have", what);
    }
    wait_as(State::in_warp, what, file, line);
    current->operation = operation;
    current->mask = mask;
    current->operand = operand;
    if (const Thread* other = stranger()) {
        fail(file, line, "%s, while %s", what, state_of(*other).c_str());
    }
    if (!all_lanes_here()) return leave();
    void* operands[LANES] = {};
    for (unsigned lane = 0; lane < LANES; ++lane) {
        if (!(mask >> lane & 1)) continue;
        operands[lane] = threads[first + lane].operand;
        threads[first + lane].state = State::ready;
    }
    operation(operands, mask);
    leave();
}

}  // namespace cuda_host
