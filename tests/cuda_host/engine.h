// What the parts of the runtime know of each other. Kernels do not see this.
#pragma once
#include "runtime.cuh"

#include <cstdint>
#include <string>
#include <vector>

namespace cuda_host {

constexpr int MAX_THREADS = 1024;
constexpr unsigned LANES = 32;
constexpr size_t PAGE = 4096, MAX_SHARED = 227 * 1024;
constexpr unsigned char GARBAGE = 0xFF;  // NaN in every type of float

// Filled into what lies next to memory and must not be written.
constexpr unsigned char CANARY = 0xA5;

enum class Mode { forward, reverse, random };
enum class State { ready, at_barrier, in_warp, ended };

struct Copy {
    unsigned char* shared;
    const unsigned char* global;
    unsigned bytes, group;
    bool there;
    const char* file;
    int line;
};

struct Thread {
    void* stack_pointer;
    State state;
    uint3 index;
    unsigned rank;  // in the block
    // Where it waits, and in a warp operation, with whom and with what.
    const char *what, *file;
    int line;
    Operation operation;
    unsigned mask;
    void* operand;
    bool predicate;
    // Asynchronous copies not yet waited for, and the number of the group being made.
    std::vector<Copy> copies;
    unsigned group;
};

// A launch's settings, as Python passes them (run.py).
struct Settings {
    uint32_t grid[3], block[3];
    uint64_t shared;
    int32_t threads, blocks;  // Mode
    uint64_t seed;
    int32_t early_copies;
    int32_t statics;  // how many variables in shared memory
    const uint64_t* static_offset;
    const uint64_t* static_size;
    double seconds;
};

struct Static {
    unsigned char* start;
    size_t size;
};

extern Thread* current;
extern bool early_copies;
extern const Copy* arriving;  // the copy being made, if one is

// An error unless `bytes` from p on are shared memory, aligned to `boundary`.
void check_shared(const void* p, size_t bytes, size_t boundary, const char* what, const char* file,
                  int line);
void check_copies_done();

// shared.cpp
void prepare_shared(size_t bytes, const std::vector<Static>& statics);
void fill_shared();
bool shared_was_overrun();
bool is_shared(const void* p, size_t bytes);
bool beside_shared(const void* p);

// arena.cpp
bool describe(const void* p, std::string& text);
bool canaries_intact(std::string& text);

// faults.cpp: runs `body`; false if the processor stopped it, with the reason.
bool guarded(void (*body)(), double seconds, std::string& reason, uint64_t& program_counter);

// fibers.cpp
void* new_fiber(unsigned number, void (*body)());
void switch_stack(void** save, void* load);
bool in_stack_guard(const void* p);

}  // namespace cuda_host
